"""Every storage gives back what was committed, and raises nothing but its own errors.

A further storage is one more entry of ``KINDS``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.config.schema import StorageConfig
from otel_budget.core.override import Override, OverrideKind
from otel_budget.core.quantities import Number
from otel_budget.ledger.run import RunTotals
from otel_budget.policy.suggester import PastRun
from otel_budget.policy.suggestion import EndedRun
from otel_budget.sidecar.factory import open_storage
from otel_budget.sidecar.storage.base import Changes, Restored, Storage, StorageError
from tests.support.sidecar_fixtures import START, TARGET, session, verdict

#: Kind of storage to what takes its medium away while it is open.
KINDS: dict[str, Callable[[Path], None]] = {"sqlite": shutil.rmtree}
Open = Callable[[], tuple[Storage, Restored]]
STOP = Override(OverrideKind.STOP, "enough", "ann", START)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return each kind of storage in turn."""
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that a test may take away."""
    made = tmp_path / "volume"
    made.mkdir()
    return made


@pytest.fixture
def opened(kind: str, folder: Path) -> Open:
    """Return what opens the storage, as the next process does."""
    return lambda: open_storage(StorageConfig(path=folder / "ledger"), kind)


def run(session_id: str = "run-1", tokens: int = 500) -> RunTotals:
    """Return a run that was observed once."""
    totals = RunTotals(session_id, START, START)
    totals.observe(session(session_id, tokens, started_at=START, at=START + 5), confirmed=True)
    return totals


def test_what_was_committed_is_there_for_the_next_process(opened: Open) -> None:
    storage, restored = opened()
    assert (restored.runs, restored.verdicts, restored.sequence) == ((), (), 0)
    said = verdict(sequence=7, started_at=START)
    storage.commit(Changes(7, [run()], [], [said]))
    storage.close()
    storage, restored = opened()
    storage.close()
    assert [(r.session_id, r.totals()[semconv.TOKENS]) for r in restored.runs] == [("run-1", 500)]
    assert restored.runs[0].targets == {TARGET}
    assert (restored.verdicts, restored.sequence) == ((said,), 7)


def test_an_archived_run_is_not_live_and_comes_back_by_its_id_and_start(opened: Open) -> None:
    storage, _ = opened()
    storage.commit(Changes(1, [run()]))
    storage.commit(Changes(2, archived=[run(tokens=900)]))
    found = storage.archived("run-1", START)
    assert found is not None
    assert found.totals()[semconv.TOKENS] == 900
    assert storage.archived("run-1", START + 1) is None
    assert storage.archived("another", START) is None
    storage.close()
    storage, restored = opened()
    storage.close()
    assert restored.runs == ()


def test_overrides_are_kept_by_run_and_the_newest_comes_first(opened: Open) -> None:
    storage, _ = opened()
    release = Override(OverrideKind.RELEASE, "go on", "ann", START + 1)
    for override in (STOP, release):
        storage.commit(Changes(1, override=(run(), override)))
    assert storage.overrides("run-1", START, -1) == [release, STOP]
    assert storage.overrides("run-1", START, 1) == [release]
    assert storage.overrides("run-1", START + 1, 9) == []
    storage.close()


def test_a_commit_that_fails_at_one_run_stores_nothing(opened: Open) -> None:
    storage, _ = opened()
    storage.commit(Changes(1, [run(tokens=1)]))
    bad = run("bad")
    bad.first_seen_at = object()  # type: ignore[assignment] # what no storage can write
    with pytest.raises(TypeError):
        storage.commit(Changes(2, [run(tokens=2), bad]))
    storage.close()
    storage, restored = opened()
    storage.close()
    assert (restored.sequence, restored.runs[0].totals()[semconv.TOKENS]) == (1, 1)


def test_a_medium_that_is_gone_is_an_error_of_ours_until_it_is_there_again(
    opened: Open, kind: str, folder: Path
) -> None:
    storage, _ = opened()
    storage.commit(Changes(1, [run()]))
    KINDS[kind](folder)
    with pytest.raises(StorageError):
        storage.renew()
    folder.mkdir()
    storage.renew()
    storage.commit(Changes(2, [run(tokens=900)]))
    assert storage.stats().renewals == 1
    assert storage.stats().size > 0
    storage.close()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown storage 'postgres'; known: sqlite"):
        open_storage(StorageConfig(), "postgres")


def past_run(number: int, workflow: str = "nightly") -> PastRun:
    """Return how a run ended."""
    used: dict[str, Number] = {semconv.TOKENS: 1000 + number, semconv.COST: Decimal("0.10")}
    run = EndedRun(used, number % 2 == 0, {} if number % 2 == 0 else {semconv.TOKENS: 900})
    return PastRun(workflow, f"run-{number}", START if number else None, START + number, run)


def test_how_runs_ended_is_there_for_the_next_process_until_it_is_dropped(opened: Open) -> None:
    storage, restored = opened()
    assert restored.past_runs == ()
    storage.commit(Changes(1, past_runs=[past_run(0), past_run(1), past_run(2)]))
    storage.commit(Changes(1, past_runs=[past_run(2, "other")], dropped=[past_run(0).key]))
    storage.close()
    storage, restored = opened()
    storage.close()
    assert sorted(restored.past_runs) == sorted([past_run(1), past_run(2, "other")])
