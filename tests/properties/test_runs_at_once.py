"""Several runs of one id that are alive at once: all are counted, whoever was seen when."""

from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, RunObservation
from otel_budget.ledger.ledger import Ledger
from tests.properties.histories import RUN, reading, restarted

T0 = 1000.0
#: At each moment: which of up to four runs are seen, what each has used since, and in which order.
moments = st.lists(
    st.tuples(st.sets(st.integers(0, 3)), st.integers(0, 50), st.booleans(), st.booleans()),
    max_size=25,
)


def shown(number: int, tokens: int, at: float, *, one_port: bool = False) -> RunObservation:
    """Return what the target of a run shows of it; or the one port that all of them are behind."""
    begun = T0 - 100 + number
    attributes = RunAttributes(
        started_at=begun, incarnation_at=begun, duration=at - begun, state="running"
    )
    target = "port" if one_port else f"t{number}"
    return RunObservation(RUN, target, at, {(semconv.TOKENS, ""): tokens}, attributes)


def used(ledger: Ledger) -> object:
    """Return what the id has used."""
    return ledger.runs[RUN].totals()[semconv.TOKENS]


@given(moments, st.integers(2, 4))
def test_once_all_are_seen_to_go_on_their_sum_is_known(
    history: list[tuple[set[int], int, bool, bool]], runs: int
) -> None:
    """Never more than that, before and after restarts of the sidecar, and all obey its verdict."""
    ledger, counts, now = Ledger(), [0] * runs, T0
    for seen, tokens, backwards, restart in history:
        now += 1
        counts = [count + tokens + number for number, count in enumerate(counts)]
        sessions = [shown(n, counts[n], now) for n in sorted(seen, reverse=backwards) if n < runs]
        ledger.apply(reading(now, sessions))
        if restart:
            ledger = restarted(ledger, now)
        assert RUN not in ledger.runs or used(ledger) <= sum(counts)  # type: ignore[operator] # a number
    for _ in range(4):
        now += 1
        counts = [count + 1 for count in counts]
        ledger.apply(reading(now, [shown(n, counts[n], now) for n in range(runs)]))
    assert used(ledger) == sum(counts)
    account = ledger.runs[RUN]
    assert len({account.started_at, *account.also}) == runs
    before = used(ledger)
    for _ in range(12):  # all but one are gone
        now += 1
        ledger.apply(reading(now, [shown(runs - 1, counts[-1], now)]))
        assert used(ledger) == before


@given(st.lists(st.integers(0, 2), min_size=30, max_size=60))
def test_runs_behind_one_port_are_all_counted(turns: list[int]) -> None:
    """Whichever of them answers a scrape; each up to where it was seen last."""
    ledger, counts, seen = Ledger(), [0, 0, 0], dict[int, int]()
    for step, turn in enumerate([0, 1, 2, 0, 1, 2, *turns]):
        counts = [count + 10 for count in counts]
        seen[turn] = counts[turn]
        at = T0 + step
        ledger.apply(reading(at, [shown(turn, counts[turn], at, one_port=True)]))
    assert used(ledger) == sum(seen.values())
