"""Runs the configurations in their environments, two at a time."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.libraries.configurations import BY_NAME
from tests.libraries.environments import ROOT, python_of
from tests.libraries.verdicts import sums, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

AT_ONCE: Final = 2
_TIMEOUT: Final = 300


class DriverError(Exception):
    """A driver ended without outcomes."""


class Live:
    """Runs that go on in the background, by the name of the configuration."""

    def __init__(self, names: Iterable[str]) -> None:
        """Begin to make the environments and to run; ``close`` ends it."""
        wanted = [BY_NAME[name] for name in names]
        self._pool = ThreadPoolExecutor(AT_ONCE)
        # All before the first run that waits for one: a run never waits for what waits for it.
        pythons = {
            environment: self._pool.submit(python_of, environment)
            for environment in dict.fromkeys(each.environment for each in wanted)
        }
        self._results = {
            each.name: self._pool.submit(_run, each.name, pythons[each.environment])
            for each in wanted
        }

    def result(self, name: str) -> dict[str, Any]:
        """Wait for a result: versions, and by scenario the verdict and both sides.

        Raises NoEnvironmentError or DriverError.
        """
        return self._results[name].result()

    def close(self) -> None:
        """Begin nothing more; wait for what runs."""
        self._pool.shutdown(cancel_futures=True)


def _run(name: str, python: Future[Path]) -> dict[str, Any]:
    """Run one driver; return its result."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "outcomes.json"
        done = subprocess.run(
            [python.result(), "-m", "tests.libraries.drivers", name, file],
            capture_output=True, text=True, timeout=_TIMEOUT, check=False, cwd=ROOT,
            env=environment_of(name) | {"TMPDIR": folder},
        )  # fmt: skip
        if done.returncode != 0 or not file.exists():
            said = (done.stdout + done.stderr).strip()[-3000:]
            raise DriverError(f"the driver of {name} ended with {done.returncode}:\n{said}")
        raw = json.loads(file.read_text(encoding="utf-8"))
    scenarios = {
        outcome["scenario"]: {"verdict": verdict(outcome), **sums(outcome)}
        | ({"outside": outcome["outside"]} if outcome["outside"] else {})
        for outcome in raw["outcomes"]
    }
    return {"versions": raw["versions"], "scenarios": scenarios}


def environment_of(name: str) -> dict[str, str]:
    """Return the variables of a driver: no proxy, no keys, no settings of ours."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    quiet = {"OPENAI_API_KEY": "sk-fake", "PYTHONWARNINGS": "ignore"}
    return kept | quiet | dict(BY_NAME[name].variables)
