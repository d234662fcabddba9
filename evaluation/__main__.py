"""Measure the forecasts on recorded runs: ``python -m evaluation [--quick] [--runs WHICH]``.

Without ``--quick`` it asks a real Prometheus, too, keeps the results in docs/forecast.json, and
writes docs/forecast.md from them.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track
from rich.text import Text

from evaluation import page, picture
from evaluation.goals import goals
from evaluation.prometheus import MissingProgramError
from evaluation.results import measured
from evaluation.runs import for_choosing, for_scoring, mini_swe_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evaluation.runs import Run

_WIDTH = 170
"""Columns of the output when nobody looks."""
WHICH: dict[str, Callable[[], tuple[Run, ...]]] = {
    "scored": for_scoring,
    "choosing": for_choosing,
    "all": mini_swe_runs,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, show and keep; return the exit code."""
    options = _parse(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    try:
        found = measured(
            WHICH[options.runs](), for_choosing(), _track, with_prometheus=not options.quick
        )
    except MissingProgramError as error:
        sys.stderr.write(f"{error}; or add --quick\n")
        return 1
    for report in page.reports(found):
        report.show(console)
    reached = goals(found)
    console.print()
    for goal in reached:
        console.print(Text(goal.words(), style="green" if goal.met else "bold red"))
    missed = sum(not goal.met for goal in reached)
    console.print(Text(f"\n{missed} goals missed" if missed else "\nall goals met"))
    if not options.quick:
        page.write(found)
        picture.draw(found)
    return 0


def _track(runs: Sequence[Run], of: str) -> Iterable[Run]:
    return track(
        runs, of, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="without Prometheus, and nothing is written"
    )
    parser.add_argument(
        "--runs", choices=WHICH, default="scored",
        help="every other run is for choosing figures of the model, the others are scored",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.runs != "scored" and not options.quick:
        parser.error("what is written is of the scored runs; add --quick")
    return options


if __name__ == "__main__":
    sys.exit(main())
