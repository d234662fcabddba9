"""Server-Sent Events: frames out, lines in."""

import pytest

from otel_budget.core import sse, verdict_json
from otel_budget.core.sse import EventDecoder, ServerEvent
from tests.unit.core.test_verdict_json import VERDICT


def decoded(*lines: str, decoder: EventDecoder | None = None) -> list[ServerEvent]:
    """Return the events in these lines."""
    decoder = EventDecoder() if decoder is None else decoder
    return [event for line in lines for event in decoder.feed(line)]


def test_a_verdict_comes_back_out_of_its_frame() -> None:
    """With its sequence as the event's id."""
    (event,) = decoded(*sse.verdict_frame(VERDICT).split("\n"))
    assert (event.event, event.id) == ("verdict", "42")
    assert verdict_json.from_json(event.data) == VERDICT


def test_a_frame_has_an_id_only_if_there_is_one() -> None:
    """Without a sequence the reader's last id stays what it was."""
    assert sse.frame("note", "x") == "event: note\ndata: x\n\n"
    assert sse.frame("note", "x", 0) == "id: 0\nevent: note\ndata: x\n\n"


def test_a_comment_is_nothing_but_a_sign_of_life() -> None:
    """Also in the middle of an event."""
    assert decoded(*sse.KEEP_ALIVE.split("\n")) == []
    assert decoded("data: a", ": hush", "data: b", "") == [ServerEvent("message", "a\nb", "")]


@pytest.mark.parametrize(
    "stream", ["event: e\ndata: x\n\n", "event: e\r\ndata: x\r\n\r\n", "event: e\rdata: x\r\r"]
)
def test_lines_may_end_in_any_of_the_three_ways(stream: str) -> None:
    """The caller splits them; nothing of the ends is left."""
    assert decoded(*stream.splitlines()) == [ServerEvent("e", "x", "")]


@pytest.mark.parametrize(
    ("lines", "data"),
    [
        (["data: a"], "a"),
        (["data:a"], "a"),
        (["data:  a"], " a"),
        (["data: a: b"], "a: b"),
        (["data: a", "data: b"], "a\nb"),
        (["data", "data"], "\n"),
        (["data:"], ""),
    ],
)
def test_data_lines_are_joined_and_lose_one_space(lines: list[str], data: str) -> None:
    """As the standard says."""
    assert decoded(*lines, "") == [ServerEvent("message", data, "")]


def test_an_event_without_data_is_none_and_leaves_no_name_behind() -> None:
    """Its name does not stick to the next one."""
    assert decoded("event: e", "", "data: x", "") == [ServerEvent("message", "x", "")]


def test_an_id_stays_until_another_one_comes() -> None:
    """Also one that came without data; an empty one takes it back."""
    events = decoded(
        "id: 5", "data: a", "", "data: b", "", "id: 6", "", "data: c", "", "id", "data: d", ""
    )
    assert [(event.data, event.id) for event in events] == [
        ("a", "5"), ("b", "5"), ("c", "6"), ("d", ""),
    ]  # fmt: skip


def test_an_id_with_a_nul_in_it_is_ignored() -> None:
    """As the standard says."""
    assert decoded("id: 5", "id: 6\0", "data: a", "")[0].id == "5"


def test_retry_and_unknown_lines_are_ignored() -> None:
    """They complete nothing and change nothing."""
    assert decoded("retry: 10", "colour: red", "data: a", "") == [ServerEvent("message", "a", "")]


def test_an_event_that_is_cut_off_is_not_one() -> None:
    """Half a verdict is no verdict."""
    decoder = EventDecoder()
    assert decoded("event: verdict", 'data: {"version": 1', decoder=decoder) == []
    assert decoded("", decoder=decoder) == [ServerEvent("verdict", '{"version": 1', "")]


def test_an_event_is_complete_with_its_empty_line_and_not_before() -> None:
    """Line by line, as they arrive."""
    decoder = EventDecoder()
    assert [len(list(decoder.feed(line))) for line in ("data: a", "", "", "data: b", "")] == [
        0, 1, 0, 0, 1,
    ]  # fmt: skip
