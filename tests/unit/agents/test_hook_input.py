"""A hook's input from its first bytes."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.agents.hook_input import hook_input, last_member
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


@given(st.dictionaries(st.text(max_size=4), _JSON, max_size=3), _JSON, st.text(max_size=9))
def test_the_last_member_is_found_in_the_end_of_an_input(
    before: dict[str, Any], value: object, text: str
) -> None:
    """Not its name in a text, however that is quoted."""
    named = f'{text}"usage": 7'
    sent = json.dumps({"a": named, "b": before, "usage": value, "c": named}).encode()
    assert last_member(sent, "usage") == value
    assert last_member(json.dumps({"a": named}).encode(), "usage") is None


@pytest.mark.parametrize("tail", [b"", b'"usage"', b'"usage":', b'"usage": {', b'"usage" 5'])
def test_a_member_that_is_not_whole_is_none(tail: bytes) -> None:
    """Half of a number is another number."""
    assert last_member(tail, "usage") is None
