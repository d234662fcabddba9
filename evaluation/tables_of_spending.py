"""The tables of reserves and totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.report import Report
from evaluation.measure import CALLS
from evaluation.totals import AFTER, BY_SIZE, STRAIGHT
from evaluation.wording import error_of, percent

if TYPE_CHECKING:
    from evaluation.wording import Results


def reserve(results: Results) -> Report:
    rows = tuple(
        (
            f"{each['calls']} of {each['resource']}",
            "each call" if each["seen"] == CALLS else "scrapes",
            f"{each['one']} of {each['asked']}",
            percent(each["one"] / each["asked"]),
            percent(each["all"] / each["asked"]),
            f"{percent(each['unused'])} / {percent(each['unused_p90'])}",
        )
        for each in results["reserve"]
    )
    return Report(
        title="Do the last calls fit?",
        about=(
            "A run that keeps calls back (`wrap_up_calls`) is told to wrap up once less is left of "
            "a limit than the next calls will use: the ones that it keeps back, and one before "
            "them. Then it makes them, as large as it made them in the recording. Limits at 50, "
            "52, … 100 % of what the run used in all. From each call: what the process itself "
            "sees, of its own limits and of a sidecar's ceilings. From scrapes every 15 s: a run "
            "that only the sidecar sees; the call that is under way when it is told is made, too, "
            "and so were all between two scrapes: keep back as many more. A growing agent's calls "
            "cost more by chance than in tokens. Left over: median and p90 of what these calls "
            "left of the limit, where at least one fitted."
        ),
        columns=("kept back", "seen", "one fitted", "share", "all fitted", "left over"),
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
