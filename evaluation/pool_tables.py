"""The part of docs/budgets.md that is made of docs/pool.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from evaluation.limits import CALLS, MISJUDGED
from evaluation.pool import (
    AT_ONCE,
    FINISH_MOST,
    FIRST_COME,
    ONE_BY_ONE,
    POLICIES,
    RESULTS,
    SHARES,
    STOP,
)

if TYPE_CHECKING:
    from evaluation.limits import Record

BEGIN: Final = "<!-- made by docs/generate.py from docs/pool.json: python -m evaluation.pool -->"
END: Final = "<!-- end of what is made -->"
_COMING: Final = {
    AT_ONCE: "All at once",
    ONE_BY_ONE: "One a minute, so that a few are on their way at a time",
}
_POLICY: Final = {
    FIRST_COME: "first come, first served",
    STOP: "`stop`",
    FINISH_MOST: "`finish_most`",
}
_PROGRESS: Final = {
    CALLS: "its share of its calls",
    MISJUDGED: "the same, misjudged by a factor of its own",
}


def read() -> Any:
    """Return what was measured."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def with_tables(page: str, results: Record) -> str:
    """Return a page with the tables between its two marks. Raises ValueError without them."""
    before, _, rest = page.partition(BEGIN)
    made, mark, after = rest.partition(END)
    if not (rest and mark):
        raise ValueError(f"the page lacks {BEGIN if not rest else END}")
    del made
    return f"{before}{BEGIN}\n\n{tables(results)}\n\n{END}{after}"


def tables(results: Record) -> str:
    """Return a table for each way in which runs come and tell their progress."""
    found = []
    for coming, heading in _COMING.items():
        for progress, told in _PROGRESS.items():
            rows = _rows(results, coming, progress)
            head = " | ".join(f"{share} % of the tokens" for share in SHARES)
            lines = [
                f"{heading}; each run tells {told}:",
                "",
                f"| when the pool is low | warning line | {head} |",
                "|---|---:|" + "---:|" * len(SHARES),
                *rows,
            ]
            found.append("\n".join(lines))
    return "\n\n".join(found)


def _rows(results: Record, coming: str, progress: str) -> list[str]:
    some = [
        each
        for each in results["tried"]
        if (each["coming"], each["progress"]) == (coming, progress)
    ]
    best = {
        share: max(each["finished"] for each in some if each["share"] == share) for share in SHARES
    }
    return [
        f"| {_POLICY[policy]} | {'none' if policy == FIRST_COME else f'{warning:.0%}'} | "
        + " | ".join(_cell(some, share, policy, warning, best[share]) for share in SHARES)
        + " |"
        for policy, _, warning in POLICIES
    ]


def _cell(some: list[Record], share: int, policy: str, warning: float, best: int) -> str:
    wanted = (share, policy, warning)
    (one,) = [e for e in some if (e["share"], e["policy"], e["warning"]) == wanted]
    finished = f"**{one['finished']}**" if one["finished"] == best else f"{one['finished']}"
    return f"{finished} / {one['kept']}"
