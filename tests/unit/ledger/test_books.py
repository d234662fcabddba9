"""Books of shared budgets: what is booked where, and what moves it."""

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Group, Window, WindowKind
from otel_budget.core.observation import Observation, RunAttributes, RunObservation, shared_labels
from otel_budget.core.quantities import Number
from otel_budget.ledger.book_values import ClosedWindow, GroupUse
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.ledger import Ledger

TOTAL = Window(WindowKind.TOTAL)
DAY = Window(WindowKind.CALENDAR, every="day")
HOUR = 3600.0
DAYS = 24 * HOUR
MIDNIGHT = dt.datetime(2026, 11, 30, tzinfo=dt.UTC).timestamp()


def budget(name: str = "all", window: Window = TOTAL, **more: Any) -> Budget:
    """Return a budget of 1,000 tokens."""
    return Budget(name, window, {semconv.TOKENS: 1000, **more.pop("limits", {})}, **more)


class Counted:
    """A ledger with budgets, and runs that use."""

    def __init__(self, *budgets: Budget, now: float = 0.0) -> None:
        self.ledger, self.now = Ledger(), now
        self.tokens: dict[str, int] = {}
        self.edit(*budgets)

    def edit(self, *budgets: Budget, at: float | None = None) -> None:
        """Configure other budgets."""
        self.now = self.now if at is None else at
        self.ledger.use_budgets(budgets, self.now)
        self.ledger.books.advance(self.now)

    def tick(self, now: float) -> None:
        """Let time pass."""
        self.now = now
        self.ledger.books.advance(now)

    def use(
        self,
        run: str,
        tokens: int,
        at: float | None = None,
        *,
        late: float = 0.0,
        cost: str | None = None,
        start: float = 0.0,
        target: str = "a",
        unknown: int = 0,
        unpriced: int = 0,
        **labels: str,
    ) -> None:
        """Let a run use more tokens, as a sample of it shows.

        late: seconds that it is old. unknown, unpriced: calls of unknown tokens or price so far.
        """
        self.tick(self.now if at is None else at)
        key = f"{run} {start}"
        self.tokens[key] = self.tokens.get(key, 0) + tokens
        counters: dict[tuple[str, str], Number] = {(semconv.TOKENS, ""): self.tokens[key]}
        if cost is not None:
            counters[semconv.COST, ""] = Decimal(cost)
        attributes = RunAttributes(
            started_at=start, incarnation_at=start, state="running", labels=shared_labels(labels),
            unknown_usage_calls=float(unknown), unpriced_calls=float(unpriced),
        )  # fmt: skip
        sample = RunObservation(run, target, self.now - late, counters, attributes)
        self.ledger.apply(Observation("scrape", self.now, (sample,)))

    def said(self, name: str = "all", *group: str) -> GroupUse:
        """Return what the books say."""
        return self.ledger.books.use_of(name, group)

    def used(self, name: str = "all", *group: str) -> Number | None:
        """Return the tokens in the books."""
        return self.said(name, *group).used.get(semconv.TOKENS)

    def history(self, name: str = "all") -> list[ClosedWindow]:
        """Return what is to be added to closed windows."""
        found = self.ledger.books.unstored().closings
        return sorted((c for c in found if c.budget == name), key=lambda c: c.start)


def test_all_runs_that_match_count_together() -> None:
    """From the first of their tokens on, also those that a first sample shows."""
    counted = Counted(budget(), budget("core", match={"team": ("core", "base")}))
    counted.use("one", 100, 1, team="core")
    counted.use("two", 30, 2, team="base")
    counted.use("three", 7, 3)
    assert (counted.used(), counted.used("core")) == (137, 130)
    counted.use("one", 5, 4, team="core")
    assert (counted.used(), counted.used("core")) == (142, 135)
    assert counted.said().sessions == 3


def test_a_budget_with_per_counts_for_each_combination() -> None:
    """A run without the label is in the group with the empty value."""
    counted = Counted(budget(per=("user",)))
    counted.use("one", 100, 1, user="ann")
    counted.use("two", 30, 2, user="bob")
    counted.use("three", 7, 3)
    counted.use("four", 1, 4, user="ann")
    assert [counted.used("all", user) for user in ("ann", "bob", "")] == [101, 30, 7]
    keys = {name: counted.ledger.books.keys_of(run) for name, run in counted.ledger.runs.items()}
    assert keys["one"] is keys["four"]
    assert keys["three"] == (("all", ("",)),)


def test_use_is_booked_in_the_window_of_its_sample() -> None:
    """Also when it is noticed after the window is over: that changes its report alone."""
    counted = Counted(budget(window=DAY), now=MIDNIGHT)
    counted.use("one", 100, MIDNIGHT + DAYS - 10)
    counted.use("one", 20, MIDNIGHT + DAYS + 5, late=6)
    counted.use("one", 3, MIDNIGHT + DAYS + 20)
    said = counted.said()
    assert said.used == {semconv.TOKENS: 3}
    assert said.span[:] == (MIDNIGHT + DAYS, MIDNIGHT + 2 * DAYS, MIDNIGHT + 2 * DAYS)
    (closed,) = counted.history()
    assert (closed.start, closed.end) == (MIDNIGHT, MIDNIGHT + DAYS)
    assert closed.used == {semconv.TOKENS: 120_000}
    assert closed.limits == {semconv.TOKENS: 1000}


def test_a_rolling_window_holds_a_bucket_until_all_of_it_has_left() -> None:
    """A bucket is a minute here."""
    counted = Counted(budget(window=Window(WindowKind.ROLLING, HOUR)), now=MIDNIGHT)
    counted.use("one", 100, MIDNIGHT + 61)
    counted.use("one", 20, MIDNIGHT + 119)
    counted.use("one", 3, MIDNIGHT + 120)
    counted.tick(MIDNIGHT + HOUR + 119)
    assert counted.used() == 123
    revision = counted.said().revision
    counted.tick(MIDNIGHT + HOUR + 120)
    assert counted.used() == 3
    assert counted.said().revision != revision
    assert counted.said().span == (MIDNIGHT + 120, math.inf, None)
    counted.tick(MIDNIGHT + 3 * HOUR)
    assert counted.used() == 0
    assert sum(int(c.used[semconv.TOKENS]) for c in counted.history()) == 123_000


def test_a_rolling_budget_that_is_edited_leaves_a_row_for_each_length_of_its_window() -> None:
    """Not one for each bucket: there may be a thousand of them in each of a thousand groups."""
    day = Window(WindowKind.ROLLING, DAYS)
    counted = Counted(budget(window=day), now=MIDNIGHT)
    for minute in range(0, 1200, 10):
        counted.use("one", 1, MIDNIGHT + 60.0 * minute)
    counted.edit(budget(window=day, weights={"cache_read": 100}))
    (closed,) = counted.history()
    assert (closed.start, closed.end) == (MIDNIGHT, MIDNIGHT + DAYS)
    assert closed.used[semconv.TOKENS] == 120_000


def test_a_run_that_has_used_nothing_yet_opens_no_window_from_first_use() -> None:
    """It shows so before its first call."""
    counted = Counted(budget(window=Window(WindowKind.FIRST_USE, HOUR)), now=MIDNIGHT)
    counted.use("one", 0, MIDNIGHT + 10)
    assert counted.said().span.resets_at is None
    counted.use("one", 5, MIDNIGHT + 600)
    assert counted.said().span == (MIDNIGHT + 600, MIDNIGHT + 4200, MIDNIGHT + 4200)


def test_a_window_from_first_use_opens_by_group() -> None:
    """The next opens at the first use after its end."""
    window = Window(WindowKind.FIRST_USE, 5 * HOUR)
    counted = Counted(budget(window=window, per=("user",)), now=MIDNIGHT)
    assert counted.said("all", "ann").span.resets_at is None
    counted.use("one", 100, MIDNIGHT + 100, user="ann")
    counted.use("two", 30, MIDNIGHT + HOUR, user="bob")
    counted.use("one", 1, MIDNIGHT + 2 * HOUR, user="ann")
    assert counted.said("all", "ann").opened_at == MIDNIGHT + 100
    assert counted.said("all", "bob").span.resets_at == MIDNIGHT + 6 * HOUR
    counted.tick(MIDNIGHT + 5 * HOUR + 100)
    assert counted.said("all", "ann").opened_at is None
    assert counted.said("all", "ann").used == {}
    assert counted.used("all", "bob") == 30
    counted.use("one", 7, MIDNIGHT + 8 * HOUR, user="ann")
    assert (counted.used("all", "ann"), counted.said("all", "ann").opened_at) == (
        7, MIDNIGHT + 8 * HOUR,
    )  # fmt: skip


def test_a_new_budget_counts_from_the_step_in_which_it_appears() -> None:
    """Other limits hold at once and change no use; another match begins anew."""
    counted = Counted()
    counted.use("one", 500, 1, team="core")
    counted.edit(budget(), at=2)
    counted.use("one", 5, 3, team="core")
    counted.use("two", 100, 4)
    assert (counted.used(), counted.said().counted_from) == (105, 2)
    counted.edit(budget(limits={semconv.TOKENS: 10, semconv.COST: Decimal(1)}), at=5)
    assert (counted.used(), counted.said().counted_from) == (105, 2)
    counted.edit(budget(match={"team": ("*",)}), at=6)
    counted.use("one", 7, 7, team="core")
    counted.use("two", 7, 7)
    assert (counted.used(), counted.said().counted_from) == (7, 6)
    (closed,) = counted.history()
    assert (closed.used, closed.counted_from) == ({semconv.TOKENS: 105_000}, 2)


def test_a_budget_that_comes_back_goes_on() -> None:
    """What was used while it was out is not in it."""
    counted = Counted(budget(), budget("other"))
    counted.use("one", 100, 1)
    counted.edit(budget("other"), at=2)
    counted.use("one", 50, 3)
    counted.edit(budget(), budget("other"), at=4)
    counted.use("one", 7, 5)
    assert (counted.used(), counted.used("other")) == (107, 157)
    assert counted.said().counted_from == 0
    assert sum(int(c.used[semconv.TOKENS]) for c in counted.history()) == 107_000


def test_a_change_of_labels_counts_from_the_change_and_is_flagged_once() -> None:
    """What it used before stays where it was."""
    counted = Counted(budget(per=("team",)))
    counted.use("one", 100, 1, team="core")
    counted.use("one", 20, 2, team="base")
    counted.use("one", 3, 3, team="base")
    assert (counted.used("all", "core"), counted.used("all", "base")) == (100, 23)
    (found,) = counted.ledger.findings
    assert (found.kind, found.what) == (FindingKind.LABELS_CHANGED, "team")
    assert counted.said("all", "core").sessions == 0


def test_groups_are_bounded_and_the_rest_is_counted_together() -> None:
    """It is said once; a run that is known keeps its group."""
    counted = Counted(budget(per=("user",), groups_max=2))
    for number in range(5):
        counted.use(f"run-{number}", 10, number + 1, user=f"u{number}")
    counted.use("run-0", 1, 9, user="u0")
    other: Group = None
    assert (counted.used("all", "u0"), counted.used("all", "u1")) == (11, 10)
    assert counted.ledger.books.use_of("all", other).used == {semconv.TOKENS: 30}
    assert counted.ledger.books.refused("all") == 3
    assert [found.kind for found in counted.ledger.findings] == [FindingKind.GROUPS_FULL]


def test_a_group_without_use_in_any_kept_window_gives_its_place_back() -> None:
    """The window before the present one is kept."""
    counted = Counted(budget(window=DAY, per=("user",), groups_max=1), now=MIDNIGHT)
    counted.use("one", 10, MIDNIGHT + 1, user="ann")
    counted.ledger.forget(MIDNIGHT + HOUR, 60.0)
    counted.tick(MIDNIGHT + DAYS)
    assert list(counted.ledger.books.groups_of("all")) == [("ann",)]
    counted.tick(MIDNIGHT + 2 * DAYS)
    assert list(counted.ledger.books.groups_of("all")) == []
    counted.use("two", 7, MIDNIGHT + 2 * DAYS + 1, user="bob")
    assert counted.used("all", "bob") == 7


@pytest.mark.parametrize(
    ("used", "share", "overrun", "carried"),
    [
        (300, 0.5, False, {semconv.TOKENS: 500}),
        (800, 0.5, False, {semconv.TOKENS: 200}),
        (1300, 0.5, False, {}),
        (1300, 0.5, True, {semconv.TOKENS: -300}),
        (300, 0.0, True, {}),
    ],
)
def test_what_is_left_is_carried_up_to_a_share(
    used: int, share: float, carried: dict[str, Number], *, overrun: bool
) -> None:
    """An overrun only if that is asked for."""
    rules = budget(window=DAY, carry_over=share, carry_overrun=overrun)
    counted = Counted(rules, now=MIDNIGHT)
    counted.use("one", used, MIDNIGHT + 1)
    assert counted.said().carried == {}
    counted.tick(MIDNIGHT + DAYS)
    assert (counted.said().carried, counted.said().used) == (carried, {})


@pytest.mark.parametrize(("used", "carried"), [(600, 400), (1300, -300)])
def test_a_window_from_first_use_leaves_it_to_the_next_whenever_that_opens(
    used: int, carried: int
) -> None:
    """A group that waits for some windows loses nothing, and does not shake an overrun off."""
    window = Window(WindowKind.FIRST_USE, HOUR)
    counted = Counted(budget(window=window, carry_over=0.5, carry_overrun=True), now=MIDNIGHT)
    counted.use("one", used, MIDNIGHT + 10)
    for hour in (1.5, 2.5, 3.5, 9):
        counted.tick(MIDNIGHT + hour * HOUR)
    counted.use("one", 1)
    assert counted.said().carried == {semconv.TOKENS: carried}
    assert counted.used() == 1


def test_windows_without_use_carry_on_what_they_have() -> None:
    """An overrun of three allowances is paid back by the three that follow."""
    counted = Counted(budget(window=DAY, carry_over=0.5, carry_overrun=True), now=MIDNIGHT)
    counted.use("one", 4500, MIDNIGHT + 1)
    for day, left in ((1, -3500), (2, -2500), (4, -500), (5, 500), (9, 500)):
        counted.tick(MIDNIGHT + day * DAYS)
        assert counted.said().carried == {semconv.TOKENS: left}
    assert {c.limits[semconv.TOKENS] for c in counted.history()} == {1000, 0, 500, 1500}
    other = Counted(budget(window=DAY, carry_over=0.5, carry_overrun=True), now=MIDNIGHT)
    other.use("one", 4500, MIDNIGHT + 1)
    other.tick(MIDNIGHT + 4 * DAYS)
    assert other.said().carried == {semconv.TOKENS: -500}


def test_runs_of_one_id_that_are_alive_at_once_count_once_each() -> None:
    """What the second used is booked when it is counted together with the first."""
    counted = Counted(budget())
    for at in range(1, 8):
        counted.use("one", 10, at)
        counted.use("one", 100, at, start=5.0 if at >= 5 else 0.5, target="b")
    assert counted.used() == sum(int(t) for t in [*_totals(counted)])


def _totals(counted: Counted) -> list[Number]:
    """Return what each run in the ledger, or before it, used."""
    runs = [*counted.ledger.runs.values(), *counted.ledger.superseded]
    return [run.totals()[semconv.TOKENS] for run in runs]


def test_a_run_counts_once_in_each_budget_that_matches_it_or_one_above_it() -> None:
    """Also what it used before anybody saw the two together."""
    counted = Counted(budget(), budget("core", match={"team": ("core",)}, per=("user",)))
    samples = [
        _below("child", 30, parent="root", user="bob", team="base"),
        _below("grandchild", 4, parent="child"),
        _below("root", 100, team="core", user="ann"),
    ]
    counted.ledger.apply(Observation("scrape", 1.0, tuple(samples)))
    assert counted.used() == 134
    # The child says another team, and its user; the grandchild inherits both.
    assert counted.used("core", "ann") == 134
    assert counted.said("core", "ann").sessions == 3


def _below(
    session_id: str, tokens: int, *, parent: str | None = None, **labels: str
) -> RunObservation:
    """Return a sample of a run with a parent."""
    attributes = RunAttributes(
        started_at=0.5, incarnation_at=0.5, state="running", labels=shared_labels(labels),
        parent=parent,
    )  # fmt: skip
    return RunObservation(session_id, session_id, 1.0, {(semconv.TOKENS, ""): tokens}, attributes)


ROLLING = Window(WindowKind.ROLLING, DAYS)
FIRST = Window(WindowKind.FIRST_USE, DAYS)


@pytest.mark.parametrize("window", [TOTAL, DAY, ROLLING, FIRST])
def test_a_call_of_unknown_use_makes_its_window_at_least(window: Window) -> None:
    """Also where nothing else was used; of a group that made none nothing is unknown."""
    counted = Counted(budget(window=window, per=("user",)), now=MIDNIGHT)
    counted.use("one", 100, MIDNIGHT + 1, user="ann")
    counted.use("two", 100, MIDNIGHT + 1, user="bob")
    assert not counted.said("all", "ann").at_least
    before = counted.said("all", "ann").revision
    counted.use("one", 0, MIDNIGHT + 2, user="ann", unknown=1)
    assert counted.said("all", "ann").at_least == {semconv.TOKENS}
    assert counted.said("all", "ann").revision != before
    counted.use("one", 10, MIDNIGHT + 3, user="ann", unknown=1, unpriced=1)
    assert counted.said("all", "ann").at_least == {semconv.TOKENS, semconv.COST}
    assert counted.used("all", "ann") == 110
    assert not counted.said("all", "bob").at_least
    counted.use("one", 5, MIDNIGHT + 3 * DAYS, user="ann", unknown=1, unpriced=1)
    assert bool(counted.said("all", "ann").at_least) is (window is TOTAL)


def test_what_was_unknown_before_a_budget_counts_is_not_in_it() -> None:
    counted = Counted(now=MIDNIGHT)
    counted.use("one", 100, MIDNIGHT + 1, unknown=3)
    counted.edit(budget(), at=MIDNIGHT + 2)
    counted.use("one", 100, MIDNIGHT + 3, unknown=3)
    assert not counted.said().at_least
    counted.use("one", 100, MIDNIGHT + 4, unknown=4)
    assert counted.said().at_least == {semconv.TOKENS}
