"""Shared budgets as lines for a terminal, out of the sidecar's JSON."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from otel_budget.cli.render.columns import aligned, number_of
from otel_budget.core.budget import Mode, WindowKind
from otel_budget.core.budget_text import shown_group
from otel_budget.core.resources import RESOURCES
from otel_budget.core.top_up import RESET
from otel_budget.core.verdict import LimitStatus
from otel_budget.logs.text import printable, some
from otel_budget.policy.format import amount, percent, time_left

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otel_budget.core.quantities import Number

    #: An object of the sidecar's JSON.
    Item = Mapping[str, Any]

_BAR: Final = 10
_FULL, _EMPTY = "\u2588", "\u2591"
_HEADER: Final = ("BUDGET", "GROUP", "USE", "", "STATUS", "FULL IN", "RESETS")
_HISTORY_HEADER: Final = ("GROUP", "FROM", "TO", "USE", "")
_STATUS: Final = {"ok": "ok", "approaching": "near", "exceeded": "exhausted"}
_NONE: Final = "-"


def budget_table(items: Iterable[Item], now: float, most: int, width: int | None = None) -> str:
    """Return a line for each resource of each group: of each budget the nearest to its limit first.

    now: Unix time. most: groups of a budget that are shown. width: of the terminal; where the table
    is wider, dates of resets are left out, then the bars. None: nothing is left out.
    """
    by_name: dict[str, list[Item]] = {}
    for item in items:
        by_name.setdefault(item["name"], []).append(item)
    rows: list[tuple[str, ...]] = []
    notes: list[str] = []
    for name, groups in by_name.items():
        for item in sorted(groups, key=nearest, reverse=True)[:most]:
            rows += _rows(item, now)
        if len(groups) > most:
            rest = len(groups) - most
            notes.append(f"{name}: {rest:,} more: otel-budget budget show {name}")
    return "\n".join((*_fitted([_HEADER, *rows], width), *map(printable, notes)))


def _fitted(rows: Sequence[tuple[str, ...]], width: int | None) -> list[str]:
    """Return rows as lines, with what a terminal has room for."""
    lines = aligned(rows)
    for shorten in (_without_dates, _without_bars):
        if width is None or max(map(len, lines)) <= width:
            break
        rows = [shorten(row) for row in rows]
        lines = aligned(rows)
    return lines


def _without_dates(row: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out when a window ends where it is said in how long."""
    _, found, left = row[-1].rpartition(" (")
    return (*row[:-1], left.removesuffix(")")) if found else row


def _without_bars(row: tuple[str, ...]) -> tuple[str, ...]:
    use = row[2].lstrip(_FULL + _EMPTY).strip()
    return (*row[:2], use, *row[3:])


def nearest(item: Item) -> float:
    """Return the share of the limit that was used most of; below 0 where there is none."""
    return max((one["ratio"] for one in item["resources"].values()), default=-1.0)


def budget_head(budget: Item) -> list[str]:
    """Return what is configured of a budget."""
    title = f" ({budget['title']})" if budget["title"] else ""
    per = f"; one for each {' and '.join(budget['per'])}" if budget["per"] else ""
    match = ", ".join(
        f"{label}={'|'.join(values)}" for label, values in sorted(budget["match"].items())
    )
    lines = [
        f"{budget['name']}{title}: {_mode(budget)}, when low: {budget['when_low']}",
        f"  window      {budget['window']['text']}",
        f"  for         {'runs with ' + match if match else 'every run'}{per}",
    ]
    if budget["weights"]:
        weights = ", ".join(f"{kind} {weight:g}" for kind, weight in budget["weights"].items())
        lines.append(f"  weights     {weights}; other tokens 1")
    if budget["carry_over"] or budget["carry_overrun"]:
        lines.append(f"  carries     {_carries(budget)}")
    if budget["counted_from"] is not None:
        runs = _counted(budget["sessions"], "run")
        lines.append(f"  counted     since {local(budget['counted_from'])}; {runs} known")
    return [printable(line) for line in lines]


def unshared(item: Item) -> str:
    """Return why a budget has no group: no run, or each run has all of it to itself."""
    if item["window"]["rule"] != WindowKind.RUN or not item["sessions"]:
        return "no run yet"
    return f"{_counted(item['sessions'], 'run')}, each by itself"


def _carries(budget: Item) -> str:
    """Say what a window leaves to the next one."""
    parts = []
    if budget["carry_over"]:
        parts.append(f"what is left, up to {percent(budget['carry_over'])} of the limit")
    if budget["carry_overrun"]:
        parts.append("what was used past the limit")
    return f"{', and '.join(parts)}, into the next window"


def group_details(item: Item, bound: Sequence[str], now: float) -> list[str]:
    """Return how one group stands, line by line. bound: ids of the runs that it decided on."""
    group = shown_group(item["group"] or {})
    lines = [f"  group       {group}"] if group else []
    lines.append(f"  resets      {_resets(item, now)}")
    states = {name: _status(one, item) for name, one in item["resources"].items()}
    wide = max(11, *map(len, states.values())) if states else 11
    for name, one in item["resources"].items():
        use = f"{name} {_bar(one)} {_use(name, one)}{_made(name, one)}"
        lines.append(f"  {states[name]:<{wide}} {use}")
        if left := _full_in(name, item):
            lines.append(f"  {'':<{wide}} full in about {left} at this pace")
    lines += [f"  top-up      {top_up_words(one)}" for one in item["top_ups"]]
    if bound:
        lines.append(f"  binds       {_counted(len(bound), 'run')}: {some(list(bound), ', ')}")
    return [printable(line) for line in lines]


def top_up_words(top_up: Item) -> str:
    """Return a top-up on one line."""
    amounts = ", ".join(f"{_noun(r, number_of(r, a))}" for r, a in top_up["amounts"].items())
    until = "the reset" if top_up["until"] == RESET else local(top_up["until"])
    by = top_up["by"] or "an operator"
    return f"{amounts} until {until}, by {by} at {local(top_up['at'])}: {top_up['reason']}"


def history_table(windows: Sequence[Item], resources: Iterable[str] | None = None) -> str:
    """Return a line for each resource of each window that is over.

    resources: those that are shown; None: all that were limited.
    """
    rows = [row for window in windows for row in _history_rows(window, resources)]
    return "\n".join(aligned((_HISTORY_HEADER, *rows)))


def local(text: str | None) -> str:
    """Return a time of the sidecar's JSON for people, in its zone and with its offset."""
    if text is None:
        return _NONE
    at = datetime.fromisoformat(text)
    seconds = at.strftime(":%S") if at.second else ""
    offset = at.strftime("%z")
    return f"{at:%a %Y-%m-%d %H:%M}{seconds} {offset[:3]}:{offset[3:]}"


def _rows(item: Item, now: float) -> Iterator[tuple[str, ...]]:
    name = item["name"]
    if not item["resources"]:
        yield (name, _NONE, unshared(item), "", _NONE, "", _NONE)
        return
    group, resets = shown_group(item["group"]) or _NONE, _resets(item, now)
    for resource, one in item["resources"].items():
        use = f"{resource} {_use(resource, one)}"
        full = _full_in(resource, item)
        yield (name, group, _bar(one), use, _status(one, item), full, resets)


def _full_in(resource: str, item: Item) -> str:
    """Say when a limit is reached at the present pace; empty if it is, or will not be."""
    left = item["exhaustion_seconds"].get(resource)
    if left is None or item["resources"][resource]["status"] == LimitStatus.EXCEEDED:
        return ""
    return time_left(left)


def _history_rows(window: Item, resources: Iterable[str] | None) -> Iterator[tuple[str, ...]]:
    group = shown_group(window["group"]) or _NONE
    start, end = local(window["start"]), local(window["end"])
    limits = window["limits"]
    for name in limits or window["used"]:
        if resources is not None and name not in resources:
            continue
        used = number_of(name, window["used"].get(name, 0))
        at_least = "at least " if window.get("at_least") else ""
        text = f"{name} {at_least}{amount(name, used)}"
        bar = ""
        if name in limits:
            limit = number_of(name, limits[name])
            ratio = float(used / limit) if limit else 1.0  # type: ignore[operator] # both of one kind
            text += f" of {amount(name, limit)}"
            bar = f"{_blocks(ratio)} {percent(ratio):>6}"
        yield (group, start, end, bar or _NONE, text)


def _status(one: Item, item: Item) -> str:
    said = _STATUS.get(one["status"], str(one["status"]))
    return f"{said}, shadow" if item["mode"] == Mode.SHADOW else said


def _mode(budget: Item) -> str:
    shadow = budget["mode"] == Mode.SHADOW
    return "in shadow: it is judged and stops no run" if shadow else "enforced"


def _resets(item: Item, now: float) -> str:
    if item["resets_at"] is None:
        return "bit by bit" if "rolling" in item["window"]["rule"] else "never"
    left = datetime.fromisoformat(item["resets_at"]).timestamp() - now
    return local(item["resets_at"]) + (f" (in {time_left(left)})" if left > 0 else "")


def _bar(one: Item) -> str:
    return f"{_blocks(one['ratio'])} {percent(one['ratio']):>6}"


def _blocks(ratio: float) -> str:
    full = int(min(1.0, max(0.0, ratio)) * _BAR)  # cut: what looks full is
    return _FULL * full + _EMPTY * (_BAR - full)


def _use(name: str, one: Item) -> str:
    at_least = "at least " if one.get("at_least") else ""
    used, limit = number_of(name, one["used"]), number_of(name, one["limit"])
    return f"{at_least}{amount(name, used)} of {amount(name, limit)}"


def _made(name: str, one: Item) -> str:
    """Say what a limit is made of, if not of what is configured alone."""
    text = f": {amount(name, number_of(name, one['base']))} configured"
    plain = len(text)
    top_up, carried = number_of(name, one["top_up"]), number_of(name, one["carried"])
    if top_up:
        text += f" + {amount(name, top_up)} topped up"
    if carried > 0:
        text += f" + {amount(name, carried)} carried over"
    elif carried < 0:
        text += f" - {amount(name, -carried)} used past the limit before"
    return text if len(text) > plain else ""


def _noun(name: str, number: Number) -> str:
    said = amount(name, number)
    row = RESOURCES.get(name)
    return said if said.startswith("$") else f"{said} {row.noun if row else name}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
