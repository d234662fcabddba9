"""The tables of reserves and totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import Report
from evaluation.totals import AFTER, BY_SIZE, STRAIGHT
from evaluation.wording import error_of, percent

if TYPE_CHECKING:
    from evaluation.wording import Results


def reserve(results: Results) -> Report:
    rows = tuple(
        (
            f"{each['calls']} of {each['resource']}",
            f"{each['enough']} of {each['asked']}",
            percent(each["enough"] / each["asked"]),
            f"{percent(each['unused'])} / {percent(each['unused_p90'])}",
        )
        for each in results["reserve"]
    )
    return Report(
        title="Does one more call fit?",
        about=(
            "A run is told to stop once what is left of a limit is no more than a reserve: so many "
            "times what its next call is forecast to use. Then it makes one last call, as large as "
            "the one that it went on with. A reserve of one call is too small by what it means: "
            "where it is reached, less than a call is left. Limits at 50, 52, … 100 % of what the "
            "run used in all. Left over: median and p90 of what the last call left of the limit."
        ),
        columns=("reserve, in calls", "it fitted", "share", "left over"),
        rows=rows,
    )


def with_progress(results: Results) -> Report:
    rows = []
    for each in results["progress"]:
        used = each["used"]
        rows.append((
            f"{each['progress'] * 100:.0f} % of the calls",
            f"{percent(used['median'])} ({percent(used['p10'])} to {percent(used['p90'])})",
            *(error_of(each[name]) for name in (STRAIGHT, BY_SIZE)),
        ))  # fmt: skip
    return Report(
        title="Progress is not spend",
        about=(
            "What a run has used of its tokens when a share of its calls is made (median, p10 to "
            "p90), and the error of the total that follows from a progress as exact as that: "
            "median, p90 and bias. Who divides what is used by the progress promises far too small "
            "a total."
        ),
        columns=("made", "tokens used", STRAIGHT, BY_SIZE),
        rows=tuple(rows),
    )


def fitting(results: Results) -> Report:
    rows = []
    for each in results["fitting"]:
        for name in (STRAIGHT, BY_SIZE):
            one = each[name]
            shares = (
                percent(one[of] / one["asked"]) for of in ("right", "yes_wrongly", "no_wrongly")
            )
            rows.append((f"{each['progress'] * 100:.0f} % of the calls", name, *shares))
    return Report(
        title="Does the rest fit?",
        about=(
            "What `get_estimated_completion_possible` answers with a progress as exact as that, "
            "under limits at 60, 70, 80, 90 and 110, 120, 130, 140 % of the tokens that the run "
            "used in all; and what the straight line would answer."
        ),
        columns=("made", "by", "right", "yes, wrongly", "no, wrongly"),
        rows=tuple(rows),
    )


def without_progress(results: Results) -> Report:
    guesses = results["no_progress"]
    best = min(each["median"] for each in guesses)
    return Report(
        title="No total is promised without progress",
        about=(
            f"{AFTER} calls of a run are seen ({guesses[0]['runs']} of the runs make more): what "
            "will it use in all? The guesses may learn from the runs that are not scored, of the "
            "same agent on the same kind of task. The best of them is still off by "
            f"{percent(best)} in the median, as nothing in what a run used tells when it will be "
            "done. So a run that reports no progress has no forecast of its total, and nothing "
            "promises one: what is left until a limit can be told, whether that is enough cannot."
        ),
        columns=("guess", "median / p90 / bias"),
        rows=tuple((each["guess"], error_of(each)) for each in guesses),
    )
