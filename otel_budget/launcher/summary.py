"""What is said at the end of a run: for people, and as JSON. Pure."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any, Final

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.budget import Mode
from otel_budget.core.reasons import Action
from otel_budget.core.verdict import LimitStatus
from otel_budget.launcher.outcome import EXIT_UNGUARDED, EndedBy
from otel_budget.policy.budget_words import describe_past
from otel_budget.policy.format import amount, first_to_end, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.core.verdict import ResourceState, Verdict
    from otel_budget.launcher.outcome import Outcome

_WIDTH: Final = 20
_FULL, _EMPTY = "█", "░"
_PARTS: Final = " ▏▎▍▌▋▊▉"
_COLOURS: Final = {
    LimitStatus.OK: "32", LimitStatus.APPROACHING: "33", LimitStatus.EXCEEDED: "31",
    LimitStatus.INCONCLUSIVE: "35",
}  # fmt: skip
_RED, _BOLD = "31", "1"
#: Shown also where they have no limit, if anything was used.
_ALWAYS: Final = (semconv.TOKENS, semconv.API_CALLS, semconv.COST)
NOTHING_COUNTED: Final = "NOTHING WAS COUNTED"


def in_words(outcome: Outcome, *, colour: bool = False) -> str:
    """Return the summary as some lines."""
    lines = [_headline(outcome, colour=colour)]
    if outcome.problem:
        lines.append(f"  {_painted(outcome.problem, _RED, colour=colour)}")
    if outcome.verdict is not None:
        lines += _resources(outcome.verdict, colour=colour)
    for other in outcome.others:
        lines += [f"  run {other.session_id}", *_resources(other, colour=colour)]
    if why := _why(outcome):
        lines.append(f"  {'why':<15} {why}")
    if how := _how(outcome):
        lines.append(f"  {'how':<15} {how}")
    if outcome.ended_by is not EndedBy.NOT_STARTED:
        lines.append(f"  {'exit':<15} {_exits(outcome)}")
    if outcome.resume:
        lines.append(f"  {'to resume':<15} {outcome.resume}")
    return "\n".join(lines)


def as_json(outcome: Outcome) -> str:
    """Return the same as one line of JSON."""
    verdict = outcome.verdict
    said: dict[str, Any] = {
        "version": 1,
        "run": outcome.run,
        "program": outcome.program,
        "ended_by": str(outcome.ended_by),
        "by_budget": outcome.by_budget,
        "counted": outcome.counted,
        "exit_status": outcome.exit_status,
        "program_exit_status": outcome.program_status,
        "seconds": round(outcome.seconds, 3),
        "seconds_after_stop": _rounded(outcome.stopped_after),
        "signals": [number.name for number in outcome.signals],
        "overdue": outcome.overdue or None,
        "problem": outcome.problem or None,
        "resume": outcome.resume or None,
        "verdict": None if verdict is None else verdict_json.to_dict(verdict),
        "others": [verdict_json.to_dict(other) for other in outcome.others],
    }
    return json.dumps(said)


def bar(ratio: float, width: int = _WIDTH) -> str:
    """Return a bar of blocks; full only from 1 on."""
    eighths = min(int(ratio * width * 8), width * 8 - (ratio < 1))
    whole, part = divmod(max(eighths, 0), 8)
    return (_FULL * whole + (_PARTS[part] if part else "")).ljust(width, _EMPTY)[:width]


def line(verdict: Verdict | None) -> str:
    """Return one line on a run as it is, for while it runs."""
    if verdict is None:
        return "budget: nothing counted yet"
    parts = []
    for name, state in verdict.resources.items():
        if state.limit is not None and state.ratio is not None:
            used = f"{amount(name, state.used)} of {amount(name, state.limit)}"
            parts.append(f"{name} {percent(state.ratio)} ({used})")
    parts += [
        describe_past(budget, budget.status)
        for budget in verdict.budgets
        if budget.mode is Mode.ENFORCE
    ]
    if verdict.should_continue and (left := first_to_end(verdict)):
        parts.append(left)
    return f"budget: {' · '.join(parts) or 'no limit'} · {verdict.action}"


def _headline(outcome: Outcome, *, colour: bool) -> str:
    name = f"otel-budget: {outcome.program}"
    after = f"after {amount(semconv.DURATION, outcome.seconds)}"
    if outcome.ended_by is EndedBy.STRICT:
        text, paint = f"{name} was ended {after}: it could not be kept in its budget", _RED
    elif outcome.ended_by is EndedBy.NOT_STARTED:
        text, paint = f"{name} was not started: its run has used what it may", _RED
    elif outcome.by_budget:
        text, paint = f"{name} was stopped by its budget {after}", _RED
    elif outcome.ended_by is EndedBy.USER:
        text, paint = f"{name} was interrupted {after}", _BOLD
    else:
        text, paint = f"{name} ended {after}", _BOLD
    if not outcome.counted and outcome.ended_by is not EndedBy.NOT_STARTED:
        text, paint = f"{text}: {NOTHING_COUNTED}", _RED
    return _painted(f"{text} (run {outcome.run})", paint, colour=colour)


def _resources(verdict: Verdict, *, colour: bool) -> Iterator[str]:
    for name, state in verdict.resources.items():
        if state.limit is not None or (name in _ALWAYS and state.used):
            yield f"  {name:<15} {_used(name, state, colour=colour)}"
    for budget in verdict.budgets:
        if budget.mode is Mode.ENFORCE:
            yield f"  {describe_past(budget, budget.status)}"
    for name in verdict.unjudged:
        yield f"  {name:<15} {_painted('limited, and not known', _RED, colour=colour)}"


def _used(name: str, state: ResourceState, *, colour: bool) -> str:
    used = ("at least " if state.at_least else "") + amount(name, state.used)
    if state.limit is None or state.ratio is None:
        return f"{'':<{_WIDTH}}         {used}"
    drawn = _painted(bar(state.ratio), _COLOURS[state.status], colour=colour)
    return f"{drawn} {percent(state.ratio):>7} {used} of {amount(name, state.limit)}"


def _why(outcome: Outcome) -> str:
    verdict = outcome.verdict
    if not outcome.by_budget:
        return ""
    if verdict is not None and (verdict.action is Action.STOP or not outcome.overdue):
        return verdict.message
    return outcome.overdue


def _how(outcome: Outcome) -> str:
    after = ""
    if outcome.stopped_after is not None:
        after = f", {amount(semconv.DURATION, outcome.stopped_after)} after the verdict"
    if outcome.ended_by is EndedBy.HOOKS:
        return f"by its hooks{after}"
    if outcome.ended_by is EndedBy.OWN_GUARD:
        return f"it asked, and stopped by itself{after}"
    if outcome.signals:
        return f"by {', then '.join(number.name for number in outcome.signals)}{after}"
    verdict = outcome.verdict
    is_over = verdict is not None and verdict.status is LimitStatus.EXCEEDED
    if is_over and outcome.ended_by is not EndedBy.NOT_STARTED:
        return "by itself: with its last call it came over its limit"
    return ""


def _exits(outcome: Outcome) -> str:
    status = outcome.returncode
    own = f"status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
    mine = outcome.exit_status
    if mine == status:
        return own
    why = "--strict: it was not guarded; " if mine == EXIT_UNGUARDED else ""
    return f"{mine} ({why}the program itself: {own})"


def _painted(text: str, code: str, *, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
