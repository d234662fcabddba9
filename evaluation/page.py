"""docs/forecast.md and its tables, out of docs/forecast.json: how figures are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.report import Goal, Report
from evaluation.cases import LIMITS, USED
from evaluation.contestants import OURS
from evaluation.measure import CALLS, CALLS_LEFT, SCRAPES, SECONDS_LEFT, WHAT, Record
from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOCS: Final = Path(__file__).parent.parent / "docs"
PAGE, RESULTS = DOCS / "forecast.md", DOCS / "forecast.json"
COMMAND: Final = "make forecast"
Results = dict[str, Any]

_UNTIL: Final = {
    semconv.TOKENS: "a limit of tokens",
    semconv.COST: "a limit of cost",
    semconv.DURATION: "a limit of time",
}
_LEFT: Final = {CALLS_LEFT: "Calls left", SECONDS_LEFT: "Seconds left"}
_SEEN: Final = {CALLS: "each call", SCRAPES: "scrapes every 15 s"}
_MOST: Final = {0.5: 4.0, 0.8: 2.0}
"""Percent by which calls left until a limit of tokens may be missed, by the share used."""


def read() -> Results:
    """Return the kept results."""
    results: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def reports(results: Results) -> Iterator[Report]:
    """Yield the tables in the order of the page."""
    for what, resource in WHAT:
        yield _errors(results, what, resource)
    yield _coverage(results)
    yield _limits(results)


def goals(results: Results) -> tuple[Goal, ...]:
    """Return what was to be reached, with what was."""
    return (*_calls_goals(results), *_seconds_goals(results), *_range_goals(results))


def percent(share: float | None, *, sign: bool = False) -> str:
    """Write a share with two digits that mean something."""
    if share is None:
        return "not told"
    size = abs(share) * 100
    text = f"{size:.1f}" if size < 9.95 else f"{size:.0f}"
    mark = "" if not sign or not float(text) else "+" if share > 0 else "-"
    return f"{mark}{text} %"


def _found(results: Results, **wanted: object) -> list[Record]:
    return [
        record
        for record in results["scores"]
        if all(record[name] == value for name, value in wanted.items())
    ]


def _errors(results: Results, what: str, resource: str) -> Report:
    rows = []
    here = _found(results, what=what, resource=resource, limit=1.0)
    for by, seen in dict.fromkeys((each["by"], each["seen"]) for each in here):
        row = [by, _SEEN[seen]]
        for used in USED:
            one = next(e for e in here if (e["by"], e["seen"], e["used"]) == (by, seen, used))
            told = "" if one["told"] == one["asked"] else f" ({one['told']} of {one['asked']})"
            row.append(
                f"{percent(one['median'])} / {percent(one['p90'])} / "
                f"{percent(one['bias'], sign=True)}{told}"
            )
        rows.append(tuple(row))
    return Report(
        title=f"{_LEFT[what]} until {_UNTIL[resource]}",
        about=(
            "Median and p90 of the error without its sign, and the median of the error (above 0: "
            "more was promised than came), as shares of what came. In brackets, where it is not "
            "all: how many could be told at all."
        ),
        columns=("", "from", *(f"{used:.0%} used".replace("%", " %") for used in USED)),
        rows=tuple(rows),
    )


def _coverage(results: Results) -> Report:
    shares = (*USED, None)
    rows = []
    for what, resource in WHAT:
        for seen, words in _SEEN.items():
            here = {
                each["used"]: each
                for each in results["coverage"]
                if (each["what"], each["resource"], each["seen"]) == (what, resource, seen)
            }
            name = f"{_LEFT[what].lower()} until {_UNTIL[resource]}"
            rows.append((name, words, *(percent(here[used]["covered"]) for used in shares)))
    return Report(
        title="How often what came lay within the range",
        about=(
            "The range is meant to hold 80 % of what comes. Under limits at 100, 80 and 60 % of "
            "what the run used in all."
        ),
        columns=("", "from", *(f"{used * 100:.0f} % used" for used in USED), "all"),
        rows=tuple(rows),
    )


def _limits(results: Results) -> Report:
    rows = []
    for what, resource in WHAT:
        for limit in LIMITS:
            here = {
                each["used"]: each
                for each in _found(
                    results, what=what, resource=resource, limit=limit, by=OURS, seen=CALLS
                )
            }
            name = f"{_LEFT[what].lower()} until {_UNTIL[resource]}"
            medians = (percent(here[used]["median"]) for used in USED)
            rows.append((name, f"{limit * 100:.0f} %", *medians))
    return Report(
        title="Other limits",
        about=(
            "The same median error, in the process, under limits that the run reached on its way: "
            "shares of what it used in all. A call that crosses the limit counts by its part."
        ),
        columns=("", "limit", *(f"{used * 100:.0f} % used" for used in USED)),
        rows=tuple(rows),
    )


def _median(results: Results, **wanted: object) -> float:
    found = [each["median"] for each in _found(results, limit=1.0, **wanted)]
    return float("nan") if not found or found[0] is None else float(found[0])


def _calls_goals(results: Results) -> Iterator[Goal]:
    wanted = {"what": CALLS_LEFT, "resource": semconv.TOKENS, "by": OURS}
    for used, at_most in _MOST.items():
        name = f"calls left until a limit of tokens, {used * 100:.0f} % used: median error in %"
        exact = _median(results, **wanted, used=used, seen=CALLS)
        yield Goal(name, exact * 100, at_most)
        scraped = _median(results, **wanted, used=used, seen=SCRAPES)
        yield Goal(
            f"the same from scrapes every 15 s, {used * 100:.0f} % used: times as large",
            scraped / exact if exact else float("nan"), 2,
        )  # fmt: skip


def _seconds_goals(results: Results) -> Iterator[Goal]:
    for resource in (semconv.TOKENS, semconv.COST):
        for used in USED:
            here = _found(results, what=SECONDS_LEFT, resource=resource, limit=1.0, used=used)
            for seen, words in _SEEN.items():
                best = _least([e for e in here if e["by"] != OURS and e["seen"] == seen])
                mine = _least([e for e in here if e["by"] == OURS and e["seen"] == seen])
                yield Goal(
                    f"seconds left until {_UNTIL[resource]}, {used * 100:.0f} % used, from "
                    f"{words}: median error, the best of the others' being 1",
                    mine / best if best else float("nan"), 1,
                )  # fmt: skip


def _least(records: Sequence[Record]) -> float:
    known = [each["median"] for each in records if each["median"] is not None]
    return min(known, default=float("nan"))


def _range_goals(results: Results) -> Iterator[Goal]:
    for each in results["coverage"]:
        if each["used"] is None:
            share = float("nan") if each["covered"] is None else each["covered"] * 100
            yield Goal(
                f"{_LEFT[each['what']].lower()} until {_UNTIL[each['resource']]}, from "
                f"{_SEEN[each['seen']]}: within the range in %",
                share, 85, 0, 75,
            )  # fmt: skip
