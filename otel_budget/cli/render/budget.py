"""Shared budgets as lines for a terminal, out of the sidecar's JSON."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from otel_budget.cli.render.columns import aligned, number_of
from otel_budget.core.budget import Mode, WindowKind
from otel_budget.core.budget_text import shown_group
from otel_budget.core.resources import RESOURCES
from otel_budget.core.top_up import RESET
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


def budget_table(items: Iterable[Item], now: float, most: int) -> str:
    """Return a line for each resource of each group: of each budget the nearest to its limit first.

    now: Unix time. most: groups of a budget that are shown.
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
    return "\n".join((*aligned((_HEADER, *rows)), *map(printable, notes)))


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
    if budget["counted_from"] is not None:
        runs = _counted(budget["sessions"], "run")
        lines.append(f"  counted     since {local(budget['counted_from'])}; {runs} known")
    return [printable(line) for line in lines]


def unshared(item: Item) -> str:
    """Return why a budget has no group: no run, or each run has all of it to itself."""
    if item["window"]["rule"] != WindowKind.RUN or not item["sessions"]:
        return "no run yet"
    return f"{_counted(item['sessions'], 'run')}, each by itself"


def group_details(item: Item, bound: Sequence[str], now: float) -> list[str]:
    """Return how one group stands, line by line. bound: ids of the runs that it decided on."""
    group = shown_group(item["group"] or {})
    lines = [f"  group       {group}"] if group else []
    lines.append(f"  resets      {_resets(item, now)}")
    for name, one in item["resources"].items():
        use = f"{name} {_bar(one)} {_use(name, one)}{_made(name, one)}"
        lines.append(f"  {_status(one, item):<11} {use}")
        left = item["exhaustion_seconds"].get(name)
        if left:
            lines.append(f"  {'':<11} full in about {time_left(left)} at this pace")
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
        left = item["exhaustion_seconds"].get(resource)
        full = time_left(left) if left else ""
        use = f"{resource} {_use(resource, one)}"
        yield (name, group, _bar(one), use, _status(one, item), full, resets)


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
        return "never"
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
    parts = [f"{amount(name, number_of(name, one['base']))} configured"]
    for key, words in (("top_up", "topped up"), ("carried", "carried over")):
        more = number_of(name, one[key])
        if more:
            parts.append(f"{amount(name, more)} {words}")
    return f": {' + '.join(parts)}" if len(parts) > 1 else ""


def _noun(name: str, number: Number) -> str:
    said = amount(name, number)
    row = RESOURCES.get(name)
    return said if said.startswith("$") else f"{said} {row.noun if row else name}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
