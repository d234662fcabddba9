"""Every way in which data can be bad, brought about through every source, and what becomes of it.

Each has a reason of its own, holds the last action for the configured time, then does what is
configured for no data, and counts in a metric. None of them is ever "0 used".
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.reasons import Action
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.loop import Loop
from otel_budget.sidecar.metrics import SidecarMetrics
from otel_budget.sidecar.settings import Settings
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from otel_budget.sources.base import Source
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from tests.conformance.rig import MATCHERS, Rig
from tests.support.exposition import line, page
from tests.support.figures import note
from tests.support.http_server import serving

_numbers = itertools.count(1)
#: Seconds. The clock is the real one, moved on by hand.
STALE_AFTER, HOLD = 5.0, 60.0
USED = 500


class Sidecar:
    """A sidecar without its process, on a real source, under a clock that can be moved on."""

    def __init__(self, rig: Rig, folder: Path, on_no_data: Action) -> None:
        """Put it together."""
        self.rig, self._ahead = rig, 0.0
        self._storage, restored = open_sqlite(str(folder / "ledger.db"))
        self.broadcaster = VerdictBroadcaster(15.0, self.clock)
        self.metrics = SidecarMetrics("1", self.clock, lambda: 0)
        self.rules = Rules(
            ceilings=bounds_from({semconv.TOKENS: 1000}, {}, "sidecar"),
            stale_after=STALE_AFTER, hold=HOLD, on_no_data=on_no_data,
        )  # fmt: skip
        self._runner = asyncio.Runner()
        self.loop = self._runner.run(self._made(Evaluator(self._storage, restored, self.clock())))

    async def _made(self, evaluator: Evaluator) -> Loop:
        settings = self._settings(self.rig.backend.make(self.clock))
        return Loop(
            settings,
            evaluator=evaluator,
            broadcaster=self.broadcaster,
            metrics=self.metrics,
            clock=self.clock,
        )

    def _settings(self, source: Source) -> Settings:
        return Settings("source", source, 1.0, self.rules, 3600.0)

    def clock(self) -> float:
        """Return the time."""
        return time.time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._ahead += seconds

    def read_from(self, source: Source) -> None:
        """Read from another source from now on."""
        self.loop.change_settings(self._settings(source))

    def tick(self) -> None:
        """Read, judge and publish."""
        self._runner.run(self.loop.tick())

    def verdict(self, run: str) -> Verdict | None:
        """Return what is published of a run."""
        published = self.broadcaster.get(run)
        return None if published is None else published.verdict

    def told_of(self, reason: str) -> float:
        """Return how often a run became inconclusive for a reason, or vanished."""
        text = self.metrics.exposition("")[0].decode()
        name = f'otel_budget_sidecar_inconclusive_total{{reason="{reason}"}} '
        if reason == "stale_data":
            name = "\notel_budget_sidecar_vanished_runs_total "
        return float(text.partition(name)[2].partition("\n")[0])

    def close(self) -> None:
        """Let go of everything."""
        self._runner.run(self.loop.settings.source.close())
        self._runner.close()
        self._storage.close()


def warning_server(behind: str, without: str) -> AbstractContextManager[str]:
    """Serve what a Prometheus answers, with a warning, and without a metric; yield the URL."""

    def answer(path: str, form: bytes) -> tuple[int, bytes]:
        asked = urllib.request.Request(behind + path, form)
        with urllib.request.urlopen(asked, timeout=5) as response:
            found = json.load(response)
        found["warnings"] = ["a store did not answer"]
        rows = found["data"]["result"]
        found["data"]["result"] = [r for r in rows if r["metric"].get("__name__") != without]
        return 200, json.dumps(found).encode()

    return serving(answer)


@pytest.fixture
def run() -> str:
    """The id of a run that no other test has."""
    return f"state-{next(_numbers)}"


@pytest.fixture(params=["stop", "continue"])
def sidecar(request: pytest.FixtureRequest, rig: Rig, tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar for each of the two actions that can be configured."""
    made = Sidecar(rig, tmp_path, Action(request.param))
    yield made
    made.close()


def well(run: str, tokens: int | str = USED) -> str:
    """Return what a run in good order shows."""
    return page(line(semconv.SESSION_TOKENS, tokens, run), line(semconv.SESSION_API_CALLS, 1, run))


def goes_silent(sidecar: Sidecar, _run: str) -> None:
    """Its target answers, and does not show it any more: it has vanished."""
    sidecar.rig.put("")


def is_not_reached(sidecar: Sidecar, _run: str) -> None:
    """What is to be read from does not answer."""
    sidecar.read_from(sidecar.rig.backend.broken(sidecar.clock))
    sidecar.rig.put(None, None)


def shows_nonsense(sidecar: Sidecar, run: str) -> None:
    """Its counter is no number that a counter can have."""
    sidecar.rig.put(well(run, sidecar.rig.backend.nonsense))


STATES = {
    "stale_data": goes_silent,
    "source_error": is_not_reached,
    "implausible_data": shows_nonsense,
}


@pytest.mark.parametrize("reason", STATES)
def test_bad_data_have_their_reason_their_action_and_their_metric(
    reason: str, sidecar: Sidecar, run: str
) -> None:
    assert_state(sidecar, run, reason, STATES[reason])


def test_data_that_a_server_says_are_not_whole(rig: Rig, tmp_path: Path, run: str) -> None:
    """Only a server can say so: a page that is cut off is an error of its source."""
    behind = rig.backend.url
    if behind is None:
        return
    for number, action in enumerate(Action):
        (tmp_path / action).mkdir()
        made = Sidecar(rig, tmp_path / action, action)
        with warning_server(behind, semconv.SESSION_API_CALLS.name) as url:
            query = PrometheusSettings(url, matchers=MATCHERS)

            def warns(sidecar: Sidecar, run: str, query: PrometheusSettings = query) -> None:
                sidecar.read_from(PrometheusSource(query, sidecar.clock))
                sidecar.rig.put(well(run))

            assert_state(made, f"{run}-{number}", "partial_data", warns)
            made.close()


def assert_state(
    sidecar: Sidecar, run: str, reason: str, go_wrong: Callable[[Sidecar, str], None]
) -> None:
    """Let a run be well, go wrong, and be well again; hold every step against the contract."""
    sidecar.rig.put(well(run))
    sidecar.tick()
    expected = (Action.CONTINUE, LimitStatus.OK, "within_limits")
    assert gist(sidecar.verdict(run)) == expected
    go_wrong(sidecar, run)
    sidecar.tick()
    sidecar.advance(STALE_AFTER + 1)
    sidecar.tick()
    assert gist(sidecar.verdict(run)) == (Action.CONTINUE, LimitStatus.INCONCLUSIVE, reason)
    assert sidecar.told_of(reason) == 1
    sidecar.advance(HOLD + 1)
    sidecar.tick()
    configured = sidecar.rules.on_no_data
    verdict = sidecar.verdict(run)
    assert gist(verdict) == (configured, LimitStatus.INCONCLUSIVE, reason)
    assert verdict is not None
    assert verdict.resources[semconv.TOKENS].used == USED  # what was known is not forgotten
    sidecar.read_from(sidecar.rig.backend.make(sidecar.clock))
    sidecar.rig.put(well(run, USED + 1))
    sidecar.tick()
    assert gist(sidecar.verdict(run)) == expected
    assert sidecar.told_of(reason) == 1
    note(
        "Never silently open",
        f"{reason}, on_no_data: {configured} ({sidecar.rig.called})",
        f"held for {HOLD:.0f} s, then {configured}; counted; over with the first good sample",
    )


def gist(verdict: Verdict | None) -> tuple[Action, LimitStatus, str] | None:
    """Return what a verdict says."""
    return None if verdict is None else (verdict.action, verdict.status, str(verdict.reason))


def test_what_was_never_seen_has_no_verdict_and_nothing_is_made_up(
    sidecar: Sidecar, run: str
) -> None:
    """A source that is empty is no run at 0, and no error: there is just nobody."""
    sidecar.rig.put("")
    for _ in range(2):
        sidecar.tick()
        assert sidecar.verdict(run) is None
        sidecar.advance(HOLD)
    text = sidecar.metrics.exposition("")[0].decode()
    assert "\notel_budget_sidecar_sessions 0.0\n" in text
    assert "otel_budget_used{" not in text


def test_what_is_exceeded_stays_stopped_in_every_state(sidecar: Sidecar, run: str) -> None:
    """Missing data cannot lower usage."""
    sidecar.rig.put(well(run, 1500))
    sidecar.tick()
    for go_wrong in STATES.values():
        go_wrong(sidecar, run)
        sidecar.advance(STALE_AFTER + HOLD + 10)
        sidecar.tick()
        stopped = (Action.STOP, LimitStatus.EXCEEDED, "limit_exceeded")
        assert gist(sidecar.verdict(run)) == stopped
