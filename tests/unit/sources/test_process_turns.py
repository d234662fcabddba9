"""Which process answers at an address, by what was seen of it."""

from __future__ import annotations

import pytest

from otel_budget.sources.process_turns import ProcessTurns, TargetTurn

URL = "http://127.0.0.1:9464/metrics"


def test_a_process_that_was_always_there_is_not_known_to_be_another() -> None:
    """Nor is one that a new sidecar finds."""
    turn = TargetTurn(URL, ProcessTurns())
    for at in (1.0, 2.0):
        turn.answered(at)
        assert turn.found_at is None


def test_what_answers_after_nobody_listened_is_another_process_each_time() -> None:
    """However long that was, and however often."""
    turn = TargetTurn(URL, ProcessTurns())
    turn.answered(1.0)
    for began in (4.0, 9.0):
        turn.ended()
        turn.ended()
        for at in (began, began + 1, began + 2):
            turn.answered(at)
            assert turn.found_at == began


def test_all_ways_to_a_process_say_the_same_of_it() -> None:
    """Else it would be counted once for each; one of them may have missed the gap."""
    turns = ProcessTurns()
    first, second, blind = (
        TargetTurn(url, turns) for url in (URL, "http://localhost:9464/metrics", URL)
    )
    for turn in (first, second, blind):
        turn.answered(1.0)
    for turn in (first, second):
        turn.ended()
    for turn, at in ((first, 2.0), (second, 2.1), (blind, 2.2), (first, 3.0)):
        turn.answered(at)
        assert turn.found_at == 2.0
    second.ended()
    second.answered(4.0)
    assert second.found_at == 4.0


def test_a_way_that_never_leads_anywhere_begins_nothing() -> None:
    """A process may listen at one of its host's loopback addresses only."""
    turns = ProcessTurns()
    open_one, closed = (TargetTurn(u, turns) for u in (URL, "http://[::1]:9464/metrics"))
    for at in (1.0, 2.0, 3.0):
        closed.ended()
        open_one.answered(at)
        assert open_one.found_at is None


@pytest.mark.parametrize("host", ["vllm", "10.0.0.7", "vllm.default.svc"])
def test_elsewhere_a_refusal_is_no_proof(host: str) -> None:
    """The address of a service refuses while no process behind it is ready."""
    turn = TargetTurn(f"http://{host}:8000/metrics", ProcessTurns())
    turn.answered(1.0)
    turn.ended()
    turn.answered(2.0)
    assert turn.found_at is None
    assert not turn.is_certain


def test_addresses_that_are_not_asked_any_more_are_forgotten() -> None:
    """Each session has a port of its own, and there are many sessions."""
    turns = ProcessTurns()
    turn = TargetTurn(URL, turns)
    turn.ended()
    turn.answered(2.0)
    turns.keep([URL])
    assert turns.found_at("localhost:9464/metrics") == 2.0
    turns.keep([])
    assert turns.found_at("localhost:9464/metrics") is None
