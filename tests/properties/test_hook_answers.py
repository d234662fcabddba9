"""Whatever comes at hooks, in whatever order: what a run's end must never be."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_budget.agents.base import EventKind, Step
from otel_budget.agents.known import names
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.wrap_up import WrapUp
from tests.support.paths import ROOT
from tests.unit.agents.hooked import NOW, Hooked, verdict

AGENTS = names()
#: How far apart events come.
_PAUSES = st.sampled_from([0.0, 0.1, 5.0, 60.0])
_SUBS = st.sampled_from(["", "", "", "sub-1"])
#: Verdicts that let a run go on, or know nothing of it.
_FINE = [None, verdict(10), verdict(910), verdict(950, reason="stale_data", at=NOW - 1e6)]
_STOPS = [
    verdict(1000), verdict(1086),
    *(verdict(910, reason=reason) for reason in ("approaching_limit", "budget_low", "wrap_up")),
    verdict(reason="operator_stop", wrap_up=WrapUp(1)),
]  # fmt: skip
_HARD = [
    verdict(reason=reason)
    for reason in ("operator_stop", "unpriced_calls", "parent_stopped", "moon")
]
_SILENT = [
    verdict(reason=reason, at=at, action=action)
    for reason in ("stale_data", "source_error", "partial_data")
    for action in Action
    for at in (NOW - 1e6, NOW - 1)
]
_CODEX = json.loads(
    (ROOT / "tests/agents/fixtures/codex/hook_outputs.json").read_text(encoding="utf-8")
)


def _asked(agent: str) -> st.SearchStrategy[tuple[str, str, float]]:
    """Return what comes at one hook: the event, a sub-agent, the time since the last one."""
    found = Hooked(agent).agent
    return st.tuples(st.sampled_from(list(found.rows)), _SUBS, _PAUSES)


_RUNS = st.sampled_from(AGENTS).flatmap(
    lambda agent: st.tuples(st.just(agent), st.lists(_asked(agent), min_size=12, max_size=40))
)


def _play(agent: str, asked: list[tuple[str, str, float]], verdicts: list[Any]) -> list[Any]:
    """Return kind, sub-agent, verdict and answer of each event."""
    run, played = Hooked(agent), []
    for (name, sub, pause), judged in zip(asked, verdicts, strict=True):
        run.now += pause
        more = {"agent_id": sub} if sub else {}
        played.append((run.agent.rows[name].kind, sub, judged, run.step(name, judged, **more)))
    return played


@given(_RUNS, st.data())
def test_at_a_limit_one_call_is_let_on_at_most(
    run: tuple[str, list[tuple[str, str, float]]], data: st.DataObject
) -> None:
    """For the final answer; and none to a sub-agent, to a new prompt, or after the end was given.

    Codex has no hook that ends a turn: there every tool is denied.
    """
    agent, asked = run
    before = data.draw(st.integers(0, 5))
    judged = [data.draw(st.sampled_from(_FINE)) for _ in range(before)]
    judged += [data.draw(st.sampled_from(_STOPS)) for _ in range(len(asked) - before)]
    marks = EventKind.BEFORE_CALL if agent == "gemini-cli" else EventKind.AFTER_TOOLS
    let_on, ended = 0, set()
    for kind, sub, _, answer in _play(agent, asked, judged)[before:]:
        if kind is EventKind.PROMPT:
            assert answer.step is Step.END
        if agent == "codex":
            assert kind is not EventKind.BEFORE_TOOL or answer.step is Step.DENY
            continue
        if answer.step is Step.END and kind is not EventKind.PROMPT:
            ended.add(sub)
        elif kind is marks:
            assert sub not in ended
            assert not sub
            let_on += 1
        elif kind is EventKind.BEFORE_TOOL:
            assert answer.step is Step.DENY
            assert sub not in ended
    assert let_on <= 1


@given(_RUNS, st.data())
def test_a_stop_that_is_no_limits_lets_nothing_on(
    run: tuple[str, list[tuple[str, str, float]]], data: st.DataObject
) -> None:
    """Wherever anything can be done about it."""
    agent, asked = run
    found = Hooked(agent).agent
    judged = [data.draw(st.sampled_from(_HARD)) for _ in asked]
    for (name, _, _), (kind, _, _, answer) in zip(asked, _play(agent, asked, judged), strict=True):
        if Step.END in found.rows[name].writers:
            assert answer.step is Step.END
        elif kind is EventKind.BEFORE_TOOL:
            assert answer.step is Step.DENY


@given(_RUNS, st.data())
def test_a_process_that_has_told_nothing_is_never_stopped_for_it(
    run: tuple[str, list[tuple[str, str, float]]], data: st.DataObject
) -> None:
    """Whatever was known of its run before it began."""
    agent, asked = run
    old = [one for one in _SILENT if one.data_at == NOW - 1e6]
    start = next(name for name, row in Hooked(agent).agent.rows.items() if row.kind == "prompt")
    asked = [(start, "", 0.0), *asked]
    judged = [data.draw(st.sampled_from([None, *old])) for _ in asked]
    for _, _, _, answer in _play(agent, asked, judged):
        assert answer.step is Step.GO_ON or answer.step is Step.BRIEF


@given(_RUNS, st.data())
def test_a_run_that_may_go_on_is_not_held_up(
    run: tuple[str, list[tuple[str, str, float]]], data: st.DataObject
) -> None:
    """Nothing of an end that was given before is left once its limit is raised."""
    agent, asked = run
    any_verdict = st.sampled_from([*_FINE, *_STOPS, *_HARD, *_SILENT])
    judged = [data.draw(any_verdict) for _ in asked]
    for _, _, one, answer in _play(agent, asked, judged):
        if one is None or one.should_continue:
            assert answer.step in (Step.GO_ON, Step.BRIEF)


@given(st.lists(_asked("codex"), max_size=20), st.data())
def test_codex_is_given_no_field_that_it_does_not_know(
    asked: list[tuple[str, str, float]], data: st.DataObject
) -> None:
    """It would drop the whole answer."""
    run = Hooked("codex")
    any_verdict = st.sampled_from([*_FINE, *_STOPS, *_HARD, *_SILENT])
    for name, sub, pause in asked:
        run.now += pause
        more = {"agent_id": sub} if sub else {}
        written = run.ask(name, data.draw(any_verdict), **more)
        known = _CODEX[name]
        assert set(written) <= set(known["fields"])
        assert set(written.get("hookSpecificOutput", ())) <= set(known["specific"])
        assert all(value for value in written.values())
        if name == "PreToolUse":
            assert "continue" not in written


def test_all_reasons_are_thought_of() -> None:
    """A new one is silence, a limit, or ends at once; which, is for somebody to decide."""
    tried = {one.reason for one in (*_FINE, *_STOPS, *_HARD, *_SILENT) if one is not None}
    rest = set(Reason) - tried
    assert rest == {
        Reason.FINISHING, Reason.UNKNOWN_USAGE, Reason.IMPLAUSIBLE_DATA, Reason.INTERNAL_ERROR,
        Reason.SIDECAR_LOST, Reason.BUDGET_BUSY,
    }  # fmt: skip
