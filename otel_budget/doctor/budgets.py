"""The budgets that runs share: does each guard somebody, and can it be counted?"""

from __future__ import annotations

import json
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from otel_budget import semconv
from otel_budget.core.budget import OTHER, Mode
from otel_budget.doctor.finding import counted, ok, warning
from otel_budget.sdk.sidecar_client.request import AskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_budget.doctor.finding import Finding
    from otel_budget.doctor.sidecar import Figures
    from otel_budget.sdk.sidecar_client.request import Asker

_LINK: Final = "budgets"
#: Groups that are looked at, in pages of a thousand.
_PAGES_MOST: Final = 6
#: Samples that are late by more than this share of a window end up in the next one too often.
_LATE_MOST: Final = 0.1

Item = dict[str, Any]
"""A group of a budget, or one that no run matched, as ``GET /v1/budgets`` has it."""


def look_at(asker: Asker, figures: Figures) -> Iterator[Finding]:
    """Yield how each budget is; nothing where none is configured. figures: the sidecar's."""
    try:
        items = _items(asker)
    except AskError as exc:
        if exc.status != 404:  # noqa: PLR2004 - one that is older has none
            yield warning(_LINK, exc.problem, "the sidecar's log says why")
        return
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        yield warning(_LINK, f"what {asker.url}/v1/budgets says is no list: {exc}", "is it ours?")
        return
    for name, groups in groupby(items, key=lambda item: str(item["name"])):
        found = list(findings(list(groups), figures))
        yield from found or [ok(_LINK, f"{name} guards {_whom(items, name)}")]


def _items(asker: Asker) -> list[Item]:
    found: list[Item] = []
    cursor = ""
    for _ in range(_PAGES_MOST):
        page = json.loads(asker.get(f"/v1/budgets?limit=1000{cursor}"))
        found += page["budgets"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={quote(page['next_cursor'], safe='')}"
    return found


def _whom(items: Sequence[Item], name: str) -> str:
    mine = [item for item in items if item["name"] == name]
    runs = counted(sum(int(item["sessions"]) for item in mine), "run")
    return f"{runs} in {counted(len(mine), 'group')}" if mine[0]["per"] else runs


def findings(groups: Sequence[Item], figures: Figures) -> Iterator[Finding]:
    """Yield what is wrong with one budget. groups: at least one, or its only item."""
    budget = groups[0]
    name = budget["name"]
    if budget["mode"] == Mode.SHADOW:
        text = f"{name} is in shadow, counted since {budget['counted_from']}: it stops nobody"
        yield warning(_LINK, text, "set mode: enforce once it is right")
    runs = sum(int(group["sessions"]) for group in groups)
    if not runs:
        yield from _unmatched(budget, figures)
        return
    yield from _unlabelled(budget, groups)
    yield from _crowded(budget, groups)
    yield from _not_exported(budget, figures)
    yield from _too_late(groups, figures)


def _unmatched(budget: Item, figures: Figures) -> Iterator[Finding]:
    known = figures.get((semconv.SIDECAR_SESSIONS.name,), 0.0)
    name, match = budget["name"], budget["match"]
    of = " and ".join(f"{label}={' or '.join(values)}" for label, values in match.items())
    if not known:
        yield ok(_LINK, f"{name} waits for runs{' with ' if of else ''}{of}")
        return
    text = f"{name} guards nobody: none of {counted(known, 'run')} has {of or 'been counted in it'}"
    advice = "`otel-budget session list --by LABEL` shows the values that there are"
    yield warning(_LINK, text, advice)


def _unlabelled(budget: Item, groups: Sequence[Item]) -> Iterator[Finding]:
    """Yield labels of ``per`` that no run has: all of them share one limit then."""
    for label in budget["per"]:
        own = [group["group"] for group in groups if group["group"] is not None]
        named = [values for values in own if values != {OTHER: "true"}]
        if named and not any(values.get(label) for values in named):
            text = f"no run of {budget['name']} says its {label}: all of them share one limit"
            advice = f"give runs a {label}, or name the label that has it under scope_labels"
            yield warning(_LINK, text, advice)


def _crowded(budget: Item, groups: Sequence[Item]) -> Iterator[Finding]:
    crowd = [group for group in groups if group["group"] == {OTHER: "true"}]
    most = budget["groups_max"]
    if crowd and budget["per"]:
        runs = counted(int(crowd[0]["sessions"]), "run")
        text = f"{budget['name']} has no more room than for {most:,} groups: {runs} share one limit"
        advice = "does somebody make up values of a label? else raise groups_max"
        yield warning(_LINK, text, advice)


def _not_exported(budget: Item, figures: Figures) -> Iterator[Finding]:
    exported = {key[2] for key in figures if key[0] == semconv.USED.name}
    limited = dict.fromkeys(resource for resource in budget["resources"])
    for resource in limited:
        if exported and resource not in exported:
            text = f"{budget['name']} limits {resource}, and no run exports any: that never holds"
            advice = "limit what the programs export: `otel-budget read URL` shows what counts"
            yield warning(_LINK, text, advice)


def _too_late(groups: Sequence[Item], figures: Figures) -> Iterator[Finding]:
    delays = [value for key, value in figures.items() if key[0] == semconv.SOURCE_DELAY.name]
    delay = max(delays, default=0.0)
    for group in groups:
        seconds = _length(group["window"])
        if seconds is not None and delay > _LATE_MOST * seconds:
            text = (
                f"samples come {delay:.0f} s late, and a window of {group['name']} lasts "
                f"{seconds:.0f} s: what is used in one is known in the next"
            )
            yield warning(_LINK, text, "give it a longer window, or scrape more often")
            return


def _length(window: Mapping[str, Any]) -> float | None:
    start, end = window["start"], window["end"]
    if start is None or end is None:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
