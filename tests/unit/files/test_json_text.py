"""A change of a JSON file leaves every other character of it as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.files.json_text import (
    JsonTextError,
    parsed,
    with_item,
    with_member,
    without_items,
    without_member,
)

ODD = '{\n    "a" : [1,2 ,\n 3],\r\n\t"env":{"X":"y"},\n\n  "z":null }\n\n'
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=4)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)
INDENTS = st.sampled_from([None, 0, 1, 2, 4, "\t"])


def test_a_member_goes_in_front_and_no_other_line_changes() -> None:
    text = with_member(ODD, ("env", "B"), "c")
    assert text == ODD.replace('{"X":"y"}', '{"B": "c", "X":"y"}')
    text = with_member('{\n    "a": 1\n}\n', ("new", "inner"), [1])
    assert (
        text
        == '{\n    "new": {\n        "inner": [\n            1\n        ]\n    },\n    "a": 1\n}\n'
    )


def test_a_new_file_is_written_as_people_write_them() -> None:
    text = with_member("{}\n", ("env", "A"), "b")
    assert text == '{\n  "env": {\n    "A": "b"\n  }\n}\n'


def test_line_breaks_stay_those_of_the_file() -> None:
    text = with_member('{\r\n  "a": 1\r\n}\r\n', ("b",), {"c": 2})
    assert text.count("\n") == text.count("\r\n") == 6


@given(OBJECTS, INDENTS, st.text(max_size=3), st.text(max_size=3), VALUES)
def test_what_is_put_in_is_there_and_all_else_as_it_was(
    data: dict[str, Any], indent: Any, outer: str, inner: str, value: Any
) -> None:
    """Whatever the file looks like; and what is taken out again leaves the file's own meaning."""
    text = json.dumps(data, indent=indent)
    if outer in data and not isinstance(data[outer], dict):
        with pytest.raises(JsonTextError):
            with_member(text, (outer, inner), value)
        return
    changed = with_member(text, (outer, inner), value)
    expected = {**data, outer: {**data.get(outer, {}), inner: value}}
    assert json.loads(changed) == expected
    if inner not in data.get(outer, {}):
        back = json.loads(without_member(changed, (outer, inner)))
        assert back == {k: v for k, v in data.items() if v != {} or k != outer}


@given(OBJECTS, INDENTS, st.lists(VALUES, max_size=3))
def test_an_item_goes_in_front_and_comes_out_alone(
    data: dict[str, Any], indent: Any, there: list[Any]
) -> None:
    mine = {"mine": ["x"]}
    text = json.dumps({**data, "list": there}, indent=indent)
    changed = with_item(text, ("list",), mine)
    assert json.loads(changed)["list"] == [mine, *there]
    back = without_items(changed, ("list",), lambda item: item == mine)
    if there:
        assert json.loads(back) == {**data, "list": there}
    assert without_items(text, ("list",), lambda item: item == mine) == text


@given(OBJECTS, INDENTS, st.lists(VALUES, max_size=3))
def test_an_item_goes_behind_the_others_where_they_have_numbers(
    data: dict[str, Any], indent: Any, there: list[Any]
) -> None:
    mine = {"mine": ["x"]}
    text = json.dumps({**data, "list": there}, indent=indent)
    changed = with_item(text, ("list",), mine, at_end=True)
    assert json.loads(changed)["list"] == [*there, mine]
    if there:
        assert without_items(changed, ("list",), lambda item: item == mine) == text


@given(OBJECTS, INDENTS)
def test_taking_out_what_was_put_in_gives_the_same_text(data: dict[str, Any], indent: Any) -> None:
    """Where the container had something in it."""
    text = json.dumps({**data, "own": {"k": 1}, "list": [1]}, indent=indent)
    both = with_item(with_member(text, ("own", "new"), {"a": 1}), ("list",), "new")
    back = without_items(without_member(both, ("own", "new")), ("list",), lambda x: x == "new")
    assert back == text


@pytest.mark.parametrize(
    "text", ['{"a": 1} // mine', "{'a': 1}", '{"a": 1,}', "[]", "", '\ufeff{"a": 1}', "7"]
)
def test_what_is_not_plain_json_is_left_alone(text: str) -> None:
    with pytest.raises(JsonTextError, match="left alone"):
        parsed(text)
    with pytest.raises(JsonTextError, match="left alone"):
        with_member(text, ("b",), 1)


def test_a_name_that_is_there_twice_is_left_alone() -> None:
    """Which of them counts is anybody's guess."""
    with pytest.raises(JsonTextError, match="twice"):
        with_member('{"a": {}, "a": {"b": 1}}', ("a", "b"), 2)


@pytest.mark.parametrize("text", ['{"a": {}}', '{"a": "text"}'])
def test_what_is_no_array_is_left_alone(text: str) -> None:
    with pytest.raises(JsonTextError, match="no array at a"):
        with_item(text, ("a",), 1)
