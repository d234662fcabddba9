"""The page of how right the counts are, from what the live tests of libraries found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
LIBRARIES = HERE.parent / "tests" / "libraries"

_INTRODUCTION = """\
# How right the counts are

Generated from `tests/libraries/results.json` and `expected.yaml` by `docs/generate.py`; do not edit
by hand.

Real libraries in the versions below ran real scenarios against a scripted provider on the loopback
interface. The provider wrote down what it served; `otel_budget.instrument()` and
`with ResourceMonitor(...)` were all the application had of otel-budget, and the adapter where the
name says so. The tables compare the two. `make test-libraries` runs everything again
and fails where a verdict differs, for worse or better; with `OTEL_BUDGET_UPDATE_GOLDEN=1` it
writes new results.

| verdict | meaning |
|---|---|
| exact | calls, failures, input, output and all their parts are those of the provider's log |
| parts missing | calls, input and output are exact; cached, cache_write or reasoning are missing |
| unknown | otel-budget knows of these calls, but not their tokens |
| counted as failed | served calls whose telemetry ended as an error without usage |
| outside the run | counted, but in the process's own account, because a context was missing |
| not seen | something is missing, and nothing says so |
| wrong | something was counted that the provider did not serve |
"""

_VERDICTS = (
    "exact", "parts missing", "unknown", "counted as failed", "outside the run", "not seen",
    "wrong",
)  # fmt: skip
_COLUMNS = ("calls", "failed", "input", "output", "cached", "cache_write", "reasoning")
_TABLES = """\

## In detail

One number where both agree, else **counted** / served. `failed` are the operations that failed for
the application: what an SDK tries again by itself is not seen, and costs nothing where the provider
refused it. `four_runs_of_sixteen_…` are four runs at once, each of which makes sixteen calls at
once; exact says that each run got its own calls and no others. `call_outside_of_every_run` is what
the process's own account has.
"""


def accuracy_page() -> str:
    """Return the page."""
    results = json.loads((LIBRARIES / "results.json").read_text(encoding="utf-8"))
    groups = yaml.safe_load((LIBRARIES / "expected.yaml").read_text(encoding="utf-8"))
    reasons = _reasons(groups)
    lines = [_INTRODUCTION, *_summary(results), "", *_limits(groups), _TABLES]
    for name, result in results.items():
        lines += _detail(name, result, reasons)
    return "\n".join(lines) + "\n"


def _reasons(groups: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Return configuration and scenario to reason."""
    return {
        (name, scenario): group["why"]
        for group in groups
        for scenario, names in group["where"].items()
        for name in names
    }


def _limits(groups: list[dict[str, Any]]) -> list[str]:
    """Return whose limits those are that are not exact."""
    counts: Counter[str] = Counter()
    for group in groups:
        counts[group["limit"]] += sum(map(len, group["where"].values()))
    whole = f"Of the {counts.total()} that are not exact"
    return [
        f"{whole}, {counts['client']} are so because no client can know: the usage never came.",
        f"{counts['library']} are what the library's telemetry does not say, or says wrong.",
        f"{counts['budget']} are otel-budget's own.",
    ]


def _summary(results: dict[str, Any]) -> list[str]:
    """Return the table with a line for each configuration: how many scenarios of which verdict."""
    lines = [f"| configuration | scenarios | {' | '.join(_VERDICTS)} |"]
    lines += ["|---|" + "---:|" * (len(_VERDICTS) + 1)]
    total: Counter[str] = Counter()
    for name, result in results.items():
        kinds = Counter(_kind(each["verdict"]) for each in result["scenarios"].values())
        total += kinds
        lines.append(_summary_line(f"[{name}](#{_anchor(name)})", kinds))
    return [*lines, _summary_line("together", total)]


def _summary_line(name: str, kinds: Counter[str]) -> str:
    cells = [str(kinds.total()), *(str(kinds[kind] or "") for kind in _VERDICTS)]
    return f"| {name} | {' | '.join(cells)} |"


def _detail(name: str, result: dict[str, Any], reasons: dict[tuple[str, str], str]) -> list[str]:
    """Return the section of one configuration."""
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    lines = ["", f"### {name}", "", versions, ""]
    lines += [f"| scenario | {' | '.join(_COLUMNS)} | verdict | why |"]
    lines += ["|---|" + "---:|" * len(_COLUMNS) + "---|---|"]
    for scenario, found in result["scenarios"].items():
        cells = [_cell(found["counted"][each], found["served"][each]) for each in _COLUMNS]
        why = reasons.get((name, scenario), "")
        verdict = _named(found["verdict"])
        lines.append(f"| {scenario} | {' | '.join(cells)} | {verdict} | {why} |")
    return lines


def _cell(counted: int, served: int) -> str:
    return f"{served:,}" if counted == served else f"**{counted:,}** / {served:,}"


def _kind(verdict: str) -> str:
    """Return the kind of a verdict; the table has a column for each."""
    kind = verdict.split(":", maxsplit=1)[0]
    if kind not in _VERDICTS:
        raise ValueError(f"verdict {verdict!r}: not one of {', '.join(_VERDICTS)}")
    return kind


def _named(verdict: str) -> str:
    """Return a verdict without the numbers that the cells beside it show."""
    shown = verdict.startswith(("not seen", "wrong"))
    return _kind(verdict) if shown else verdict


def _anchor(name: str) -> str:
    return name.replace("+", "")
