"""From the token that crosses a limit to the run's callback, beside a rule and an Alertmanager."""

from __future__ import annotations

import bisect
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.crossing import LIMIT
from benchmarks.report import Goal, Report
from benchmarks.rounds import steps
from otel_budget.demo.recordings import load
from tests.support.processes import sidecar, until
from tests.support.prometheus_process import JOB, alertmanager_with, prometheus_with

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SPEEDS = (1, 10, 100)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to hear of a crossing. Seconds throughout."""

    name: str
    scrape: float = 1.0
    """Between two scrapes, of the sidecar or of the Prometheus."""
    prometheus: bool = False
    """The sidecar reads a Prometheus."""
    webhook: bool = False
    """No sidecar: a rule, an Alertmanager and a webhook."""
    group_wait: float = 0.0
    nudge: bool = False
    own: bool = False
    """The run has the limit itself."""
    runs: int = 60
    """In one process."""
    rounds: int = 1
    window: float = 8.0
    """In which the runs cross."""
    patience: float = 10.0
    slow: bool = False


OWN = Way("own limits, in the process", own=True, window=2.0)
NUDGED = Way("sidecar, direct scrape every 15 s, nudged", scrape=15.0, nudge=True, runs=5,
             rounds=8, window=2.0)  # fmt: skip
DIRECT = Way("sidecar, direct scrape every 1 s, no nudge")
DIRECT_FAST = Way("sidecar, direct scrape every 200 ms, no nudge", scrape=0.2)
WAYS = (
    OWN,
    NUDGED,
    Way("the same, 60 runs in the process", scrape=15.0, nudge=True),
    DIRECT,
    DIRECT_FAST,
    Way("sidecar through Prometheus, 1 s", prometheus=True),
    Way("rule, Alertmanager, webhook: 1 s, 1 s, 0 s", webhook=True),
    Way("rule, Alertmanager, webhook: 200 ms, 200 ms, 0 s", scrape=0.2, webhook=True),
    Way("sidecar through Prometheus, 15 s", scrape=15.0, prometheus=True, window=15.0,
        patience=60.0, slow=True),
    Way("rule, Alertmanager, webhook: 15 s, 15 s, 30 s", scrape=15.0, webhook=True,
        group_wait=30.0, window=15.0, patience=120.0, slow=True),
)  # fmt: skip


def run(*, quick: bool) -> Report:
    """Measure each way, with real processes."""
    ways = [way for way in WAYS if not (quick and way.slow)]
    took: dict[str, list[float]] = {way.name: [] for way in ways}
    todo = [way for way in ways for _ in range(1 if quick else way.rounds)]
    for number in steps(len(todo), "ways to hear of it"):
        took[todo[number].name] += _measure(todo[number], 10 if quick else todo[number].runs)
    rows = tuple((way.name, *_row(took[way.name])) for way in ways)
    return Report(
        title="From the crossing of a limit to the run's callback",
        about=(
            "40 to 60 runs cross at random moments; they, sidecar, Prometheus (with its rule) and "
            "Alertmanager are processes of their own on the loopback interface. Own limits apart, "
            "the limit is known to the sidecar, or the rule, alone. Overshoot: what "
            "a run of the recorded coding agent, which makes no pause, spends after its crossing "
            "until it hears of it; mean over all its calls and all latencies, at its own speed, "
            "and 10 and 100 times as fast."
        ),
        columns=("", "p50", "p95", *(f"tokens over, {speed}x" for speed in _SPEEDS)),
        rows=rows,
        goals=(
            _goal(DIRECT, took, 50, 600), _goal(DIRECT, took, 95, 1100),
            _goal(DIRECT_FAST, took, 95, 250),
            _goal(NUDGED, took, 50, 20), _goal(NUDGED, took, 95, 50),
        ),
    )  # fmt: skip


def _goal(way: Way, took: dict[str, list[float]], share: int, most: float) -> Goal:
    found = _percentile(took[way.name], share) * 1e3
    return Goal(f"{way.name}, p{share} in ms", found, most, 1)


def _row(seconds: Sequence[float]) -> tuple[str, ...]:
    over = (f"{_overshoot(seconds, speed):,.0f}" for speed in _SPEEDS)
    return (*(_words(_percentile(seconds, share)) for share in (50, 95)), *over)


def _words(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def _overshoot(seconds: Sequence[float], speed: int) -> float:
    """Return the mean tokens of the recorded calls that end within the latency of a crossing."""
    over = []
    for provider in ("claude", "codex"):
        calls = load(provider)
        ends = [call.ended for call in calls]
        tokens = [call.input_tokens + call.output_tokens for call in calls]
        for latency in seconds:
            for number, at in enumerate(ends):
                last = bisect.bisect_right(ends, at + latency * speed, lo=number)
                over.append(sum(tokens[number + 1 : last]))
    return statistics.fmean(over)


def _measure(way: Way, runs: int) -> list[float]:
    """Return the seconds it took each run."""
    options = {"runs": runs, "window": way.window, "patience": way.patience,
               "nudge": way.nudge, "own_limit": way.own}  # fmt: skip
    agents = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.crossing", json.dumps(options)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    assert agents.stdin is not None
    assert agents.stdout is not None
    with ExitStack() as stack:
        stack.callback(agents.wait)
        stack.callback(agents.kill)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        said = json.loads(agents.stdout.readline())
        url, known = _start(stack, folder, way, said)
        agents.stdin.write(f"{url}\n")
        agents.stdout.readline()
        until(lambda: known() == runs, seconds=60)
        agents.stdin.write("go\n")
        found: list[float] = json.loads(agents.stdout.readline())
    if len(found) < runs:
        raise RuntimeError(f"{way.name}: {runs - len(found)} of {runs} runs heard nothing")
    return found


def _start(
    stack: ExitStack, folder: Path, way: Way, said: dict[str, str]
) -> tuple[str, Callable[[], int]]:
    """Start who tells them; return the sidecar's URL, and what counts the runs that are known."""
    if way.own:
        return "-", lambda: _runs_on(said["metrics"])
    target = urllib.parse.urlsplit(said["metrics"]).netloc
    prometheus = ""
    if way.webhook:
        config = {
            "route": {
                "receiver": "run",
                "group_by": ["session_id"],
                "group_interval": "1s",
                "group_wait": f"{int(way.group_wait)}s",
            },
            "receivers": [{"name": "run", "webhook_configs": [{"url": said["webhook"]}]}],
        }
        address = stack.enter_context(alertmanager_with(folder, config))
        prometheus = _prometheus(stack, folder, way.scrape, target, address)
        return "-", lambda: _count(prometheus)
    flags = ["--target", said["metrics"], "--interval", str(way.scrape)]
    if way.prometheus:
        prometheus = _prometheus(stack, folder, way.scrape, target)
        flags = ["--prometheus", prometheus, "--interval", str(min(way.scrape / 4, 5.0))]
    process = stack.enter_context(sidecar(folder, *flags, "--max-tokens", str(LIMIT)))
    return process.url, lambda: _followed(process.url)


def _prometheus(
    stack: ExitStack, folder: Path, scrape: float, target: str, alertmanager: str = ""
) -> str:
    rule = {
        "alert": "OverBudget",
        "expr": f"otel_budget_tokens_total >= {LIMIT}",
        "labels": {"severity": "critical"},
    }
    rules = folder / "rules.json"
    rules.write_text(json.dumps({"groups": [{"name": "budget", "rules": [rule]}]}))
    every = f"{int(scrape * 1000)}ms"
    config: dict[str, Any] = {
        "global": {
            "scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every,
        },
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": [target]}]}],
    }  # fmt: skip
    if alertmanager:
        config["rule_files"] = [str(rules)]
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    file = folder / "prometheus.json"
    file.write_text(json.dumps(config))
    return stack.enter_context(prometheus_with(folder, file))


def _runs_on(metrics: str) -> int:
    return _get(metrics).count("\notel_budget_tokens_total{")


def _count(prometheus: str) -> int:
    query = urllib.parse.quote("count(otel_budget_tokens_total)")
    result = json.loads(_get(f"{prometheus}/api/v1/query?query={query}"))["data"]["result"]
    return int(result[0]["value"][1]) if result else 0


def _followed(url: str) -> int:
    """Return the number of runs that are judged, if each listens."""
    judged = len(json.loads(_get(f"{url}/v1/verdicts?limit=1000"))["verdicts"])
    return judged if f"otel_budget_sidecar_subscribers {judged}.0" in _get(f"{url}/metrics") else -1


def _get(url: str) -> str:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own
                text: str = answer.read().decode()
                return text
        except urllib.error.HTTPError:  # not ready yet
            time.sleep(0.1)
    raise RuntimeError(f"{url} does not become ready")
