"""What the tests with real agents found, from which ``docs/generate.py`` makes a table.

``OTEL_BUDGET_UPDATE_GOLDEN=1 make test-agents`` writes it anew.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Final

from tests.agents.programs import pinned

RESULTS: Final = Path(__file__).parent / "results.json"
UPDATE: Final = os.environ.get("OTEL_BUDGET_UPDATE_GOLDEN") == "1"


def note(agent: str, what: str, found: dict[str, Any]) -> None:
    """Keep what a test saw of an agent, if results are to be renewed; several may at once."""
    if not UPDATE:
        return
    with RESULTS.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        known = json.loads(file.read() or "{}")
        wanted = pinned()
        all_found = {each: known.get(each, {}) for each in wanted}
        all_found[agent][what] = found
        for each, package in wanted.items():
            all_found[each]["version"] = package["version"]
        file.truncate(0)
        file.write(json.dumps(all_found, indent=1, sort_keys=True) + "\n")
