"""The recorded runs, as calls in order: what each used, what it cost, and when it was made.

Numbers are taken as they were recorded; only the price is put to them. Which runs there are, and
whose they are, is in ``data/ATTRIBUTION.md``.
"""

from __future__ import annotations

import csv
from decimal import Decimal
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.demo import recordings
from otel_budget.sdk.pricing.prices import Prices
from otel_budget.sdk.usage_arguments import OperationUsage

if TYPE_CHECKING:
    from collections.abc import Iterable

DATA: Final = Path(__file__).parent / "data"
MINI_SWE: Final = DATA / "mini_swe_runs.csv"
SESSIONS: Final = DATA / "multi_session.csv"
#: Prices the calls whose own price was not recorded: input 1, read from the cache 0.1, output 5 US
#: dollars a million tokens.
MODEL: Final = "claude-haiku-4-5"


class Call(NamedTuple):
    """One model call."""

    at: float
    """Seconds since the run's first call, when its answer was there."""
    input_tokens: int
    """The cached ones are inside."""
    cache_read_tokens: int
    output_tokens: int
    cost: Decimal
    """US dollars, by the project's price list."""

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


class Run(NamedTuple):
    """One recorded run; it has at least one call."""

    session_id: str
    calls: tuple[Call, ...]
    """In order of time."""
    resolved: bool | None = None
    """Whether it did what it was for; None: not judged."""

    @property
    def tokens(self) -> int:
        """All that it used."""
        return sum(call.tokens for call in self.calls)


@cache
def mini_swe_runs() -> tuple[Run, ...]:
    """Return the recorded runs of mini-swe-agent, in the order of the file."""
    with MINI_SWE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    judged = {"1": True, "0": False, "": None}
    return tuple(
        Run(f"swe-{int(number):03}", calls, judged[first["resolved"]])
        for number, (first, calls) in (
            (number, _run_of(list(group))) for number, group in groupby(rows, itemgetter("run"))
        )
    )


def for_choosing() -> tuple[Run, ...]:
    """Return the runs on which figures of the model may be chosen: every other one of the file."""
    return mini_swe_runs()[::2]


def for_scoring() -> tuple[Run, ...]:
    """Return the others, on which nothing was chosen: what is measured is measured on them."""
    return mini_swe_runs()[1::2]


def demo_runs() -> tuple[Run, ...]:
    """Return the two recorded runs that the demo plays: other programs, other shapes."""
    return tuple(
        Run(
            name,
            tuple(
                priced(
                    call.ended,
                    call.input_tokens,
                    call.cache_read_tokens,
                    call.output_tokens,
                    model=call.model,
                    cache_write_tokens=call.cache_write_tokens,
                )
                for call in recordings.load(name)
            ),
        )
        for name in ("claude", "codex")
    )


def sessions(least_calls: int = 5) -> tuple[Run, ...]:
    """Return the sessions of the workload that have some calls; their times are not known."""
    with SESSIONS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    runs = (
        Run(f"session-{name}", tuple(_call_of(row) for row in group))
        for name, group in groupby(rows, itemgetter("session_id"))
    )
    return tuple(run for run in runs if len(run.calls) >= least_calls)


def priced(
    at: float,
    input_tokens: int,
    cache_read_tokens: int,
    output_tokens: int,
    *,
    model: str = MODEL,
    cache_write_tokens: int = 0,
) -> Call:
    """Return a call with its price. Raises LookupError for a model without one."""
    cost = _PRICES.cost_of(
        model,
        None,
        OperationUsage(
            tokens=input_tokens + output_tokens,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read_tokens,
            cache_write_tokens=cache_write_tokens,
            api_call=True,
        ),
    )
    if cost is None:
        raise LookupError(f"no price of {model!r}: install the extra 'prices'")
    return Call(at, input_tokens, cache_read_tokens, output_tokens, cost)


_PRICES = Prices()


def _run_of(rows: Iterable[dict[str, str]]) -> tuple[dict[str, str], tuple[Call, ...]]:
    """Return the first row of a run, for what they all say of it, and its calls."""
    rows = list(rows)
    calls = tuple(
        priced(float(row["dt_s"]), int(row["prompt"]), int(row["cached"]), int(row["completion"]))
        for row in rows
    )
    return rows[0], calls


def _call_of(row: dict[str, str]) -> Call:
    prefix = int(row["prefix_len"])
    return priced(
        float(row["round_idx"]), prefix + int(row["input_len"]), prefix, int(row["output_len"])
    )
