"""A report on a page as text for people: in 80 columns, with nothing a terminal would obey."""

from __future__ import annotations

import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from otel_budget.cli.page_report import NOTHING, SHOWN, money
from otel_budget.core.resources import FURTHER
from otel_budget.logs.text import one_line, some
from otel_budget.presets import model as roles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.cli.page_report import Report
    from otel_budget.presets.counting import ForeignRun, Ignored

_WIDTH: Final = 80
_WIDEST_NUMBER: Final = 9
_HEADS: Final = ("input", "output", "cached", "cache wr.", "reasoning", "calls", "USD")


def in_words(report: Report) -> str:
    """Return a report as text."""
    lines = [f"{report.preset.title} (preset {report.preset.name})"]
    lines += _wrapped(f"recognised by: {report.recognised_by}")
    if report.sessions or not report.not_understood:
        lines += ["", *_table(report.sessions), *_remarks(report.sessions)]
    else:
        lines += ["", *_wrapped(_not_understood(report))]
    for role, note in report.preset.notes.items():
        lines += _wrapped(f"{role}: {note}")
    if report.ignored:
        lines += ["", "ignored:", *_ignored_lines(report.ignored)]
    return "\n".join(lines)


def _table(runs: Sequence[ForeignRun]) -> list[str]:
    if not runs:
        return ["nothing was used yet: there is no series to count"]
    rows = [_HEADS, *([_cell(s, role) for role in SHOWN] for s in runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADS))]
    texts = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    ids = ["run", *(run.session_id for run in runs)]
    first = max(map(len, ids))
    if first + 2 + len(texts[0]) <= _WIDTH:
        return [f"{name.ljust(first)}  {text}" for name, text in zip(ids, texts, strict=True)]
    lines = []
    for name, text in zip(ids, texts, strict=True):
        lines += [*textwrap.wrap(name, _WIDTH), f"  {text}"]
    return lines


def _not_understood(report: Report) -> str:
    metrics = len(report.not_understood)
    many = f"{metrics} metrics look" if metrics > 1 else "1 metric looks"
    named = one_line(some(report.not_understood, ", "))
    return (
        f"not understood: {many} like use, and none of it is counted by preset "
        f"{report.preset.name}: {named}; is it the right preset? One of your own may extend it"
    )


def _cell(run: ForeignRun, role: str) -> str:
    amount = run.amounts.get(role)
    if amount is None:
        return "unknown"
    if isinstance(amount, Decimal):
        text = money(amount)
        return text if len(text) <= _WIDEST_NUMBER else f"{amount:.3g}"
    sign = "+" if run.at_least and role in (roles.INPUT, roles.OUTPUT) else ""
    for text in (f"{amount:,}{sign}", f"{amount}{sign}"):
        if len(text) <= _WIDEST_NUMBER:
            return text
    return f"{amount:.3g}"


def _remarks(runs: Sequence[ForeignRun]) -> list[str]:
    lines = []
    for run in runs:
        tokens = run.amounts.get(roles.TOKENS)
        if tokens is not None and run.amounts.keys().isdisjoint((roles.INPUT, roles.OUTPUT)):
            remark = f"{tokens:,} tokens count, which it does not tell apart into input and output"
            lines += _wrapped(f"{run.session_id}: {remark}")
        for name in (
            each for each in FURTHER if each in run.amounts
        ):  # the table has no room for them
            said = f"{FURTHER[name].noun}: {run.amounts[name]:,}"
            lines += _wrapped(f"{run.session_id}: {said}")
        if run.at_least:
            lines += _wrapped(f"{run.session_id}: at least; some tokens are of an unknown type")
        if run.implausible:
            names = ", ".join(run.implausible)
            lines += _wrapped(f"{run.session_id}: in doubt; cannot be read: {names}")
    return lines


def _ignored_lines(ignored: Mapping[Ignored, int]) -> list[str]:
    lines = []
    others = {one.metric: samples for one, samples in ignored.items() if one.reason == NOTHING}
    for one, samples in ignored.items():
        if one.reason != NOTHING:
            lines += _wrapped(f"  {one_line(one.in_words())} ({_samples(samples)})", "    ")
    if others:
        many = f"{len(others):,} other metrics" if len(others) > 1 else next(iter(others))
        lines += _wrapped(f"  {many}: {NOTHING} ({_samples(sum(others.values()))})", "    ")
    return lines


def _samples(number: int) -> str:
    return "1 sample" if number == 1 else f"{number:,} samples"


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent)
