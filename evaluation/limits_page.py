"""docs/choosing-limits.md, its tables and its picture, out of docs/limits.json."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from evaluation.limits import CALLS, MISJUDGED, NONE, SUGGESTED, THRESHOLDS, TOKENS, USUAL
from otel_budget import semconv
from otel_budget.core.reasons import Reason
from otel_budget.replay.frontier import Curve, Point
from otel_budget.replay.plot import draw_frontier
from otel_budget.replay.wording import short_amount

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from evaluation.limits import Record, Thresholds

DOCS: Final = Path(__file__).parent.parent / "docs"
PAGE, RESULTS = DOCS / "choosing-limits.md", DOCS / "limits.json"
PICTURE: Final = DOCS / "pictures" / "frontier.png"
_PROGRESS: Final = {
    NONE: "none",
    CALLS: "share of its calls",
    MISJUDGED: "the same, misjudged",
    TOKENS: "share of its tokens",
}
_CURVES: Final = {NONE: "no progress told", CALLS: "share of calls told"}

_TEXT: Final = """# Choosing limits

Tables and picture are made by `make forecast` from the recorded runs in `evaluation/data`, kept in
`docs/limits.json`; not edited by hand.

A limit cuts runs. Some would have gone round in circles; some would have been resolved with the
next call. How many of which, your own runs can tell, before the limit is in force.

## In short

1. **Get a trace** of what happened: what your Prometheus has of the last weeks,

   ```sh
   otel-budget replay --config sidecar.yaml --prometheus http://prometheus:9090 \\
       --from -14d --to now --write-trace runs.jsonl
   ```

   or lines that your own program writes ([replay](replay.md) has the format). Where it says
   `"resolved": true` or `false` at a run's end, good runs that are cut can be told from others.
2. **See what each limit would have done**, and draw it:

   ```sh
   otel-budget replay --config sidecar.yaml --traces runs.jsonl \\
       --sweep max_tokens=200k..5M/12 --plot frontier.svg
   ```

   Any limit can be swept: `max_cost_usd=0.50..20/10`, `max_duration_seconds=5m..4h/8`. Each takes
   the place of the file's own; all else in the file holds as it stands, and so do the limits
   that the runs had. With `--config` twice, two files are compared.
3. **Let one be proposed** from the runs that ended well: `otel-budget suggest limits --traces
   runs.jsonl`. `resource_limits: {{from: suggested, at_most: …}}` in the
   sidecar's file does so by itself ([suggest-limits.md](suggest-limits.md)).
4. **Begin high**, at p95 of all runs or above, and let runs tell their progress. Lower it when the
   sweep over newer runs says what that would cost.

## What to read off the frontier

![What a limit keeps, and what it spends](pictures/frontier.png)

Each point is a limit: how much the runs spend under it, and how many of those that were resolved
are still resolved. The dotted line is what you would get without any limit by running only some of
the tasks, drawn by lot. **A limit below the line is worse than that**: it spends tokens on runs
and then throws them away. Look for the knee above it, from which on a lower limit loses resolved
runs faster than it saves.

## What the recorded runs say

{runs} recorded runs of a coding agent ([where they come from](../evaluation/data/ATTRIBUTION.md)),
{resolved} of them resolved. Each was replayed under each limit by the engine of `otel-budget
replay`: the ledger and the policy that judge live runs. A run is *kept* if it was not told to stop
before its end. Money is by the price of `{model}`, with cached reads at a tenth.

{sizes}

A quantile is the smallest total that at least so many percent of the runs did not exceed (nearest
rank). Runs that were resolved are smaller, but not by much: their median is {smaller} of that of
the others. So a limit can tell a runaway from a good run, and hardly a good run from a bad one.

### Without progress

A run that tells no progress goes on past the warning line, and is cut at the limit.

{without}

- **Below p75 a limit costs more than it saves.** At p50 it keeps {kept_p50} of the resolved runs
  for {spent_p50} of the tokens; at p75 {kept_p75} for {spent_p75}.
- **From p90 on it is a guard that costs little.** It keeps {kept_p90} for {spent_p90}; the runs
  that it cuts are the long ones, {longest} tokens the longest.
- **A limit on tokens saves less money than tokens**: late calls re-send much that is cached.
- The proposal of `suggest limits` puts the warning line above what 95 % of the runs that ended well
  used. Here it keeps {kept_suggested} of {resolved} resolved runs.

### With progress

The rule: from the warning line on (80 % of the limit) a run goes on only if its progress is at
least 80 %, else it is stopped, while there is room to finish with what it has. In the cells:
resolved runs kept / tokens spent / stopped gracefully / cut at the limit.

{with_progress}

How runs told their progress:

- *none*: not at all.
- *share of its calls*: calls made, of all it will make; better than an agent can know.
- *the same, misjudged*: each run takes its length for another, by a factor that is drawn once:
  log-normal with a standard deviation of {noise} (two runs of three are off by no more than about a
  third), from the seed {seed}.
- *share of its tokens*: tokens used, of all it will use: what a limit on tokens is about.

What follows:

- **Progress saves tokens, and keeps the same runs.** At p75, with the share of calls, {saved_calls}
  of the tokens are spent instead of {spent_p75}, and {kept_calls} instead of {kept_count} resolved
  runs kept: it stops early those that the limit would have cut anyway.
- **It turns cuts into endings**: {graceful_calls} of the {cut_p75} runs that do not come to their
  end are stopped with room to finish; without progress none is.
- **Calls are not tokens.** Context grows, so the last fifth of the calls takes more than a fifth
  of the tokens. By the share of its calls a run goes on that will not fit: {at_limit_calls} are
  still cut at the limit; by the share of its tokens {at_limit_tokens}. If you can, tell progress in
  what is limited.
- **A wrong guess costs few runs**: misjudged progress keeps {kept_misjudged} at p75 and
  {kept_misjudged_p90} at p90, where none at all keeps {kept_count} and {kept_count_p90}.
- **A later warning line** (90 %) spends more and leaves less room to finish in. **A higher
  completion threshold** (90 %) lets hardly a run come to the limit, and stops a few that would have
  fitted.

These are runs of one agent on one kind of task. The way to find out is the same for yours; the
figures will not be.
"""


def page(results: Record) -> str:
    """Return the page."""
    return _TEXT.format(**_words(results))


def write(results: Record) -> None:
    """Keep the results, and write the page."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


def read() -> Record:
    """Return the kept results."""
    results: Record = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def draw(results: Record, path: Path = PICTURE) -> None:
    """Draw the picture, as ``otel-budget replay --sweep --plot`` does."""
    curves = [
        Curve(
            words, semconv.TOKENS,
            tuple((each["limit"], _point(each)) for each in results["frontier"]["curves"][name]),
        )
        for name, words in _CURVES.items()
    ]  # fmt: skip
    draw_frontier(path, curves)


def _point(each: Record) -> Point:
    """Return a point again of what was kept of it: shares, as of a million tokens."""
    by = {str(Reason.APPROACHING_LIMIT): each["graceful"],
          str(Reason.LIMIT_EXCEEDED): each["at_limit"]}  # fmt: skip
    used = {semconv.TOKENS: Decimal(str(each["tokens"])) * 1_000_000}
    return Point(
        each["runs"], sum(by.values()), by, each["resolved"], each["kept"], used,
        {semconv.TOKENS: 1_000_000},
    )  # fmt: skip


def _words(results: Record) -> dict[str, object]:
    made, sizes = results["made"], {each["of"]: each for each in results["sizes"]}
    none = {of: _one(results, NONE, of) for of in _limits(results)}
    smaller = sizes["resolved"]["at"]["50"] / sizes["not resolved"]["at"]["50"]
    calls, tokens, misjudged = (_one(results, name, "p75") for name in (CALLS, TOKENS, MISJUDGED))
    words: dict[str, object] = {**made, "smaller": percent(smaller)}
    for of in ("p50", "p75", "p90"):
        words[f"kept_{of}"] = percent(none[of]["kept"] / none[of]["resolved"])
        words[f"spent_{of}"] = percent(none[of]["tokens"])
    return words | {
        "resolved": none["p75"]["resolved"],
        "kept_suggested": none[SUGGESTED]["kept"],
        "longest": short_amount(semconv.TOKENS, sizes["all"]["at"]["100"]),
        "sizes": _sizes(results),
        "without": _without(results),
        "with_progress": _with_progress(results),
        "saved_calls": percent(calls["tokens"]),
        "kept_calls": calls["kept"],
        "kept_count": none["p75"]["kept"],
        "kept_count_p90": none["p90"]["kept"],
        "graceful_calls": calls["graceful"],
        "cut_p75": calls["graceful"] + calls["at_limit"],
        "at_limit_calls": calls["at_limit"],
        "at_limit_tokens": tokens["at_limit"] or "none is",
        "kept_misjudged": misjudged["kept"],
        "kept_misjudged_p90": _one(results, MISJUDGED, "p90")["kept"],
    }


def percent(share: float) -> str:
    """Write a share as pages do."""
    return f"{share * 100:.0f} %"


def _one(results: Record, progress: str, of: str, thresholds: Thresholds = USUAL) -> Record:
    found: list[Record] = [
        each
        for each in results["tried"]
        if (each["progress"], each["of"]) == (progress, of)
        and (each["warning"], each["completion"]) == thresholds
    ]
    return found[0]


def _limits(results: Record) -> list[str]:
    return list(dict.fromkeys(each["of"] for each in results["tried"]))


def _limit(each: Record) -> str:
    """Say a limit, and what it is."""
    of = "`suggest limits`" if each["of"] == SUGGESTED else each["of"]
    return f"{of}: {short_amount(semconv.TOKENS, each['limit'])}"


def _sizes(results: Record) -> str:
    shares = list(results["sizes"][0]["at"])
    head = ("tokens of a run", "runs", *("most" if s == "100" else f"p{s}" for s in shares))
    rows = [
        (each["of"], str(each["runs"]),
         *(short_amount(semconv.TOKENS, each["at"][share]) for share in shares))
        for each in results["sizes"]
    ]  # fmt: skip
    return _table(head, rows)


def _without(results: Record) -> str:
    head = ("limit on tokens", "resolved runs kept", "tokens spent", "money spent", "runs cut")
    rows = []
    for of in _limits(results):
        one = _one(results, NONE, of)
        kept = f"{one['kept']} of {one['resolved']}, {percent(one['kept'] / one['resolved'])}"
        cut = f"{one['at_limit']} of {one['runs']}"
        rows.append((_limit(one), kept, percent(one["tokens"]), percent(one["cost"]), cut))
    return _table(head, rows)


def _with_progress(results: Record) -> str:
    head = ("limit", "progress told", *map(_said, THRESHOLDS))
    rows = []
    for of in _limits(results):
        for name, words in _PROGRESS.items():
            tried = (USUAL,) if name == NONE else THRESHOLDS
            ones = [_one(results, name, of, thresholds) for thresholds in tried]
            cells = [_cell(one) for one in ones] + ["the same"] * (len(THRESHOLDS) - len(ones))
            rows.append((_limit(ones[0]), words, *cells))
    return _table(head, rows)


def _said(thresholds: Thresholds) -> str:
    return f"warned at {percent(thresholds.warning)}, go on from {percent(thresholds.completion)}"


def _cell(one: Record) -> str:
    return f"{one['kept']} / {percent(one['tokens'])} / {one['graceful']} / {one['at_limit']}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(_lines(head, rows))


def _lines(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|---:" * (len(head) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
