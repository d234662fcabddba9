"""What is said at the end, and the exit status."""

import json
import signal
from decimal import Decimal
from typing import Any

import pytest

from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict
from otel_budget.launcher import summary
from otel_budget.launcher.outcome import EndedBy, Outcome


def outcome(ended_by: EndedBy, returncode: int = 0, **more: Any) -> Outcome:
    """Return how a run ended."""
    tokens = ResourceState(43_440, 40_000, 0, 1.086, LimitStatus.EXCEEDED)
    cost = ResourceState(Decimal("0.31"), None, None, None, LimitStatus.OK)
    verdict = Verdict(
        "run-1", Action.STOP, LimitStatus.EXCEEDED, Reason.LIMIT_EXCEEDED,
        "tokens at 108.6% (43,440 of 40,000): stop", {"tokens": tokens, "cost": cost}, 1.0,
    )  # fmt: skip
    given = {"verdict": verdict, "counted": True, **more}
    return Outcome(
        run="run-1", program="Claude Code", returncode=returncode, ended_by=ended_by, seconds=41.2,
        **given,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ended_by", "returncode", "status"),
    [
        (EndedBy.ITSELF, 0, 0), (EndedBy.ITSELF, 7, 7), (EndedBy.ITSELF, -9, 137),
        (EndedBy.USER, -2, 130), (EndedBy.USER, 0, 0),
        (EndedBy.HOOKS, 0, 3), (EndedBy.OWN_GUARD, 1, 3), (EndedBy.SIGNAL, -2, 3),
        (EndedBy.NOT_STARTED, 0, 3), (EndedBy.STRICT, -2, 2), (EndedBy.STRICT, 0, 2),
    ],
)  # fmt: skip
def test_the_exit_status_says_who_ended_it(ended_by: EndedBy, returncode: int, status: int) -> None:
    assert outcome(ended_by, returncode).exit_status == status
    assert json.loads(summary.as_json(outcome(ended_by, returncode)))["exit_status"] == status


def test_the_summary_says_what_was_used_how_it_ended_and_how_it_goes_on() -> None:
    ended = outcome(EndedBy.HOOKS, stopped_after=2.34, resume="claude --resume 0-1-2")
    assert summary.in_words(ended).splitlines() == [
        "otel-budget: Claude Code was stopped by its budget after 41.2 s (run run-1)",
        "  tokens          ████████████████████  108.6% 43,440 of 40,000",
        "  cost                                         $0.31",
        "  why             tokens at 108.6% (43,440 of 40,000): stop",
        "  how             by its hooks, 2.3 s after the verdict",
        "  exit            3 (the program itself: status 0)",
        "  to resume       claude --resume 0-1-2",
    ]


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (outcome(EndedBy.ITSELF), "by itself: with its last call it came over its limit"),
        (outcome(EndedBy.SIGNAL, -9, signals=(signal.SIGINT, signal.SIGKILL)),
         "by SIGINT, then SIGKILL"),
        (outcome(EndedBy.SIGNAL, -2), "3 (the program itself: signal SIGINT)"),
        (outcome(EndedBy.ITSELF, verdict=None, counted=False), "NOTHING WAS COUNTED"),
        (outcome(EndedBy.STRICT, problem="no sidecar"), "no sidecar"),
        (outcome(EndedBy.NOT_STARTED, counted=False), "was not started"),
        (outcome(EndedBy.SIGNAL, -2, verdict=None, counted=False, overdue="time is up"),
         "why             time is up"),
        (outcome(EndedBy.ITSELF, verdict=None, counted=False, strict=True),
         "2 (--strict: it was not guarded; the program itself: status 0)"),
    ],
)  # fmt: skip
def test_each_way_to_end_has_its_words(ended: Outcome, said: str) -> None:
    assert said in summary.in_words(ended)
    assert "\x1b[" not in summary.in_words(ended)
    assert "\x1b[" in summary.in_words(ended, colour=True)


def test_what_was_not_started_did_not_end() -> None:
    said = summary.in_words(outcome(EndedBy.NOT_STARTED, counted=False))
    assert not [line for line in said.splitlines() if line.startswith(("  how", "  exit"))]


@pytest.mark.parametrize(
    ("ratio", "drawn"),
    [(0.0, "░░░░"), (0.001, "░░░░"), (0.1, "▍░░░"), (0.5, "██░░"), (0.999, "███▉"), (1.0, "████"),
     (7.0, "████")],
)  # fmt: skip
def test_a_bar_is_full_from_the_limit_on_and_not_before(ratio: float, drawn: str) -> None:
    assert summary.bar(ratio, 4) == drawn
