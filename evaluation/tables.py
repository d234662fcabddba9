"""The tables of what is forecast, beside what came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import Report
from evaluation.cases import LIMITS, USED
from evaluation.contestants import OURS
from evaluation.measure import CALLS, WHAT
from evaluation.wording import LEFT, SEEN, UNTIL, error_of, percent, records, said

if TYPE_CHECKING:
    from evaluation.wording import Results


def errors(results: Results, what: str, resource: str) -> Report:
    rows = []
    here = records(results, what=what, resource=resource, limit=1.0)
    for by, seen in dict.fromkeys((each["by"], each["seen"]) for each in here):
        row = [by, SEEN[seen]]
        for used in USED:
            one = next(e for e in here if (e["by"], e["seen"], e["used"]) == (by, seen, used))
            row.append(error_of(one))
        rows.append(tuple(row))
    return Report(
        title=f"{LEFT[what]} until {UNTIL[resource]}",
        about="Error: median / p90 / bias.",
        columns=("", "from", *(f"{used * 100:.0f} % used" for used in USED)),
        rows=tuple(rows),
    )


def coverage(results: Results) -> Report:
    shares = (*USED, None)
    rows = []
    for what, resource in WHAT:
        for seen, words in SEEN.items():
            here = {
                each["used"]: each
                for each in results["coverage"]
                if (each["what"], each["resource"], each["seen"]) == (what, resource, seen)
            }
            name = f"{LEFT[what].lower()} until {UNTIL[resource]}"
            cells = [percent(here[used]["covered"]) for used in shares]
            cells += [percent(here[None][of]) for of in ("below", "above", "width")]
            rows.append((name, words, *cells))
    return Report(
        title="How often what came lay within the range",
        about=(
            "The range is meant to hold 80 % of what comes. Under limits at 100, 80 and 60 % of "
            "what the run used in all. Less came than the low end, and more than the high end; and "
            "the median of how wide the range is, as a share of what came: one that is wide enough "
            "holds everything, and says nothing."
        ),
        columns=(
            "",
            "from",
            *(f"{used * 100:.0f} % used" for used in USED),
            "all",
            "less",
            "more",
            "width",
        ),
        rows=tuple(rows),
    )


def limits(results: Results) -> Report:
    rows = []
    for what, resource in WHAT:
        for limit in LIMITS:
            here = {
                each["used"]: each
                for each in records(
                    results, what=what, resource=resource, limit=limit, by=OURS, seen=CALLS
                )
            }
            name = f"{LEFT[what].lower()} until {UNTIL[resource]}"
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


def scraped(results: Results) -> Report:
    rows = []
    for what, resource in WHAT:
        name = f"{LEFT[what].lower()} until {UNTIL[resource]}"
        for used in (0.5, 0.8):
            cells = []
            for scraped in results["scraped"]:
                (one,) = (
                    each
                    for each in scraped["scores"]
                    if (each["what"], each["resource"], each["used"]) == (what, resource, used)
                )
                less = "" if one["told"] == one["asked"] else f" ({one['told']} of {one['asked']})"
                cells.append(percent(one["median"]) + less)
            rows.append((name, f"{used * 100:.0f} %", *cells))
    return Report(
        title="How often it is scraped",
        about=(
            "Median error from scrapes, or pushes, at other intervals. In brackets, where it is "
            "not all: how many could be told."
        ),
        columns=("", "used", *(f"every {each['every']:g} s" for each in results["scraped"])),
        rows=tuple(rows),
    )


def halves(results: Results) -> Report:
    rows = []
    halves = (results, results["other_half"])
    for what, resource in WHAT:
        for seen, words in SEEN.items():
            key = {"what": what, "resource": resource, "seen": seen}
            cells: list[str] = []
            for used in (0.5, 0.8):
                for half in halves:
                    (one,) = records(half, **key, limit=1.0, used=used, by=OURS)
                    cells.append(percent(one["median"]))
            for half in halves:
                (one,) = (
                    each
                    for each in half["coverage"]
                    if each["used"] is None and key.items() <= each.items()
                )
                cells.append(percent(one["covered"]))
            rows.append((f"{LEFT[what].lower()} until {UNTIL[resource]}", words, *cells))
    return Report(
        title="Both halves",
        about=(
            "Median error, and how often what came lay within the range: on the runs that are "
            f"scored, and on the {results['other_half']['runs']} by which figures were set. Were "
            "the second much better, the model would know its runs and not runs."
        ),
        columns=(
            "", "from", "50 % used", "other half", "80 % used", "other half", "within the range",
            "other half",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def example(results: Results) -> Report:
    one = results["example"]
    came = ("what came", f"{one['calls_left']:.1f}", f"{one['seconds_left']:.0f}")
    return Report(
        title="One of the runs",
        about=(
            f"`{one['session_id']}` at the scrape that first shows half of its {one['limit']:,} "
            f"tokens used, {one['at']:.0f} s after its first call."
        ),
        columns=("", "calls left", "seconds left"),
        rows=(came, *((by, said(calls, 1), said(s, 0)) for by, (calls, s) in one["by"].items())),
    )


def elsewhere(results: Results) -> Report:
    rows = []
    for name, found in results["elsewhere"].items():
        here = [each for each in found["scores"] if each["limit"] == 1]
        for by in dict.fromkeys(each["by"] for each in here):
            told = {each["used"]: each for each in here if each["by"] == by}
            ranges = percent(_covered_of(found)) if by == OURS else ""
            rows.append((name, by, *(error_of(told[used]) for used in USED), ranges))
    return Report(
        title="Other programs",
        about=(
            "Calls left until a limit of tokens, from each call, in other recorded runs: short "
            "ones (5 to 10 calls), of other programs and other shapes. The last column: how often "
            "what came lay within the range, under all limits. "
            + "; ".join(
                f"{name}: {found['runs']} runs, {found['calls']} calls"
                for name, found in results["elsewhere"].items()
            )
            + "."
        ),
        columns=("runs", "", *(f"{used * 100:.0f} % used" for used in USED), "within the range"),
        rows=tuple(rows),
    )


def _covered_of(found: Results) -> float | None:
    here = [each for each in found["scores"] if each["by"] == OURS and each["told"]]
    told = sum(each["told"] for each in here)
    return sum(each["covered"] * each["told"] for each in here) / told if told else None
