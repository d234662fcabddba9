"""Several processes under one id, as real processes in front of a real sidecar."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.figures import note
from tests.support.processes import agent, sidecar, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import SidecarProcess

UNLIMITED = {"max_tokens": None, "max_api_calls": None, "max_duration_seconds": None}


def flags(folder: Path, *more: str) -> tuple[str, ...]:
    """Return the flags of a sidecar that finds what registers itself in a folder."""
    return ("--file-sd", f"{folder}/found/*.json", "--interval", "0.2", *more)


def options(folder: Path, side: SidecarProcess, **more: Any) -> dict[str, Any]:
    """Return the options of an agent that registers itself and obeys the sidecar."""
    registered = {"register": str(folder / "found"), "sidecar": side.url}
    return {**registered, "limits": UNLIMITED, "pause": 0.05, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with room for what registers itself."""
    (tmp_path / "found").mkdir()
    return tmp_path


def test_three_processes_that_begin_under_one_id_are_stopped_by_their_sum(folder: Path) -> None:
    """Each uses less than the ceiling, and none is an older run than the others by much."""
    with ExitStack() as stack:
        side = stack.enter_context(sidecar(folder, *flags(folder, "--max-tokens", "20000")))
        given = options(folder, side, steps=10_000, tokens=100)
        agents = [stack.enter_context(agent("team-run", **given)) for _ in range(3)]
        results = [one.result() for one in agents]
        assert {(r["action"], r["reason"]) for r in results} == {("stop", "limit_exceeded")}
        verdict = side.verdict("team-run")
        assert verdict is not None
        assert len(verdict["also_started_at"]) == 2
        spent = sum(r["tokens"] for r in results)
        assert spent < 30_000, "each was stopped by the sum"
        until(lambda: (side.verdict("team-run") or {})["resources"]["tokens"]["used"] == spent)
        said = side.said()
        assert said.count("run 'team-run': several processes are alive under this id") == 1
    note(
        "Resets and identity",
        "three processes begin a run under one id at once, under a ceiling of 20,000 tokens",
        f"each stopped by the sum, {spent:,} tokens, all counted; flagged once",
    )


def test_the_elder_of_two_processes_under_one_id_is_stopped_too(folder: Path) -> None:
    """It spends, and the younger one hardly does."""
    with ExitStack() as stack:
        side = stack.enter_context(sidecar(folder, *flags(folder, "--max-tokens", "20000")))
        elder = stack.enter_context(agent("my-session", **options(folder, side, tokens=200)))
        until(lambda: side.verdict("my-session"))
        younger = stack.enter_context(agent("my-session", **options(folder, side, tokens=1)))
        results = [elder.result(), younger.result()]
        assert {(r["action"], r["reason"]) for r in results} == {("stop", "limit_exceeded")}
        assert results[0]["tokens"] < 30_000


def test_a_run_that_is_killed_and_begun_again_elsewhere_owes_nothing(folder: Path) -> None:
    """The next one is at another port, and is judged within moments."""
    with ExitStack() as stack:
        side = stack.enter_context(sidecar(folder, *flags(folder, "--max-tokens", "20000")))
        first = stack.enter_context(
            agent("again", **options(folder, side, tokens=19_000, pause=60))
        )
        until(lambda: side.verdict("again"))
        first.process.kill()
        given = options(folder, side, tokens=10, steps=100)
        second = stack.enter_context(agent("again", **given))

        def judged() -> bool:
            verdict = side.verdict("again")
            return verdict is not None and verdict["resources"]["tokens"]["used"] < 5000

        until(judged)
        assert second.result()["action"] == "continue"
        assert "several processes" not in side.said()
