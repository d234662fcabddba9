"""What must not matter to shared budgets: a step done twice, their order, edits of their limits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.budget import Budget, Group, Mode, WhenLow, Window, WindowKind
from otel_budget.core.observation import RunObservation
from otel_budget.core.quantities import Number
from otel_budget.sidecar.tick_result import TickResult
from tests.support.figures import length
from tests.unit.sidecar.test_shared_budgets import DAY, TOTAL, Steps, rules, run

T = TypeVar("T")

IDS = ("one", "two", "three", "four")
few = settings(max_examples=length(30, 1000), deadline=None)

amounts = st.tuples(st.integers(0, 400), st.integers(0, 4), st.integers(0, 300))
"""Tokens, calls, and hundredths of a dollar: what a run uses more."""


class Step(NamedTuple):
    """What happens before one tick."""

    after: float
    used: tuple[tuple[int, int, int], ...]
    """More of each run."""
    seen: tuple[bool, ...]
    """Whether each run is in the reading."""
    ended: tuple[bool, ...]
    """Whether it says that it is over."""


class History(NamedTuple):
    """A few runs, and what they use."""

    users: tuple[str, ...]
    teams: tuple[str, ...]
    progress: tuple[float | None, ...]
    steps: tuple[Step, ...]

    def readings(self) -> Iterator[tuple[float, list[RunObservation]]]:
        """Yield the seconds before each reading, and the runs in it."""
        sums = [(0, 0, 0)] * len(self.users)
        for step in self.steps:
            sums = [
                (was[0] + more[0], was[1] + more[1], was[2] + more[2])
                for was, more in zip(sums, step.used, strict=True)
            ]
            yield step.after, [self._shown(n, sums[n], step) for n in self._in(step)]

    def _in(self, step: Step) -> list[int]:
        return [number for number, is_seen in enumerate(step.seen) if is_seen]

    def _shown(self, number: int, used: tuple[int, int, int], step: Step) -> RunObservation:
        tokens, calls, cents = used
        shown = run(
            IDS[number], tokens, calls=calls, progress=self.progress[number],
            state="completed" if step.ended[number] else "running",
            team=self.teams[number], user=self.users[number],
        )  # fmt: skip
        cost: Number = Decimal(cents) / 100
        return shown._replace(counters={**shown.counters, (semconv.COST, ""): cost})


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw two to four runs in one to five readings, perhaps over days."""
    count = draw(st.integers(2, 4))

    def each(values: st.SearchStrategy[T]) -> st.SearchStrategy[tuple[T, ...]]:
        return st.tuples(*[values] * count)

    step = st.builds(
        Step,
        st.sampled_from([1.0, 4.0, 6.0, 700.0, 4000.0, 90_000.0]),
        each(amounts),
        each(st.sampled_from([True, True, True, False])),
        each(st.sampled_from([False, False, False, True])),
    )
    return History(
        draw(each(st.sampled_from(["ann", "bob"]))),
        draw(each(st.sampled_from(["a", "b", ""]))),
        draw(each(st.sampled_from([None, 0.2, 0.95]))),
        tuple(draw(st.lists(step, min_size=1, max_size=5))),
    )


WINDOWS = {
    "day": (DAY, ()),
    "rolling": (Window(WindowKind.ROLLING, 3600.0), ()),
    "total": (TOTAL, ("team", "user")),
}

tokens: st.SearchStrategy[Number] = st.integers(0, 2000)
calls: st.SearchStrategy[Number] = st.integers(0, 20)
dollars: st.SearchStrategy[Number] = st.integers(0, 1000).map(lambda cents: Decimal(cents) / 100)
limits = st.fixed_dictionaries(
    {semconv.TOKENS: tokens}, optional={semconv.API_CALLS: calls, semconv.COST: dollars}
)
thresholds = st.sampled_from([0.5, 0.8, 0.95])
modes = st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.SHADOW])


@st.composite
def budget_sets(draw: st.DrawFn) -> tuple[Budget, ...]:
    """Draw two or three budgets, each with another kind of window."""
    names = draw(st.lists(st.sampled_from(sorted(WINDOWS)), min_size=2, unique=True))
    return tuple(
        Budget(
            name, WINDOWS[name][0], draw(limits),
            match=draw(st.sampled_from([{}, {"team": ("a", "b")}])), per=WINDOWS[name][1],
            warning_threshold=draw(thresholds), when_low=draw(st.sampled_from(WhenLow)),
            mode=draw(modes),
        )
        for name in names
    )  # fmt: skip


@st.composite
def edits(draw: st.DrawFn) -> tuple[tuple[Budget, ...], tuple[Budget, ...]]:
    """Draw budgets, and the same with other limits, warning lines, titles and modes."""
    before = draw(budget_sets())
    after = tuple(
        replace(
            one, limits=draw(limits), warning_threshold=draw(thresholds), mode=draw(modes),
            title=draw(st.sampled_from(["", "of the team"])),
        )
        for one in before
    )  # fmt: skip
    return before, after


@contextmanager
def begun(*budgets: Budget) -> Iterator[Steps]:
    """Give a sidecar with a storage of its own."""
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(Path(folder), *budgets)
        try:
            yield steps
        finally:
            steps.storage.close()


def only_tick(steps: Steps) -> TickResult:
    """Do a step at the same time, without a reading."""
    steps.result = steps.evaluator.tick(None, steps.rules, 3600, steps.now)
    return steps.result


Used = dict[tuple[str, Group], tuple[float, dict[str, Number]]]


def used(result: TickResult) -> Used:
    """Return since when each group of each budget is counted, and what it used."""
    return {
        (name, group): (one.counted_from, {k: r.used for k, r in one.state.resources.items()})
        for name, report in result.budgets.items()
        for group, one in report.groups.items()
    }


def said(result: TickResult) -> dict[str, object]:
    """Return what each run is told, and the budgets that it is told of."""
    return {
        v.session_id: (
            v.action, v.status, str(v.reason), v.limit_from, v.would and v.would[:4],
            [(b.origin, b.mode, b.status, b.binds) for b in v.budgets],
        )
        for v in result.verdicts
    }  # fmt: skip


def sequences(result: TickResult) -> dict[str, int | None]:
    """Return the number of each verdict."""
    return {verdict.session_id: verdict.sequence for verdict in result.verdicts}


@few
@given(histories(), budget_sets())
def test_a_step_that_is_done_twice_changes_nothing(
    history: History, budgets: tuple[Budget, ...]
) -> None:
    """The same reading again, none, and none under rules that are equal, all at the same time."""
    with begun(*budgets) as steps:
        for after, runs in history.readings():
            once = steps.step(*runs, after=after)
            again = [steps.step(*runs, after=0), only_tick(steps)]
            steps.rules = rules(*budgets)
            again.append(only_tick(steps))
            for result in again:
                assert result.changes == ()
                assert said(result) == said(once)
                assert sequences(result) == sequences(once)
                assert used(result) == used(once)


@few
@given(histories(), budget_sets(), st.data())
def test_the_order_of_the_budgets_changes_nothing(
    history: History, budgets: tuple[Budget, ...], data: st.DataObject
) -> None:
    """Another one from the beginning on, and another one at each step."""
    other = data.draw(st.permutations(budgets))
    with begun(*budgets) as one, begun(*other) as two, begun(*budgets) as edited:
        for after, runs in history.readings():
            edited.rules = rules(*data.draw(st.permutations(budgets)))
            first = one.step(*runs, after=after)
            for steps in (two, edited):
                result = steps.step(*runs, after=after)
                assert said(result) == said(first)
                assert used(result) == used(first)


@few
@given(histories(), edits(), st.data())
def test_an_edit_of_limits_changes_nothing_of_what_was_used(
    history: History, edit: tuple[tuple[Budget, ...], tuple[Budget, ...]], data: st.DataObject
) -> None:
    """What was used is the same as if those limits had held from the beginning on."""
    before, after = edit
    edited_at = data.draw(st.integers(0, len(history.steps) - 1))
    with begun(*before) as edited, begun(*after) as always, begun(*before) as never:
        for number, (seconds, runs) in enumerate(history.readings()):
            kept = used(never.step(*runs, after=seconds))
            expected = used(always.step(*runs, after=seconds))
            found = used(edited.step(*runs, after=seconds))
            assert found == (expected if number > edited_at else kept)
            if number == edited_at:
                edited.rules = rules(*after)
                assert used(only_tick(edited)) == expected
                assert used(edited.step(*runs, after=0)) == expected
        edited.restart()
        assert used(only_tick(edited)) == used(only_tick(always))
