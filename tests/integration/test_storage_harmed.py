"""What happens to the storage of a real sidecar: damage after a kill, and removal while it runs."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from otel_budget import semconv
from tests.integration.test_operators import RUN, ask, operated, show, shown
from tests.support.exposition import Exposition, line, page
from tests.support.figures import note
from tests.support.processes import until

__all__ = ["shown"]

STARTED_AT = repr(1_700_000_000.25)
RUNS = 24
NAME = "ledger.db"


def show_many(endpoint: Exposition) -> None:
    """Show runs of which every other one is over the ceiling, beside the one of the fixture."""
    lines = []
    for number in range(RUNS):
        run = f"many-{number}"
        lines += [
            line(semconv.SESSION_TOKENS, 5000 if number % 2 else 100 + number, run),
            line(semconv.SESSION_START, STARTED_AT, run),
            line(semconv.INCARNATION_START, STARTED_AT, run),
        ]
    own = [line(metric, value, RUN) for metric, value in (
        (semconv.SESSION_TOKENS, 500), (semconv.SESSION_START, STARTED_AT),
        (semconv.INCARNATION_START, STARTED_AT))]  # fmt: skip
    endpoint.show(page(*lines, *own))


def flip(file: Path, seed: int) -> None:
    """Flip one bit anywhere behind the header."""
    content = bytearray(file.read_bytes())
    bit = random.Random(seed).randrange(8 * 100, 8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.parametrize("part", ["", "-wal"])
def test_a_bit_that_flips_after_a_kill_makes_no_verdict_wrong(
    part: str, tmp_path: Path, shown: Exposition
) -> None:
    """Nor does it cost any other run its own; what was stopped is stopped before it is seen."""
    show_many(shown)
    with operated(tmp_path, shown) as process:
        until(lambda: ask(process, f"/v1/verdicts/many-{RUNS - 1}")[0] == 200)
        assert ask(process, f"/v1/sessions/{RUN}/stop", {"reason": "because"})[0] == 200
        process.kill()
    (tmp_path / "killed").mkdir()
    for file in tmp_path.glob(f"{NAME}*"):
        file.rename(tmp_path / "killed" / file.name)
    shown.show(None)
    rounds = 2
    for seed in range(rounds):
        storage = tmp_path / f"round-{seed}"
        shutil.copytree(tmp_path / "killed", storage)
        flip(storage / f"{NAME}{part}", seed)
        with operated(tmp_path, shown, storage) as process:
            for number in range(RUNS):
                status, verdict = ask(process, f"/v1/verdicts/many-{number}")
                assert status == 200
                assert verdict["action"] == ("stop" if number % 2 else "continue")
                assert (verdict["reason"] == "limit_exceeded") == bool(number % 2)
            _, verdict = ask(process, f"/v1/verdicts/{RUN}")
            assert verdict["reason"] == "operator_stop"
    note(
        "The storage is harmed",
        f"SIGKILL, then one bit of the {'log' if part else 'file'} flips; {rounds} places",
        f"all {RUNS + 1} runs have their verdict, and each is the right one",
    )


def test_a_storage_that_is_removed_while_it_is_used_loses_no_order(
    tmp_path: Path, shown: Exposition
) -> None:
    """An order that was answered with 200 outlives a kill; one that cannot be kept is refused."""
    storage = tmp_path / "volume"
    storage.mkdir()
    with operated(tmp_path, shown, storage) as process:
        for file in storage.iterdir():
            file.unlink()
        assert ask(process, f"/v1/sessions/{RUN}/stop", {"reason": "because"})[0] == 200
        assert "while this runs" in process.said()
        process.kill()
    with operated(tmp_path, shown, storage) as process:
        assert ask(process, f"/v1/verdicts/{RUN}")[1]["reason"] == "operator_stop"
        shutil.rmtree(storage)
        show(shown, 600)
        until(lambda: "this tick failed" in process.said() or None)
        status, problem = ask(process, f"/v1/sessions/{RUN}/release", {"reason": "fine"})
        assert status == 503
        assert "could not be stored" in problem["detail"]
        storage.mkdir()
        until(lambda: "the storage can be written again" in process.said() or None)
        _, verdict = ask(process, f"/v1/verdicts/{RUN}")
        assert verdict["reason"] == "operator_stop"
        assert process.said().count("this tick failed") == 1
        assert "Traceback" not in process.said()
        process.kill()
    with operated(tmp_path, shown, storage) as process:
        _, verdict = ask(process, f"/v1/verdicts/{RUN}")
        assert (verdict["reason"], verdict["resources"]["tokens"]["used"]) == ("operator_stop", 600)
    note(
        "The storage is harmed",
        "its files are removed under a sidecar that runs, an order is given, SIGKILL; then the "
        "folder is removed, and made again",
        "the order holds after the restart; without the folder orders are refused and nothing is "
        "published, with it all is written anew",
    )
