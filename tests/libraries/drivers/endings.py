"""Plays how runs end with one framework: ``python -m tests.libraries.drivers.endings NAME FILE``.

Run in an environment of the live tests; NAME is a module ``endings_NAME`` beside this one. Each
scenario is one run against the scripted provider, with ``on_stop="raise"`` and ``"wrap_up"``; what
the provider was asked, what the application got and what was logged go to FILE as JSON.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import random
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor, serve_metrics
from tests.libraries.provider import Conversation, Provider, Spent

if TYPE_CHECKING:
    from otel_budget.adapters.ending import CutShort, OnStop

#: The test's sidecar, an operator's token for it, and the folder it finds processes in.
SIDECAR, TOKEN, REGISTER = (f"OTEL_BUDGET_ENDINGS_{name}" for name in ("URL", "TOKEN", "REGISTER"))
ON_STOP: Final[tuple[OnStop, ...]] = ("raise", "wrap_up")
FIFTY: Final = int(os.environ.get("OTEL_BUDGET_ENDINGS", "50"))
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Task:
    """What a framework is to play: an agent that looks up things, in the run of the context."""

    kind: str
    """``plain``, ``stream``, ``sub_agent`` (the root's only tool ``delegate`` is an agent that
    looks up), ``parallel_tools`` (the same; the model calls it three times at once) or
    ``structured`` (its answer is a ``Report`` with the field ``answer``)."""
    on_stop: OnStop
    provider: Provider
    look_up: Callable[[str], str]
    """What its tool ``look_up(what)`` does."""
    model: str = "gpt-4o-mini"


@dataclass(frozen=True, slots=True)
class Ended:
    """What the application has in hand when its framework returns."""

    answer: str | None
    """What it would take for the answer: the text, or the field of the report."""
    cut_short: CutShort | None
    """The mark, as ``cut_short()`` of the adapter finds it."""
    kept: int = 0
    """Messages in the state that the framework kept."""


class Framework(Protocol):
    """A module ``endings_NAME``."""

    KINDS: tuple[str, ...]
    """The kinds of task it has."""
    PACKAGES: tuple[str, ...]
    """Those whose versions matter."""
    MORE: Mapping[str, Callable[[Provider], None]]
    """What else is to hold for it alone, by name: raises AssertionError where it does not."""

    @staticmethod
    def play(task: Task) -> Ended:
        """Play a task. Raises BudgetExceeded as the framework lets it through."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """How a run comes to its end."""

    name: str
    kind: str = "plain"
    limits: Mapping[str, int] = field(default_factory=dict)
    wrap_up_calls: int = 1
    user: str | None = None
    """Whom the run is counted for: then a shared budget binds it."""
    sidecar: bool = False
    stop: Mapping[str, Any] | None = None
    """What an operator orders in its third tool call."""


_ORDER: Final = {"reason": "enough for today", "by": "ann"}
SCENARIOS: Final = (
    Scenario("own_limit", limits={"max_api_calls": 6}),
    Scenario("own_tokens", limits={"max_tokens": 3000}),
    Scenario("sidecar", sidecar=True),
    Scenario("shared_budget", sidecar=True, user="shared"),
    Scenario("operator", sidecar=True, wrap_up_calls=0, stop=_ORDER),
    Scenario("operator_now", sidecar=True, wrap_up_calls=0, stop={**_ORDER, "now": True}),
    Scenario("stream", "stream", limits={"max_api_calls": 6}),
    Scenario("sub_agent", "sub_agent", limits={"max_api_calls": 6}),
    Scenario("parallel_tools", "parallel_tools", limits={"max_api_calls": 6}),
    Scenario("structured", "structured", limits={"max_api_calls": 6}),
)


class _Lines(logging.Handler):
    """Keeps what looks like a defect: errors, tracebacks, warnings of others than ourselves."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.startswith("otel_budget")
        if not ours or record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(f"{record.name}: {record.getMessage()}"[:500])


@contextmanager
def _listening() -> Iterator[list[str]]:
    lines = _Lines()
    logging.getLogger().addHandler(lines)
    try:
        yield lines.found
    finally:
        logging.getLogger().removeHandler(lines)


class _Tool:
    """``look_up``: waits for the sidecar in runs that have one; an operator steps in there."""

    def __init__(self, scenario: Scenario, monitor: ResourceMonitor) -> None:
        self._scenario, self._monitor, self.calls = scenario, monitor, 0

    def __call__(self, what: str) -> str:
        """Look something up."""
        self.calls += 1
        if self.calls == 3 and self._scenario.stop is not None:
            _ask(f"/v1/sessions/{self._monitor.session_id}/stop", self._scenario.stop)
            self._wait(lambda: not self._monitor.verdict.should_continue)
        elif self._scenario.sidecar:
            self._wait(self._is_judged)
        return f"Found {what} number {self.calls}."

    def _is_judged(self) -> bool:
        """Tell whether the sidecar knows of all that was used, and the run of its stop."""
        used = self._monitor.get_usage_report().tokens
        try:
            verdict = _ask(f"/v1/verdicts/{self._monitor.session_id}")
        except urllib.error.HTTPError as exc:  # not seen yet
            exc.close()
            return False
        if verdict["action"] == "stop":
            return not self._monitor.verdict.should_continue
        return bool(verdict["resources"]["tokens"]["used"] >= used)

    def _wait(self, seen: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE
        while not seen():
            if time.monotonic() > end:
                raise TimeoutError(f"{self._scenario.name}: the sidecar did not say so")
            time.sleep(0.01)


def _ask(path: str, order: Mapping[str, Any] | None = None) -> Any:
    """Ask the sidecar, or order something as an operator does."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ[TOKEN]}"}
    body = None if order is None else json.dumps(dict(order)).encode()
    request = urllib.request.Request(f"{os.environ[SIDECAR]}{path}", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _monitor(scenario: Scenario, name: str) -> ResourceMonitor:
    limits = ResourceLimits.only(**dict(scenario.limits), wrap_up_calls=scenario.wrap_up_calls)
    return ResourceMonitor(
        limits, name,
        sidecar=os.environ[SIDECAR] if scenario.sidecar else None,
        scope={"user": f"{scenario.user}-{name}"} if scenario.user else None,
    )  # fmt: skip


def _play(
    framework: Framework, provider: Provider, scenario: Scenario, on_stop: OnStop, prefix: str
) -> dict[str, Any]:
    """Play one scenario as one run; return what was seen of it on all sides."""
    at_once = 3 if scenario.kind == "parallel_tools" else 1
    conversation = Conversation(at_once)
    provider.decide(conversation)
    monitor = _monitor(scenario, f"{prefix}-{scenario.name}-{on_stop}")
    task = Task(scenario.kind, on_stop, provider, _Tool(scenario, monitor))
    ended, raised, error = None, None, None
    with _listening() as lines:
        try:
            with monitor:
                ended = framework.play(task)
        except BudgetExceeded as stop:
            finished = stop.finished
            raised = {
                "reason": str(stop.verdict.reason), "type": type(stop).__name__,
                "finished": None if finished is None else len(finished),
            }  # fmt: skip
        except Exception:  # noqa: BLE001 - whatever a framework raises is an outcome
            error = traceback.format_exc()
    used = monitor.get_usage_report()
    return {
        "scenario": scenario.name, "on_stop": on_stop, **_seen(ended, raised, error),
        "asked": [[list(each.tools), each.told, each.tokens] for each in conversation.asked],
        "calls": used.api_calls, "tokens": used.tokens, "lines": lines,
        "limits": dict(scenario.limits),
    }  # fmt: skip


def _seen(ended: Ended | None, raised: dict[str, Any] | None, error: str | None) -> dict[str, Any]:
    mark = None if ended is None or ended.cut_short is None else ended.cut_short.to_dict()
    return {
        "answer": None if ended is None else ended.answer, "cut_short": mark,
        "kept": None if ended is None else ended.kept, "raised": raised, "error": error,
    }  # fmt: skip


def _fifty(framework: Framework, provider: Provider, prefix: str) -> Iterator[list[Any]]:
    """Yield of fifty runs with calls of random sizes: limit, used, the last two calls, the end."""
    chance = random.Random(20)
    for number in range(FIFTY):
        base, grow = chance.randrange(50, 2000), chance.randrange(10, 200)
        limit = sum(base + grow * (2 * call - 1) for call in range(1, chance.randrange(8, 12)))

        def spent(messages: int, base: int = base, grow: int = grow) -> Spent:
            return Spent(base + grow * messages, chance.randrange(5, 60))

        conversation = Conversation(spent=spent)
        provider.decide(conversation)
        scenario = Scenario("fifty", limits={"max_tokens": limit})
        monitor = _monitor(scenario, f"{prefix}-fifty-{number}")
        ended, error = None, None
        try:
            with monitor:
                ended = framework.play(Task("plain", "wrap_up", provider, _Tool(scenario, monitor)))
        except Exception as exc:  # noqa: BLE001 - whatever a framework raises is an outcome
            error = repr(exc)
        sizes = [each.tokens for each in conversation.asked]
        seen = _seen(ended, None, error)
        yield [limit, monitor.get_usage_report().tokens, sizes[-2:], seen]


def _more(framework: Framework, provider: Provider) -> dict[str, str | None]:
    """Return what went wrong in what a framework has of its own, by name."""
    found: dict[str, str | None] = {}
    for name, check in framework.MORE.items():
        provider.follow(())
        found[name] = None
        try:
            check(provider)
        except Exception:  # noqa: BLE001 - told to the test
            found[name] = traceback.format_exc()
    return found


def main(name: str, file: Path) -> None:
    """Play everything."""
    framework: Any = importlib.import_module(f"tests.libraries.drivers.endings_{name}")
    prefix = name.replace("_", "-")
    serve_metrics("127.0.0.1", 0, os.environ[REGISTER], scrape_wait=0)
    with Provider() as provider:
        outcomes = [
            _play(framework, provider, scenario, on_stop, prefix)
            for scenario in SCENARIOS
            if scenario.kind in framework.KINDS
            for on_stop in ON_STOP
        ]
        result = {
            "outcomes": outcomes,
            "fifty": list(_fifty(framework, provider, prefix)),
            "more": _more(framework, provider),
        }
    file.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
