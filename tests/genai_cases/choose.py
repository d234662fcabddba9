"""Choose recordings to ship: of each library those whose spans differ in shape, cut to size.

    python -m tests.genai_cases.choose FOLDER [FOLDER ...]

Each folder holds recordings, ``<library>/<scenario>.json`` (README.md). Writes ``<library>.json``
beside this file, with what a replay and its comparison need.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from otel_budget.genai.attribute_names import RESPONSE_TEXT

HERE = Path(__file__).parent
#: Recordings of one library at most.
MOST = 7
#: Characters of one attribute, and of one in whose text a response id may stand.
LONGEST, LONGEST_TEXT = 300, 4_000
SPAN_KEYS = (
    "span", "parent", "name", "status", "attributes", "attributes_at_start", "start_order",
    "end_order",
)  # fmt: skip
EXPECTED_KEYS = ("best_from_spans", "tokens_spent", "calls_served", "verdict", "why")


def cut(name: str, value: Any) -> Any:
    """Return a value without what nobody looks at."""
    longest = LONGEST_TEXT if name in RESPONSE_TEXT else LONGEST
    return value[:longest] if isinstance(value, str) else value


def cut_span(span: dict[str, Any]) -> dict[str, Any]:
    """Return a span with what is replayed of it."""
    kept = {key: span.get(key) for key in SPAN_KEYS}
    for key in ("attributes", "attributes_at_start"):
        kept[key] = {name: cut(name, value) for name, value in (span.get(key) or {}).items()}
    return kept | {
        "scope": {"name": span["scope"]["name"]},
        "status": {"code": span["status"]["code"]},
    }


def shape(case: dict[str, Any]) -> tuple[object, ...]:
    """Return what makes a recording different from another one of its library."""
    best = case["expected"]["best_from_spans"]
    spans = {
        (span["scope"]["name"], span["name"].split(" ")[0], span["status"]["code"],
         span["parent"] is None, span["start_order"] is None)
        for span in case["spans"]
    }  # fmt: skip
    counts = tuple(min(value, 2) for value in best.values() if isinstance(value, int))
    return (frozenset(spans), counts, case["expected"]["verdict"])


def can_be(best: dict[str, Any]) -> bool:
    """Tell whether an expectation can be met: fewer than no calls without usage cannot."""
    return all(value >= 0 for value in best.values() if isinstance(value, int))


def main(folders: list[str]) -> None:
    """Write the selection."""
    by_library: dict[str, dict[tuple[object, ...], dict[str, Any]]] = {}
    for folder in folders:
        for path in sorted(Path(folder).glob("*/*.json")):
            if path.parent.name in ("foreign", "experiments"):
                continue
            case = json.loads(path.read_text("utf-8"))
            if case["spans"] and can_be(case["expected"]["best_from_spans"]):
                by_library.setdefault(case["library"], {}).setdefault(shape(case), case)
    for library, cases in by_library.items():
        kept = [
            {
                "library": library,
                "versions": case["versions"],
                "scenario": case["scenario"],
                "expected": {key: case["expected"][key] for key in EXPECTED_KEYS},
                "spans": [cut_span(span) for span in case["spans"]],
            }
            for case in list(cases.values())[:MOST]
        ]
        text = json.dumps(kept, indent=0, ensure_ascii=False)
        (HERE / f"{library}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
