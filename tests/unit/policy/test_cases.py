"""Every case of tests/cases/*.yaml, with its note as the test's id."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Mode, WhenLow, Window, WindowKind, WindowSpan
from otel_budget.core.observation import Observation, Problem, RunAttributes, RunObservation
from otel_budget.core.override import Override, OverrideKind, Overrides
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.resources import COUNTED
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.core.verdict import Verdict
from otel_budget.core.wrap_up import WrapUp
from otel_budget.ledger.call_pace import CallPace
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.policy.bounds import bound, bounds_from
from otel_budget.policy.briefing import briefing_of
from otel_budget.policy.budgets import Pools, budget_state
from otel_budget.policy.forecast import completion_possible
from otel_budget.policy.outlook import OwnOutlook, with_forecasts
from otel_budget.policy.status import check, headroom, run_status
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot, verdict_from_usage
from otel_budget.sidecar.storage import codec
from tests.support.case_files import (
    SHAPES,
    Case,
    CaseError,
    number,
    numbers,
    parse_cases,
    read_cases,
)

NOW = 1_767_268_800.0
BERLIN = ZoneInfo("Europe/Berlin")
#: January 2026 in Berlin.
MONTH = (1_767_222_000.0, 1_769_900_400.0)
RUN = "run"


def snapshot(given: dict[str, Any]) -> RunSnapshot:
    """Return what the ledger would know, with fresh data where a case says nothing else."""
    attributes = RunAttributes(
        limits=numbers(given.get("limits")),
        thresholds=given.get("thresholds", {}),
        completion_threshold=given.get("completion_threshold"),
        progress=given.get("progress"),
    )
    trouble = given.get("trouble")
    used = numbers(given["used"])
    active: Any = used.pop(semconv.ACTIVE_DURATION, None)
    return RunSnapshot(
        session_id=RUN,
        started_at=None,
        used=used,
        active=active,
        active_when_shown=active,
        attributes=attributes,
        rates={},
        sampled_at=NOW,
        silent_for=given.get("silent_for", 0.0),
        gap=given.get("spacing", 1.0),
        trouble=None if trouble is None else Reason(trouble),
        implausible_for=given.get("implausible_for"),
        ended=given.get("ended", False),
        watched_for=given.get("listened_for", math.inf),
        uncertainty=uncertainty(given),
        lag=given.get("lag", 0.0),
    )


def uncertainty(given: dict[str, Any]) -> UsageUncertainty:
    """Return what is not known."""
    names = ("unpriced_calls", "unknown_usage_calls", "estimated_calls")
    return UsageUncertainty(**{name: given.get(name, 0) for name in names})


def on_unknown(given: dict[str, Any]) -> OnUnknown:
    """Return what is to be done about it."""
    return OnUnknown(given.get("on_unpriced", "ignore"), given.get("on_unknown_usage", "ignore"))


def said(verdict: Verdict) -> dict[str, Any]:
    """Return what cases want of a verdict."""
    return {"action": verdict.action, "reason": verdict.reason, "status": verdict.status}


def of_briefings(given: dict[str, Any]) -> dict[str, Any]:
    """Return what a model is told of a run that made calls of one size."""
    pace, calls = CallPace(), given.get("calls", {})
    for n in range(1, calls.get("number", 0) + 1):
        totals: dict[str, Number] = {semconv.API_CALLS: n}
        if "tokens" in calls:
            totals[semconv.TOKENS] = n * calls["tokens"]
        if "cost" in calls:
            totals[semconv.COST] = n * Decimal(calls["cost"])
        pace.observe(totals, n * float(calls.get("seconds", 0)))
    bounds = bounds_from(numbers(given["limits"]), {}, "session")
    resources = run_status(numbers(given["used"]), bounds, uncertainty(given)).resources
    last = WrapUp(given["last"]) if "last" in given else None
    told = briefing_of(
        with_forecasts(resources, OwnOutlook(pace, calls.get("number", 0) * 1.0)),
        kept=given.get("kept", 0), last=last, stopped=given.get("stopped", False),
    )  # fmt: skip
    return {"text": str(told), "calls_left": told.calls_left, "seconds_left": told.seconds_left}


def own_verdict(given: dict[str, Any]) -> Verdict:
    """Return the verdict of a run on itself."""
    return verdict_from_usage(
        RUN,
        numbers(given["used"]),
        bounds_from(numbers(given["limits"]), given.get("thresholds", {}), "session"),
        progress=given.get("progress"),
        completion_threshold=given.get("completion_threshold", 0.8),
        now=NOW,
        uncertainty=uncertainty(given),
        on_unknown=on_unknown(given),
    )


def of_limits(given: Any) -> dict[str, Any]:
    """Hold one resource against one limit."""
    resource, used = given["resource"], number(given["resource"], given["used"])
    bounds = {}
    if given["limit"] is not None:
        limit = number(resource, given["limit"])
        bounds[resource] = bound(resource, limit, given["threshold"], "session")
    state = run_status({resource: used}, bounds).resources[resource]
    room = headroom({resource: state}, bounds)
    return {
        "status": state.status,
        "remaining": None if state.remaining is None else float(state.remaining),
        "ratio": state.ratio,
        "headroom": float(room[resource]) if resource in room else None,
    }


def of_decisions(given: Any) -> dict[str, Any]:
    """Let a run judge itself."""
    result = check(
        numbers(given["used"]),
        bounds_from(numbers(given["limits"]), given.get("thresholds", {}), "session"),
    )
    lists = {"approaching": list(result.approaching), "exceeded": list(result.exceeded)}
    return {**said(own_verdict(given)), **lists}


def of_combined_limits(given: Any) -> dict[str, Any]:
    """Let the sidecar judge a run with limits of its own."""
    ceilings = given["sidecar"]
    rules = Rules(
        ceilings=bounds_from(
            numbers(ceilings["limits"]), ceilings.get("thresholds", {}), "sidecar"
        ),
        completion_threshold=ceilings.get("completion_threshold"),
    )
    verdict = verdict_from_snapshot(snapshot({**given, **given["own"]}), rules, NOW)
    limited = {n: s for n, s in verdict.resources.items() if s.limit is not None}
    return {
        **said(verdict),
        "limit": {n: float(s.limit) for n, s in limited.items() if s.limit is not None},
        "limit_from": {name: state.limit_from for name, state in limited.items()},
        "headroom": {name: float(room) for name, room in verdict.headroom.items()},
        "completion_threshold": verdict.completion_threshold,
        "unjudged": list(verdict.unjudged),
        "message": verdict.message,
    }


def pools(given: list[dict[str, Any]]) -> Pools:
    """Return the budgets that a run shares, as the books would have them."""
    found = []
    for each in given:
        user = each.get("user")
        budget = Budget(
            name=each["name"],
            window=Window(WindowKind.CALENDAR, every="month", tz=BERLIN),
            limits=numbers(each["limits"]),
            per=() if user is None else ("user",),
            warning_threshold=each.get("warning_threshold", 0.8),
            weights=each.get("weights", {}),
            when_low=WhenLow(each.get("when_low", "stop")),
            mode=Mode(each.get("mode", "enforce")),
        )
        resets = each.get("resets", True)
        span = WindowSpan(MONTH[0], *((MONTH[1], MONTH[1]) if resets else ()))
        given_, kept = numbers(each.get("top_up")), numbers(each.get("carried"))
        state = budget_state(
            budget, () if user is None else (user,), numbers(each.get("used")), span,
            top_up=given_, carried=kept,
        )  # fmt: skip
        found.append((budget, state))
    chosen = frozenset(each["name"] for each in given if each.get("chosen"))
    return Pools(found, chosen)


def of_budgets(given: Any) -> dict[str, Any]:
    """Let the sidecar judge a run that shares budgets."""
    ceilings = given.get("sidecar", {})
    rules = Rules(
        ceilings=bounds_from(
            numbers(ceilings.get("limits")), ceilings.get("thresholds", {}), "sidecar"
        ),
        on_no_data=Action(given.get("on_no_data", "stop")),
        on_unknown=on_unknown(given),
        hold=0.0,
    )
    run = snapshot({"used": {}, **given, **given.get("own", {})})
    if given.get("stopped_by_operator"):
        run = run._replace(overrides=Overrides(Override(OverrideKind.STOP, "because")))
    verdict = verdict_from_snapshot(run, rules, NOW, pools(given["budgets"]))
    first = next(iter(verdict.budgets[0].resources.values()))
    return {
        **said(verdict),
        "limit_from": verdict.limit_from,
        "binds": [budget.name for budget in verdict.budgets if budget.binds],
        "headroom": {name: float(room) for name, room in verdict.headroom.items()},
        "message": verdict.message,
        "would": None if verdict.would is None else str(verdict.would.reason),
        "remaining": float(first.remaining),
        "limit": float(first.limit),
        "own_status": check(run.used, bounds_from(run.attributes.limits, {}, "session")).status,
    }


def of_no_data(given: Any) -> dict[str, Any]:
    """Let the sidecar judge a run it has no good data of."""
    rules = dict(given.get("rules", {}))
    rules["on_no_data"] = Action(rules.get("on_no_data", "stop"))
    rules["on_unknown"] = on_unknown(
        {key: rules.pop(key, "ignore") for key in ("on_unpriced", "on_unknown_usage")}
    )
    return said(verdict_from_snapshot(snapshot(given), Rules(**rules), NOW))


def of_feasibility(given: Any) -> dict[str, Any]:
    """Ask whether the rest would fit."""
    bounds = bounds_from(numbers(given["limits"]), {}, "session")
    used, progress = numbers(given["used"]), given.get("progress")
    fits = completion_possible(used, bounds, progress, uncertainty(given))
    return {"fits": "unknown" if fits is None else fits}


def of_messages(given: Any) -> dict[str, Any]:
    """Read what people read."""
    bounds = bounds_from(numbers(given["limits"]), given.get("thresholds", {}), "session")
    return {
        "verdict": own_verdict(given).message,
        "check": check(numbers(given["used"]), bounds, uncertainty(given)).message,
    }


def of_unknown(given: Any) -> dict[str, Any]:
    """Let a run judge itself, and a sidecar that has the same rules; they must agree."""
    own = own_verdict(given)
    theirs = verdict_from_snapshot(snapshot(given), Rules(on_unknown=on_unknown(given)), NOW)
    assert (said(own), own.message) == (said(theirs), theirs.message)
    states = own.resources.items()
    return {
        **said(own),
        "message": own.message,
        "at_least": [name for name, state in states if state.at_least],
        "estimated": [name for name, state in states if state.estimated],
    }


def seen(at: float, data: dict[str, Any]) -> RunObservation:
    """Return one run as one target showed it."""
    counters: dict[tuple[str, str], Number] = {
        (resource, ""): number(resource, data[resource])
        for resource in (semconv.TOKENS, semconv.API_CALLS, semconv.COST)
        if resource in data
    }
    for row in data.get("series", ()):
        key = (row["resource"], row["labels"])
        counters[key] = number(row["resource"], row["value"])
    attributes = RunAttributes(
        started_at=data.get("run"),
        incarnation_at=data.get("process"),
        carried_over=numbers(data.get("carried_over")),
        limits=numbers(data.get("limits")),
        thresholds=data.get("thresholds", {}),
        progress=data.get("progress"),
        duration=data.get("duration"),
        state=data.get("state"),
        follows_completed=data.get("follows_completed"),
        unpriced_calls=data.get("unpriced_calls"),
        unknown_usage_calls=data.get("unknown_usage_calls"),
        estimated_calls=data.get("estimated_calls"),
        optional_series=data.get("optional_series"),
        active=data.get("active"),
    )
    target, taken = data.get("target", "a"), float(data.get("taken", at))
    return RunObservation(
        RUN, target, taken, counters, attributes, tuple(data.get("implausible", ()))
    )


def reading(step: dict[str, Any]) -> Observation:
    """Return what a source gave in one step."""
    failed = [Problem(t, Reason.SOURCE_ERROR, "refused") for t in step.get("fails", ())]
    partial = [Problem(t, Reason.PARTIAL_DATA, "warned") for t in step.get("partial", ())]
    at = float(step["at"])
    return Observation("scrape", at, tuple(seen(at, s) for s in step["sees"]), (*failed, *partial))


def restarted(ledger: Ledger, now: float) -> Ledger:
    """Return the ledger a new sidecar reads from the storage of a killed one."""
    fresh = Ledger()
    for run in ledger.runs.values():
        fresh.adopt(codec.from_json(codec.to_json(run)), now)
    return fresh


def of_ledger(given: Any) -> dict[str, Any]:
    """Let a ledger take in one reading after the other."""
    ledger = Ledger()
    for step in given:
        if step.get("restart"):
            ledger = restarted(ledger, step["at"])
        ledger.apply(reading(step))
    run, flags = ledger.runs[RUN], Counter(flag.kind for flag in ledger.findings)
    known = ledger.snapshot(run, float(given[-1]["at"]))
    return {
        **{resource: float(value) for resource, value in known.used.items()},
        "unknown": [r for r in (semconv.DURATION, *COUNTED) if r not in known.used],
        **({} if known.active is None else {semconv.ACTIVE_DURATION: known.active}),
        "resets": run.resets,
        "incarnations": len(run.processes),
        "refused": ledger.dropped["old_run"],
        "superseded": len(ledger.superseded),
        "also": sorted(run.also),
        "concurrent": flags[FindingKind.CONCURRENT],
        "second": flags[FindingKind.SECOND_TARGET] + flags[FindingKind.NAMELESS],
        "ahead": flags[FindingKind.START_AHEAD],
        "goes_on": flags[FindingKind.GOES_ON],
        "restarts": flags[FindingKind.RESTARTS],
        "started_at": run.started_at,
        "limits": dict(known.attributes.limits),
        "progress": known.attributes.progress,
        "ended": known.ended,
        "implausible_for": known.implausible_for,
        "silent_for": known.silent_for,
        "spacing": known.gap,
        "trouble": known.trouble,
        "listened_for": known.watched_for,
        "at_least": sorted(known.uncertainty.at_least),
        **dataclasses.asdict(known.uncertainty),
    }


RUNNERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "limits": of_limits,
    "decisions": of_decisions,
    "combined_limits": of_combined_limits,
    "briefings": of_briefings,
    "budgets": of_budgets,
    "no_data": of_no_data,
    "ledger": of_ledger,
    "feasibility": of_feasibility,
    "messages": of_messages,
    "unknown": of_unknown,
}
CASES = [case for name in RUNNERS for case in read_cases(name)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.note}")
def test_the_case_comes_out_as_it_says(case: Case) -> None:
    """What the case wants is what happens."""
    got = RUNNERS[case.file](case.given)
    assert {key: got[key] for key in case.want} == case.want


def test_every_kind_of_case_is_run() -> None:
    """A file that is foreseen, but not run, would be a file that asserts nothing."""
    assert RUNNERS.keys() == SHAPES.keys()


@pytest.mark.parametrize("name", SHAPES)
def test_an_unknown_key_anywhere_in_a_case_file_is_an_error(name: str) -> None:
    """Put a misspelt key into every mapping of the file in turn; each is found."""
    data = {"cases": [_plain(case) for case in read_cases(name)]}
    parse_cases(name, data)
    places = list(_mappings(data))
    assert len(places) > 2 * len(data["cases"])
    for place in places:
        place["tokenz"] = 1
        with pytest.raises(CaseError, match=r"tokenz: unknown"):
            parse_cases(name, data)
        del place["tokenz"]


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ({"note": "n", "given": {}}, "want is missing"),
        ({"note": "n", "given": {}, "want": {}}, "wants nothing"),
        ({"given": {}, "want": {"status": "ok"}}, "note is missing"),
        ({"note": "n", "given": [], "want": {"status": "ok"}}, "is not a mapping"),
        ({"note": "n", "given": {"used": {}}, "want": {"status": "ok"}}, "is not a single value"),
    ],
)
def test_a_case_that_would_assert_nothing_is_an_error(case: dict[str, Any], problem: str) -> None:
    """Each such case is refused when it is read."""
    with pytest.raises(CaseError, match=problem):
        parse_cases("limits", {"cases": [case]})


def test_two_cases_with_the_same_note_are_an_error() -> None:
    """A note is an id, and a sentence for one thing."""
    case = {"note": "n", "given": {}, "want": {"status": "ok"}}
    with pytest.raises(CaseError, match=r"same note"):
        parse_cases("limits", {"cases": [case, case]})


def _plain(case: Case) -> dict[str, Any]:
    return {"note": case.note, "given": case.given, "want": case.want}


def _mappings(data: Any) -> Any:
    if isinstance(data, dict):
        yield data
        for value in list(data.values()):
            yield from _mappings(value)
    elif isinstance(data, list):
        for item in data:
            yield from _mappings(item)
