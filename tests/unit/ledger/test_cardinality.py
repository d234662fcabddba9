"""What a target shows without end is kept within bounds, and costs what is known nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.ledger import admission as admission_module
from otel_budget.ledger import counter as counter_module
from otel_budget.ledger import processes as processes_module
from otel_budget.ledger.admission import KEEP_ENDED
from otel_budget.ledger.ledger import Ledger
from otel_budget.sources.exposition import ExpositionError, PageLimits, PageReader
from tests.support.sidecar_fixtures import START, session


def shown(ledger: Ledger, at: float, *ids: str, limit: int = 3, **others: Any) -> None:
    """Let a target show runs."""
    sessions = tuple(session(each, 5, at=at, **others) for each in ids)
    ledger.apply(Observation("scrape", at, sessions, session_limit=limit))


def test_runs_beyond_the_limit_are_refused_and_the_known_ones_go_on() -> None:
    ledger = Ledger()
    shown(ledger, START, "a", "b")
    shown(ledger, START + 1, "x", "a", "y", "b", "z")
    assert set(ledger.runs) == {"a", "b", "x"}
    assert list(ledger.crowded.values()) == [2]
    assert ledger.dropped[semconv.SESSION_LIMIT] == 2 * 2  # tokens and calls of both
    shown(ledger, START + 2, "a", "b", "x")
    assert ledger.crowded == {}
    assert ledger.runs["a"].sampled_at == START + 2


def test_the_limit_is_each_targets_own() -> None:
    ledger = Ledger()
    shown(ledger, START, "a", "b", "c", "d")
    other = RunObservation("e", "http://other/metrics", START, {(semconv.TOKENS, ""): 1},
                           RunAttributes(started_at=START))  # fmt: skip
    ledger.apply(Observation("scrape", START, (other,), session_limit=3))
    assert set(ledger.runs) == {"a", "b", "c", "e"}


def test_there_is_room_again_once_a_run_is_forgotten() -> None:
    ledger = Ledger()
    shown(ledger, START, "a", "b", "c", state="completed")
    shown(ledger, START + 1, "d")
    assert "d" not in ledger.runs
    later = START + KEEP_ENDED + 1
    ledger.forget(later, 3600)
    shown(ledger, later, "d")
    assert set(ledger.runs) == {"d"}


def test_a_new_run_under_a_known_id_needs_no_room() -> None:
    ledger = Ledger()
    shown(ledger, START, "a", "b", "c")
    shown(ledger, START + 1, "a", started_at=START)
    assert ledger.runs["a"].started_at == START
    assert ledger.crowded == {}


def test_a_target_begins_no_more_runs_in_ten_minutes_than_it_may_have_at_once() -> None:
    """However few ids it shows: a new start at each scrape would cost an account each time."""
    ledger, ids = Ledger(), [f"r{n}" for n in range(500)]
    for second in range(60):
        shown(ledger, START + second, *ids, limit=1000, started_at=START - 100 + second)
    begun = len(ledger.runs) + len(ledger.superseded)
    watched = sum(map(len, ledger._rivals.values()))
    assert 1000 <= begun <= watched + begun <= 2 * (1000 + 60 * 1000 / KEEP_ENDED)
    assert list(ledger.crowded.values()) == [pytest.approx(500, abs=5)]
    other = RunObservation("r0", "http://other/metrics", START + 60, {(semconv.TOKENS, ""): 1},
                           RunAttributes(started_at=START + 60))  # fmt: skip
    ledger.apply(Observation("scrape", START + 60, (other,), session_limit=1000))
    assert ledger.crowded == {}, "what one target did is held against no other"


def test_it_may_begin_others_as_time_goes_by() -> None:
    ledger = Ledger()
    for minute in range(30):
        ids = [f"{minute}-{n}" for n in range(100)]
        shown(ledger, START + 60 * minute, *ids, limit=1300, state="completed")
        assert ledger.crowded == {}
        ledger.forget(START + 60 * minute, 3600)


def test_many_targets_together_have_a_bound_and_each_its_share_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission_module, "SESSIONS_MOST", 100)
    ledger = Ledger()
    targets = frozenset(f"http://{target}/metrics" for target in [*range(50), 99])

    def show(target: int, runs: int) -> None:
        sessions = tuple(
            RunObservation(f"{target}-{n}", f"http://{target}/metrics", START,
                           {(semconv.TOKENS, ""): 1}, RunAttributes(started_at=START))
            for n in range(runs)
        )  # fmt: skip
        ledger.apply(Observation("scrape", START, sessions, session_limit=40, targets=targets))

    for target in range(50):
        show(target, 40)
    assert len(ledger.runs) <= 2 * 100
    show(99, 1)
    assert "99-0" in ledger.runs, "one that has none is not pushed out"


def process(number: int, at: float, tokens: int, carried: int = 0) -> RunObservation:
    """Return what the n-th process of a run shows."""
    attributes = RunAttributes(
        started_at=START,
        incarnation_at=START + number,
        carried_over={semconv.TOKENS: carried} if carried else {},
    )
    return RunObservation("run", "http://a/metrics", at, {(semconv.TOKENS, ""): tokens}, attributes)


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 5000)), min_size=1, max_size=60),
    st.integers(1, 5),
)
def test_a_run_that_starts_again_and_again_loses_nothing(
    processes: list[tuple[int, int]], kept: int
) -> None:
    """However few of its processes are kept apart, the total is that of all of them."""
    totals = []
    for most in (kept, 10_000):
        ledger = Ledger()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processes_module, "PROCESSES_KEPT", most)
            for number, (tokens, carried) in enumerate(processes):
                at = START + number
                ledger.apply(Observation("scrape", at, (process(number, at, tokens, carried),)))
                assert len(ledger.runs["run"].processes) <= most + 1
        totals.append(ledger.runs["run"].totals())
    assert totals[0] == totals[1]


def test_a_late_sample_of_a_process_that_was_let_go_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes_module, "PROCESSES_KEPT", 2)
    ledger = Ledger()
    for number in range(6):
        at = START + number
        ledger.apply(Observation("scrape", at, (process(number, at, 10),)))
    assert ledger.runs["run"].totals()[semconv.TOKENS] == 60
    for at in range(10, 13):
        ledger.apply(Observation("scrape", START + at, (process(0, START + at, 10),)))
    assert ledger.runs["run"].totals()[semconv.TOKENS] == 60


def test_series_that_are_new_every_time_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter labelled by request: the sum stays exact, the memory small."""
    monkeypatch.setattr(counter_module, "SERIES_MOST", 150)
    ledger = Ledger()
    for number in range(50):
        counters: dict[tuple[str, str], Any] = {
            (semconv.TOKENS, f"request='{number}-{each}'"): 2 for each in range(20)
        }
        attributes = RunAttributes(started_at=START, incarnation_at=START)
        seen = RunObservation("run", "http://a/metrics", START + number, counters, attributes)
        ledger.apply(Observation("scrape", START + number, (seen,)))
    run = ledger.runs["run"]
    (series,) = run.processes.popitem()[1].target_series.values()
    assert series.shown_at.keys() < series.counters.keys()
    assert len(series.counters) <= 150 + 20
    assert series.sums[semconv.TOKENS] == 50 * 20 * 2


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({f"l{n}": "x" for n in range(4)}, "has 5 labels, more than 4"),
        ({"n" * 30: "x"}, "name of a label in its answer has 30 characters, more than 20"),
        ({"n": "\\x1b" + "v" * 30}, "value of a label in its answer has 34 characters"),
    ],
)
@pytest.mark.parametrize("content_type", ["text/plain", "application/openmetrics-text"])
def test_labels_have_limits(labels: dict[str, str], said: str, content_type: str) -> None:
    """The page is refused as a whole, as Prometheus does; other metrics may have any."""
    wanted = semconv.SESSION_TOKENS.name
    reader = PageReader([wanted], PageLimits(100, 4, 20, 30), 1.0)
    inside = ",".join(f'{name}="{value}"' for name, value in {"session_id": "a", **labels}.items())
    end = "# EOF\n" if "openmetrics" in content_type else ""
    family = wanted.removesuffix("_total") if end else wanted

    def page(name: str) -> bytes:
        return f"# TYPE {family} counter\n{name}{{{inside}}} 1\n{end}".encode()

    with pytest.raises(ExpositionError, match=said):
        reader.read(page(wanted), content_type)
    if not end:
        assert reader.read(page("something_else"), content_type) == []
