"""A hook's input from its first bytes."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.agents.hook_input import hook_input
from otel_budget.errors import InvalidValueError

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=4), _JSON, max_size=6), st.data())
def test_of_one_that_is_cut_off_the_whole_members_are_taken(
    sent: dict[str, Any], data: st.DataObject
) -> None:
    """Wherever it is cut; none that is not there."""
    whole = json.dumps(sent, ensure_ascii=data.draw(st.booleans())).encode("utf-8", "surrogatepass")
    assert hook_input(json.dumps(sent).encode(), is_whole=True) == sent
    cut = data.draw(st.integers(1, len(whole)))
    found = hook_input(whole[:cut], is_whole=False)
    assert isinstance(found, dict)
    assert list(found.items()) == list(sent.items())[: len(found)]


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_are_json_or_one_error(sent: bytes, is_whole: bool) -> None:  # noqa: FBT001
    """Nothing else is raised."""
    with suppress(InvalidValueError):
        hook_input(sent, is_whole=is_whole)


def test_what_is_nested_without_end_is_refused() -> None:
    """Also where only the beginning is read."""
    for is_whole in (True, False):
        with pytest.raises(InvalidValueError):
            hook_input(b'{"a": ' + b"[" * 200_000, is_whole=is_whole)
