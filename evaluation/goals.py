"""What was to be reached, and whether it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.report import Goal
from evaluation.cases import USED
from evaluation.contestants import OURS
from evaluation.measure import CALLS, CALLS_LEFT, SCRAPES, SECONDS_LEFT
from evaluation.wording import LEFT, SEEN, UNTIL, records
from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evaluation.measure import Record
    from evaluation.wording import Results

#: Percent by which calls left until a limit of tokens may be missed, by the share used.
_MOST: Final = {0.5: 4.0, 0.8: 2.0}


def goals(results: Results) -> tuple[Goal, ...]:
    """Return what was to be reached, with what was."""
    return (*_calls_goals(results), *_seconds_goals(results), *_range_goals(results))


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
            here = records(results, what=SECONDS_LEFT, resource=resource, limit=1.0, used=used)
            for seen, words in SEEN.items():
                best = _least([e for e in here if e["by"] != OURS and e["seen"] == seen])
                mine = _least([e for e in here if e["by"] == OURS and e["seen"] == seen])
                yield Goal(
                    f"seconds left until {UNTIL[resource]}, {used * 100:.0f} % used, from "
                    f"{words}: median error, the best of the others' being 1",
                    mine / best if best else float("nan"), 1, 3,
                )  # fmt: skip


def _range_goals(results: Results) -> Iterator[Goal]:
    for each in results["coverage"]:
        if each["used"] is None:
            share = float("nan") if each["covered"] is None else each["covered"] * 100
            yield Goal(
                f"{LEFT[each['what']].lower()} until {UNTIL[each['resource']]}, from "
                f"{SEEN[each['seen']]}: within the range in %",
                share, 85, 1, 75,
            )  # fmt: skip


def _median(results: Results, **wanted: object) -> float:
    found = [each["median"] for each in records(results, limit=1.0, **wanted)]
    return float("nan") if not found or found[0] is None else float(found[0])


def _least(records: Sequence[Record]) -> float:
    known = [each["median"] for each in records if each["median"] is not None]
    return min(known, default=float("nan"))
