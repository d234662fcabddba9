"""What the reliability tests saw, as a page; and how their figures come into it.

``python docs/reliability.py FIGURES`` takes up the figures of a run (``make reliability``,
``make soak``, ``make fuzz``): those of the tests that ran replace the earlier ones of these tests.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIGURES = HERE / "reliability.json"
#: In the order of the page, each with what it is about.
SECTIONS = {
    "Nothing lost": "Verdicts are kept, usage counts, checkpoints are whole.",
    "Resets and identity": "Whose counter it is, through both sources, against a real Prometheus.",
    "Never silently open": "Bad data, a bad sidecar and a broken chain are seen, and named.",
    "Lets no one in": "Tokens, certificates, limits of clients, and targets that show too much.",
    "One costs one": "A large, unlucky or hostile fleet: one that fails affects no other.",
    "Operators can act": "Overrides take effect, and last.",
    "Tried by machines": "Fuzzing, the API against its description, and a long run under faults.",
}
_HEAD = """# Reliability

Generated from `docs/reliability.json` by `docs/generate.py`; do not edit by hand. Every row was
done to real things: processes, SIGKILL, sockets, disks, a real Prometheus. `make reliability`,
`make soak`, `make soak-hostile` and `make fuzz` measure it again; `make test` runs the same tests,
shorter.

Measured on {machine}, {day}.
"""


def reliability_page() -> str:
    """Return the page."""
    known = json.loads(FIGURES.read_text(encoding="utf-8"))
    parts = [_HEAD.format(machine=known["machine"], day=known["day"])]
    for section, about in SECTIONS.items():
        rows = [figure for figure in known["figures"] if figure["section"] == section]
        if not rows:
            continue
        parts.append(f"\n## {section}\n\n{about}\n\n")
        parts.append("| what was done | what was seen | test |\n|---|---|---|\n")
        for row in rows:
            test = row["test"].partition("[")[0]
            path, _, name = test.partition("::")
            parts.append(f"| {row['done']} | {row['seen']} | [`{name}`](../{path}) |\n")
    return "".join(parts)


def take_up(new: list[dict[str, Any]]) -> None:
    """Put new figures in the place of the earlier ones of the same tests."""
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {"figures": []}
    ran = {_test(figure) for figure in new}
    figures = [figure for figure in known["figures"] if _test(figure) not in ran] + new
    order = list(SECTIONS)
    figures.sort(key=lambda figure: (order.index(figure["section"]), figure["test"]))
    system = f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    page = {"machine": system, "day": f"{datetime.now(UTC):%Y-%m-%d}", "figures": figures}
    FIGURES.write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")


def _test(figure: dict[str, Any]) -> str:
    test: str = figure["test"].partition("[")[0]
    return test


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    take_up([json.loads(line) for line in lines])
