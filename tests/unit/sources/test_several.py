"""A source that is asked, and one that is pushed to, as one."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from otel_budget.core.observation import Observation, Problem, RunObservation
from otel_budget.core.reasons import Reason
from otel_budget.sources.replay import ReplaySource
from otel_budget.sources.several import SeveralSources

PUSHED, SCRAPED = 'otlp://127.0.0.1{signal="metrics"}', "http://127.0.0.1:9464/metrics"
ASKED = Observation(
    "scrape",
    10.0,
    sessions=(RunObservation("a", SCRAPED, 9.0, {}),),
    problems=(Problem(SCRAPED, Reason.SOURCE_ERROR, "down"),),
    dropped={"type": 1},
    targets=frozenset({SCRAPED}),
    unmatched={SCRAPED: "nothing"},
)
GIVEN = Observation(
    "otlp", 11.0, sessions=(RunObservation("b", PUSHED, 11.0, {}),), dropped={"type": 2}
)


class Counting(ReplaySource):
    """A source that reads single runs, too, and counts how often it is closed."""

    def __init__(self, observation: Observation, run: Observation | None = None) -> None:
        """run: what it shows of any one."""
        super().__init__([observation])
        self._run, self.closed, self.reads_runs = run, 0, run is not None

    async def read_run(self, session_id: str) -> Observation | None:
        """Return what was given."""
        return self._run

    async def close(self) -> None:
        """Count."""
        self.closed += 1


def test_a_reading_has_what_both_show() -> None:
    """Which targets there are, and whether they are well, says the one that is asked."""
    found = asyncio.run(SeveralSources(ReplaySource([ASKED]), ReplaySource([GIVEN])).read())
    assert [session.session_id for session in found.sessions] == ["a", "b"]
    assert (found.source, found.targets, found.problems) == (
        "scrape", frozenset({SCRAPED}), ASKED.problems,
    )  # fmt: skip
    assert found.dropped == {"type": 3}
    assert found.unmatched == {SCRAPED: "nothing"}


@pytest.mark.parametrize(
    ("asked", "pushed", "sessions"),
    [(False, False, None), (True, False, ["a"]), (False, True, ["b"]), (True, True, ["a", "b"])],
)
def test_a_single_run_is_what_either_shows(
    asked: bool,  # noqa: FBT001 - of the table
    pushed: bool,  # noqa: FBT001
    sessions: list[str] | None,
) -> None:
    """And only the targets that show it were asked."""
    one = replace(ASKED, asked=frozenset({SCRAPED})) if asked else None
    other = replace(GIVEN, asked=frozenset({PUSHED})) if pushed else None
    several = SeveralSources(Counting(ASKED, one), Counting(GIVEN, other))
    found = asyncio.run(several.read_run("a"))
    if sessions is None:
        assert found is None
        return
    assert found is not None
    assert [session.session_id for session in found.sessions] == sessions
    assert found.asked == frozenset(
        target for target, shown in ((SCRAPED, asked), (PUSHED, pushed)) if shown
    )


def test_closing_it_leaves_the_one_that_is_pushed_to() -> None:
    """It outlives an exchange of the other."""
    asked, pushed = Counting(ASKED), Counting(GIVEN)
    asyncio.run(SeveralSources(asked, pushed).close())
    assert (asked.closed, pushed.closed) == (1, 0)
