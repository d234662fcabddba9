"""What another target says of a run that nothing binds: it loosens nothing, and leaves nothing."""

from __future__ import annotations

from typing import Any

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem, RunAttributes, RunObservation
from otel_budget.core.reasons import Reason
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.ledger import Ledger

TARGETS = frozenset({"own", "other"})


def own(at: float, **said: Any) -> Any:
    """Return a sample of the run at its own target: 3 tokens a second, and limited to 500."""
    attributes = {"limits": {semconv.TOKENS: 500}, "progress": 0.3, "state": "running", **said}
    stated = RunAttributes(started_at=1.0, incarnation_at=1.0, duration=at - 1)._replace(
        **attributes
    )
    return RunObservation("run", "own", at, {(semconv.TOKENS, ""): int(3 * at)}, stated)


def other(at: float, process: float, *, implausible: tuple[str, ...] = (), **said: Any) -> Any:
    """Return what another target says of the run, as a process that began at ``process``."""
    attributes = RunAttributes(started_at=1.0, incarnation_at=process)._replace(**said)
    counters = {(semconv.TOKENS, ""): 0}
    return RunObservation("run", "other", at, counters, attributes, implausible=implausible)


def apply(ledger: Ledger, at: float, *sessions: Any, **more: Any) -> None:
    """Let the ledger take in one reading."""
    ledger.apply(Observation("scrape", at, sessions, targets=TARGETS, **more))


def snapshot(ledger: Ledger, now: float) -> Any:
    """Return the balance of the run."""
    return ledger.snapshot(ledger.runs["run"], now)


def test_a_new_process_at_every_sample_takes_back_no_word_of_the_one_that_goes_on() -> None:
    """Its limit and its progress hold, whichever is read first, and the page is flagged."""
    for later in (0.0, 0.01):
        ledger = Ledger()
        for at in range(10, 20):
            strange = other(at + later, at, progress=0.95)
            apply(ledger, at + later, own(at), *([strange] if at > 12 else []))
        known = snapshot(ledger, 20)
        assert known.attributes.limits == {semconv.TOKENS: 500}
        assert known.attributes.progress == 0.3
        assert known.attributes.state == "running"
        assert [flag.kind for flag in ledger.findings] == [FindingKind.CONCURRENT]


def test_what_was_implausible_at_a_target_that_left_matters_no_more() -> None:
    """As soon as the run's own target has shown it again, in order."""
    ledger = Ledger()
    for at in range(10, 20):
        apply(ledger, at, own(at), other(at, 9, implausible=(semconv.TOKENS,)))
    assert snapshot(ledger, 20).implausible_for is not None
    for at in range(20, 23):
        apply(ledger, at, own(at))
    assert snapshot(ledger, 23).implausible_for is None


def test_what_is_implausible_at_the_runs_own_target_is_not_hidden_by_a_newer_process() -> None:
    """Which is sound: the run's use is unknown all the same."""
    ledger = Ledger()
    for at in range(10, 13):
        apply(ledger, at, own(at), other(at, 9))
    for at in range(13, 20):
        apply(ledger, at, own(at)._replace(implausible=(semconv.TOKENS,)), other(at, 9))
    assert snapshot(ledger, 20).implausible_for is not None


def test_a_run_whose_target_gives_nothing_has_not_vanished_by_another_that_left() -> None:
    """Its process may have died, and is missed."""
    ledger = Ledger()
    for at in range(10, 20):
        apply(ledger, at, own(at), *([other(at, 9)] if at < 15 else []))
    problem = Problem("own", Reason.SOURCE_ERROR, "refused")
    for at in range(20, 30):
        apply(ledger, at, problems=(problem,), down=frozenset({"own"}))
        known = snapshot(ledger, at)
        assert known.attributes.state == "running"
    assert known.trouble is Reason.SOURCE_ERROR
    assert not ledger.targets.vanished
