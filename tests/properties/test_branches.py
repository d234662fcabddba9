"""Counters that several processes write in turn, and counters that really begin anew."""

import random
from decimal import Decimal
from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import RunObservation
from otel_budget.core.quantities import Number
from otel_budget.ledger.counter import first
from otel_budget.ledger.ledger import Ledger
from otel_budget.sidecar.storage import codec
from tests.properties.histories import RUN, reading, restarted


def plainly(values: list[int]) -> int:
    """Return what they come to if each drop is a new beginning."""
    state = first(values[0])
    for value in values[1:]:
        state, _ = state.observe(value)
    assert isinstance(state.total, int)
    return state.total


def ledger_of(values: list[int], *, restart: bool = False, price: Decimal | None = None) -> Ledger:
    """Return a ledger that saw these values of one series, one after the other."""
    ledger, resource = Ledger(), semconv.TOKENS if price is None else semconv.COST
    for at, value in enumerate(values, start=1000):
        amount: Number = value if price is None else price * value
        session = RunObservation(RUN, "a", float(at), {(resource, "model='x'"): amount})
        ledger.apply(reading(float(at), [session]))
        if restart:
            ledger = restarted(ledger, float(at))
    return ledger


def used(ledger: Ledger, resource: str = semconv.TOKENS) -> Number:
    """Return what the run has used."""
    return ledger.runs[RUN].totals()[resource]


def written(starts: list[int], growths: list[int], number: int) -> list[int]:
    """Return what a page shows whose series processes write in turn, each growing steadily."""
    counts, shown = list(starts), []
    for turn in range(number):
        counts = [count + growth for count, growth in zip(counts, growths, strict=True)]
        shown.append(counts[turn % len(counts)])
    return shown


@given(
    st.integers(200_000, 2_000_000),
    st.integers(200_000, 2_000_000),
    st.tuples(st.integers(0, 100), st.integers(1, 100)),
    st.booleans(),
)
@example(1_000_000, 1_200_000, (100, 100), False)
@example(0, 1_200_000, (400, 100), True)
def test_two_writers_count_once_each_and_one_jump_between_them(
    one: int,
    gap: int,
    growths: tuple[int, int],
    restart: bool,  # noqa: FBT001 - drawn
) -> None:
    """However long they take turns, in tokens and in money, across restarts of the sidecar."""
    values = written([one, one + gap], list(growths), 60)
    sums = values[-1] + values[-2]
    ledger = ledger_of(values, restart=restart)
    jump = max(values) - min(values)
    assert sums - max(growths) * 2 <= used(ledger) <= sums + jump
    assert ledger.runs[RUN].uncertainty.estimated == {semconv.TOKENS}
    price = Decimal("0.000005")
    money = ledger_of(values, restart=restart, price=price)
    assert price * (sums - max(growths) * 2) <= used(money, semconv.COST) <= price * (sums + jump)


@given(st.lists(st.integers(0, 7), min_size=150, max_size=150), st.integers(2, 4))
def test_writers_in_any_order_are_bounded(order: list[int], writers: int) -> None:
    """By a few times their sum at most, where each drop would count without end."""
    counts, values = [1_000_000 + 150_000 * n for n in range(writers)], []
    for turn in order:
        counts = [count + 60 for count in counts]
        values.append(counts[turn % writers])
    assert used(ledger_of(values)) <= 3 * sum(counts)


@given(st.lists(st.lists(st.integers(1, 300), min_size=6, max_size=40), min_size=1, max_size=12))
def test_a_counter_that_begins_anew_and_climbs_again_loses_nothing(lives: list[list[int]]) -> None:
    """Whatever its lives, as long as a climb is seen to be one."""
    values = [value for life in lives for value in accumulate(life)]
    assert used(ledger_of(values)) == plainly(values)


def test_a_job_that_does_the_same_each_time_is_counted_each_time() -> None:
    """Its values return exactly, and never to more."""
    values = [100, 200, 300] * 4
    assert used(ledger_of(values)) == 1200
    assert used(ledger_of([500, 1000] * 3)) == 3000


@pytest.mark.parametrize("prompt", [100, 5000, 120_000])
@pytest.mark.parametrize("seed", range(20))
def test_jobs_that_each_begin_with_the_same_prompt_are_all_counted(prompt: int, seed: int) -> None:
    """They spend much alike, in any order, and none goes on where another one left off."""
    chance = random.Random(seed)
    values = [prompt + chance.randrange(prompt // 10) for _ in range(150)]
    assert used(ledger_of(values)) >= 0.98 * plainly(values)


def test_two_workers_that_spend_much_alike_are_recognised_by_many_returns() -> None:
    """However near they are to each other: no value is ever below both."""
    values = written([10_000, 10_300], [150, 150], 120)
    ledger = ledger_of(values)
    assert ledger.runs[RUN].uncertainty.estimated == {semconv.TOKENS}
    assert used(ledger) < 0.15 * plainly(values)


def test_a_sum_of_money_that_is_rounded_otherwise_did_not_begin_anew() -> None:
    """The same amounts, added in another order."""
    ledger = Ledger()
    for at, text in enumerate(("100", "99.999999999999986", "100.01", "100.009999999999996", "3")):
        session = RunObservation(RUN, "a", 1000.0 + at, {(semconv.COST, ""): Decimal(text)})
        ledger.apply(reading(1000.0 + at, [session]))
    assert used(ledger, semconv.COST) == Decimal("103.01")


def test_what_turns_out_to_be_no_writers_counts_as_it_would_have() -> None:
    """Two lives that look alike, and then others that do not."""
    alike = [10_000, 1_000_000, 10_010, 1_000_100, 10_020, 1_000_200, 10_030]
    ledger = ledger_of(alike)
    assert used(ledger) < plainly(alike)
    values = alike + [value for life in range(12) for value in (900 - life, 300_000 + 7_001 * life)]
    assert used(ledger_of(values)) == plainly(values)
    assert used(ledger_of(values, restart=True)) == plainly(values)


def test_a_series_that_was_recognised_is_stored_whole() -> None:
    """And what is written of it then is the same text."""
    account = ledger_of(written([1_000_000, 1_200_000], [100, 100], 9)).runs[RUN]
    text = codec.to_json(account)
    assert codec.to_json(codec.from_json(text)) == text
    assert codec.from_json(text).uncertainty == account.uncertainty


EXTREME = ["0", "5E-324", "1E-320", "1E-12", "0.5", "3", "1E+15", "9007199254740991"]


@given(st.lists(st.sampled_from(EXTREME), min_size=2, max_size=30))
@example(["1E-320", "1E+15", "1E-320", "1E+15", "1E-320"])
@example(["1E-400", "2E-400", "1E-400", "2E-400"])
def test_amounts_beyond_all_reason_are_taken_like_any_other(values: list[str]) -> None:
    """A value that a single run shows must not end the tick of all."""
    ledger = Ledger()
    for at, value in enumerate(values, start=1000):
        session = RunObservation(RUN, "a", float(at), {(semconv.COST, ""): Decimal(value)})
        ledger.apply(reading(float(at), [session]))
    assert used(ledger, semconv.COST) >= max(map(Decimal, values))
