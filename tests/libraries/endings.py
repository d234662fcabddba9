"""How runs end with real frameworks: drivers in their environments, under one real sidecar."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.libraries.drivers.endings import REGISTER, SCENARIOS, SIDECAR, TOKEN
from tests.libraries.environments import ROOT, python_of
from tests.libraries.live import AT_ONCE, DriverError
from tests.libraries.provider.conversation import FINAL
from tests.support.figures import length
from tests.support.processes import sidecar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Seconds for one framework: a minute where nothing else is done.
_TIMEOUT: Final = 400
#: Runs that each are to end with an answer; fifty at full length.
RUNS: Final = length(12, 50)
_ADMIN: Final = "an-operators-token-of-these-tests"
#: Tokens that every run with a sidecar may use, and those with a user, whose budget is lower.
CEILING, BUDGET = 3000, 2000
#: Why a run may be stopped in time, by scenario.
REASONS: Final[Mapping[str, frozenset[str]]] = {
    "operator": frozenset({"operator_stop"}),
    "operator_now": frozenset({"operator_stop"}),
}
_IN_TIME: Final = frozenset({"wrap_up", "approaching_limit"})


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework whose endings are played."""

    name: str
    """Of its module, ``drivers/endings_NAME.py``."""
    environment: str
    """Names the file in ``requirements``."""
    kinds: tuple[str, ...]
    """As in its module."""
    variables: tuple[tuple[str, str], ...] = ()
    """Set in the environment of the process."""


_AGENTS: Final = ("plain", "stream", "sub_agent", "parallel_tools", "structured")
#: Of those whose loop is the application's own.
_LOOPS: Final = ("plain", "stream", "structured")
FRAMEWORKS: Final = (
    Framework("langchain", "langchain", _AGENTS),
    Framework("openai_sdk", "sdks", _LOOPS),
    Framework("anthropic_sdk", "sdks", _LOOPS),
    Framework("litellm", "litellm", _LOOPS),
    Framework("pydantic_ai", "sdks", _AGENTS),
    Framework("openai_agents", "agents", _AGENTS),
)
BY_NAME: Final = {each.name: each for each in FRAMEWORKS}


def cases() -> Iterator[tuple[str, str, str]]:
    """Yield framework, scenario and ``on_stop`` of every run."""
    for framework in FRAMEWORKS:
        for scenario in SCENARIOS:
            if scenario.kind in framework.kinds:
                yield framework.name, scenario.name, "raise"
                yield framework.name, scenario.name, "wrap_up"


class Endings:
    """The drivers that play, by the name of the framework; close it."""

    def __init__(self, names: Iterable[str]) -> None:
        """Begin a sidecar, and with it to play."""
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._sidecar = self._stack.enter_context(_sidecar(self._folder))
        self._pool = self._stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        wanted = [BY_NAME[name] for name in dict.fromkeys(names)]
        pythons = {
            environment: self._pool.submit(python_of, environment)
            for environment in dict.fromkeys(each.environment for each in wanted)
        }
        self._results = {
            each.name: self._pool.submit(self._play, each, pythons[each.environment])
            for each in wanted
        }

    def of(self, name: str) -> dict[str, Any]:
        """Wait for what a framework's driver saw. Raises NoEnvironmentError or DriverError."""
        return self._results[name].result()

    def close(self) -> None:
        """Wait for what runs, and end the sidecar."""
        self._stack.close()

    def _play(self, framework: Framework, python: Future[Path]) -> dict[str, Any]:
        file = self._folder / f"{framework.name}.json"
        kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        ours = {
            SIDECAR: self._sidecar.url, TOKEN: _ADMIN, REGISTER: str(self._folder / "agents"),
            "OTEL_BUDGET_ENDINGS": str(RUNS), "OPENAI_API_KEY": "sk-fake",
            "PYTHONWARNINGS": "ignore",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True", **dict(framework.variables),
        }  # fmt: skip
        done = subprocess.run(
            [python.result(), "-m", "tests.libraries.drivers.endings", framework.name, file],
            capture_output=True, text=True, timeout=_TIMEOUT, check=False, cwd=ROOT,
            env=kept | ours,
        )  # fmt: skip
        if done.returncode != 0 or not file.exists():
            said = (done.stdout + done.stderr).strip()[-3000:]
            raise DriverError(f"{framework.name} ended with {done.returncode}:\n{said}")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found | {"stderr": done.stderr}


def _sidecar(folder: Path) -> Any:
    """Run a sidecar with a ceiling, and a budget for each user."""
    (folder / "agents").mkdir()
    (folder / "admin").write_text(_ADMIN)
    config = {
        "source": {"scrape": {"file_sd": [f"{folder}/agents/*.json"], "interval": "100ms"}},
        "resource_limits": {"max_tokens": CEILING},
        "budgets": [
            {"name": "users", "match": {"user": "*"}, "per": ["user"], "window": "total",
             "limits": {"max_tokens": BUDGET}},
        ],
        "listen": {"address": "127.0.0.1:0", "admin_token_file": str(folder / "admin")},
        "storage": {"path": str(folder / "ledger.db")},
    }  # fmt: skip
    file = folder / "sidecar.yaml"
    file.write_text(json.dumps(config))
    return sidecar(folder, config=file)


def wrong_with(outcome: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with how a run ended; nothing: it ended as it should."""
    if outcome["error"] is not None:
        return [str(outcome["error"])]
    now = outcome["scenario"] == "operator_now"
    raises = now or outcome["on_stop"] == "raise"
    found = list((_wrong_raise if raises else _wrong_wrap_up)(outcome))
    counted = [outcome["calls"], outcome["tokens"]]
    served = [len(outcome["asked"]), sum(tokens for _, _, tokens in outcome["asked"])]
    if counted != served:
        found.append(f"calls and tokens: {served} were served, {counted} were counted")
    for name, used in (("max_api_calls", "calls"), ("max_tokens", "tokens")):
        limit = outcome["limits"].get(name)
        if limit is not None and outcome[used] > limit:
            found.append(f"{outcome[used]} of {limit} {used}")
    found += [f"logged: {line}" for line in outcome["lines"]]
    return found


def _wrong_raise(outcome: Mapping[str, Any]) -> Iterator[str]:
    raised = outcome["raised"]
    if raised is None:
        yield f"nothing was raised; answer {outcome['answer']!r}"
        return
    yield from _wrong_reason(outcome, raised["reason"])
    if not raised["finished"]:
        yield "it does not say what was finished"
    if any(told or not tools for tools, told, _ in outcome["asked"]):
        yield "a last call was made"


def _wrong_wrap_up(outcome: Mapping[str, Any]) -> Iterator[str]:
    if outcome["raised"] is not None:
        yield f"raised: {outcome['raised']}"
        return
    if outcome["answer"] != FINAL:
        yield f"the answer is {outcome['answer']!r}"
    mark = outcome["cut_short"]
    if mark is None:
        yield "the answer is not marked as cut short"
    else:
        yield from _wrong_reason(outcome, mark["reason"])
    *before, last = outcome["asked"]
    if last[0] or not last[1]:
        yield f"the last call had tools {last[0]}, told to answer: {last[1]}"
    if any(told or not tools for tools, told, _ in before):
        yield "there was more than one last call"


def _wrong_reason(outcome: Mapping[str, Any], reason: str) -> Iterator[str]:
    if reason not in REASONS.get(outcome["scenario"], _IN_TIME):
        yield f"reason {reason}"


def overruns(runs: Iterable[Any]) -> list[float]:
    """Return by how much of its limit each of fifty runs went over it; 0: it did not."""
    return [max(0, used - limit) / limit for limit, used, *_ in runs]
