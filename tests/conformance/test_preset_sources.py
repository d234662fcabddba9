"""A source with a preset sees the same in a foreign page, directly and through Prometheus."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from otel_budget.core.observation import Observation
from otel_budget.presets.loader import preset, shipped
from otel_budget.presets.model import Preset
from tests.conformance.rig import Backend
from tests.support.prometheus_process import JOB

FOREIGN = Path(__file__).parent.parent / "foreign"
CLAUDE = shipped()["claude_code"]
#: What a nudge finds; text if the run is on no page.
Nudged = Observation | str | None
#: A page of each program, and a run on it.
PAGES = (
    ("claude_code", "claude_code_2.1.330", "ba8b11a9-0b6c-472a-8133-48db5b9683ff"),
    ("codex", "codex_collector", ""),
    ("gemini_cli", "gemini_cli", ""),
    ("litellm_proxy", "litellm_proxy", ""),
    ("vllm", "vllm.synthetic", ""),
    ("envoy_ai_gateway", "envoy_ai_gateway.synthetic", ""),
    ("kong_ai", "kong_ai.synthetic", ""),
    ("gen_ai", "gen_ai_two_scopes", ""),
)


@dataclass(frozen=True)
class Rig:
    """A back end, and what is read through it with a preset."""

    backend: Backend

    @property
    def place(self) -> str:
        """Return how the first endpoint is called in the id of a session without a name."""
        address = self.backend.endpoints[0].address
        return address if self.backend.url is None else f"{JOB}:{address}"

    def show(self, text: str, chosen: Preset) -> Observation:
        """Let the endpoint show this, and return what the source then reads."""
        self.backend.put(text)
        return asyncio.run(self._read(chosen))

    async def nudge(self, first: str, then: str, session_id: str, chosen: Preset) -> Nudged:
        """Return what a source finds of a run for a nudge, which read ``first`` and now ``then``.

        None: it cannot read a single run.
        """
        self.backend.put(first)
        source = self.backend.make(time.time, chosen)
        try:
            await source.read()
            if not source.reads_runs:
                assert await source.read_run(session_id) is None
                return None
            self.backend.put(then)
            return await source.read_run(session_id) or "unknown"
        finally:
            await source.close()

    async def _read(self, chosen: Preset) -> Observation:
        source = self.backend.make(time.time, chosen)
        try:
            return await source.read()
        finally:
            await source.close()


@pytest.fixture
def rig(backend: Backend) -> Rig:
    """Each back end in turn."""
    return Rig(backend)


def totals(reading: Observation) -> dict[tuple[str, str], int | float | Decimal]:
    """Return what each session has used of each resource."""
    found: dict[tuple[str, str], int | float | Decimal] = {}
    for session in reading.sessions:
        for (resource, _), value in session.counters.items():
            key = (session.session_id, resource)
            found[key] = found.get(key, 0) + value  # type: ignore[operator] # one resource is one type
    return found


def page(name: str) -> str:
    """Return a page that a program showed."""
    return (FOREIGN / f"{name}.prom").read_text(encoding="utf-8")


def test_a_session_of_another_program_is_one_of_ours(rig: Rig) -> None:
    """Tokens and cost are known, calls are not there."""
    reading = rig.show(page("claude_code_2.1.330"), CLAUDE)
    session = "ba8b11a9-0b6c-472a-8133-48db5b9683ff"
    found = totals(reading)
    # The page says 0.005954999999999999; VictoriaMetrics keeps fewer digits.
    assert round(Decimal(found.pop((session, "cost"))), 15) == Decimal("0.005955")
    assert found == {(session, "tokens"): 1300}
    assert (reading.problems, reading.dropped) == ((), {})
    assert 0 <= reading.read_at - reading.sessions[0].sampled_at < 3


def test_a_program_without_sessions_is_one_named_after_its_target(rig: Rig) -> None:
    """Cached tokens are inside, an aborted request is a call."""
    found = totals(rig.show(page("vllm.synthetic"), shipped()["vllm"]))
    assert found == {(f"vllm@{rig.place}", "tokens"): 1300, (f"vllm@{rig.place}", "api_calls"): 3}


def test_two_scopes_that_say_the_same_are_counted_once(rig: Rig) -> None:
    """The labels that a Prometheus adds change nothing."""
    found = totals(rig.show(page("gen_ai_two_scopes"), shipped()["gen_ai"]))
    place = f"gen_ai@{rig.place}"
    assert found == {(place, "tokens"): 1357, (place, "api_calls"): 4}


def test_sessions_are_told_apart_by_the_label_the_user_chose(rig: Rig) -> None:
    """An id that cannot be one is dropped and counted."""
    chosen = preset({"extends": "kong_ai", "session": {"labels": ["consumer"]}})
    lines = [
        f'kong_ai_llm_tokens_total{{consumer="{who}",token_type="prompt_tokens"}} {tokens}\n'
        for who, tokens in (("alice", 10), ("bob", 20), ("../etc", 30))
    ]
    reading = rig.show("".join(lines), chosen)
    assert totals(reading) == {("alice", "tokens"): 10, ("bob", "tokens"): 20}
    assert reading.dropped == {"session_id": 1}


def test_an_unknown_type_of_tokens_makes_them_at_least(rig: Rig) -> None:
    """It is neither added nor forgotten."""
    lines = [
        f'claude_code_token_usage_total{{session_id="s",type="{kind}"}} 10\n'
        for kind in ("input", "audio")
    ]
    reading = rig.show("".join(lines), CLAUDE)
    assert totals(reading) == {("s", "tokens"): 10}
    assert reading.sessions[0].attributes.unknown_usage_calls == 1
    assert reading.dropped == {"token_type": 1}


def test_labels_that_mark_a_query_cost_no_other_session(rig: Rig) -> None:
    """Series of one session that differ in one of them alone are two, and both count."""
    name, lines = "claude_code_token_usage_tokens_total", []
    for label in ("otel_budget_sampled", "otel_budget_target_answers"):
        for value in ("", "x", "1", "11"):
            mark = f',{label}="{value}"' if value else ""
            lines.append(f'{name}{{session_id="{label}",type="input"{mark}}} 10\n')
    lines += [f'up{{session_id="s",{label}="1"}} 0\n', f'{name}{{session_id="s",type="input"}} 7\n']
    reading = rig.show("".join(lines), CLAUDE)
    assert totals(reading) == {
        ("otel_budget_sampled", "tokens"): 40,
        ("otel_budget_target_answers", "tokens"): 40,
        ("s", "tokens"): 7,
    }
    assert (reading.problems, reading.dropped) == ((), {})


def tokens(amount: int, session: str = "s") -> str:
    """Return a page of Claude Code."""
    return f'claude_code_token_usage_total{{session_id="{session}",type="input"}} {amount}\n'


@pytest.mark.parametrize(("name", "shown", "session"), PAGES)
def test_a_nudge_reads_a_run_of_any_program(rig: Rig, name: str, shown: str, session: str) -> None:
    """What nudges is a hook, before and after each call."""
    chosen = shipped()[name]
    if rig.backend.url is None and not session:
        session = rig.show(page(shown), chosen).sessions[0].session_id
    found = asyncio.run(rig.nudge(page(shown), page(shown), session, chosen))
    if found is None:
        assert rig.backend.url is not None
        return
    assert isinstance(found, Observation)
    assert session in {one.session_id for one in found.sessions}
    assert found.asked == frozenset([rig.backend.endpoints[0].url])


def test_a_nudge_finds_what_was_used_since(rig: Rig) -> None:
    """That is what it is for."""
    found = asyncio.run(rig.nudge(tokens(10), tokens(25), "s", CLAUDE))
    if found is not None:
        assert isinstance(found, Observation)
        assert totals(found) == {("s", "tokens"): 25}


def test_a_nudge_finds_a_run_that_just_began(rig: Rig) -> None:
    """A program shows nothing before its first call, and a new id after each /clear."""
    for before in ("", tokens(10)):
        found = asyncio.run(rig.nudge(before, tokens(10) + tokens(5, "new"), "new", CLAUDE))
        if found is not None:
            assert isinstance(found, Observation)
            assert totals(found)["new", "tokens"] == 5


def test_a_nudge_of_a_run_that_is_nowhere_says_so(rig: Rig) -> None:
    """None of the runs that are there is given in its place."""
    assert asyncio.run(rig.nudge(tokens(10), tokens(10), "other", CLAUDE)) in (None, "unknown")
