"""Run totals and overrides as JSON and back: exact, so that nothing moves by a restart.

What was not written by ``dump`` is refused where it is read: the ``load`` functions raise
ValueError, TypeError, ArithmeticError, LookupError or AttributeError for a value that cannot be
(stored_values.py), and for a format of a newer version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes
from otel_budget.core.override import NO_OVERRIDES, Override, OverrideKind, Overrides
from otel_budget.core.resources import ZERO
from otel_budget.ledger.counter import Branches, CounterState
from otel_budget.ledger.freshness import Lag
from otel_budget.ledger.process import Ending, Process
from otel_budget.ledger.restart_loop import NO_RESTARTS, Restarts
from otel_budget.ledger.run import RunTotals
from otel_budget.ledger.target_series import TargetSeries
from otel_budget.policy.suggester import PastRun
from otel_budget.policy.suggestion import EndedRun
from otel_budget.sidecar.storage.pace_row import load_pace, pace_text
from otel_budget.sidecar.storage.stored_values import (
    dump_number,
    load_amount,
    load_amounts,
    load_calls,
    load_labels,
    load_limits,
    load_moment,
    load_number,
    load_parent,
    load_real,
)

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number

#: Version of this format. A reader refuses a newer one and reads the older ones. 2 has orders; 4
#: has more facts than a reader of 3 takes: it would put all rows aside, and all runs would begin at
#: 0. In 3 and 4 what is written of every run at every tick is rows in place of objects: facts, in
#: the order of RunAttributes, to which fields are only added at the end, incarnations and views.
#: Names would make the text half as long again, and a quarter slower to write.
FORMAT = 4
_UNSURE = {semconv.COST: "unpriced_calls", semconv.TOKENS: "unknown_usage_calls"}
_PROCESS = (
    "key", "started_at", "carried_over", "facts", "facts_at", "began_at", "timed", "unsure",
    "views",
)  # fmt: skip
#: Only where it carries another run than the run was opened for: an older version refuses that.
_RUN = "run"
_ENDING = "ending"
#: Facts that are no plain number.
_NO_NUMBERS = (
    "carried_over",
    "limits",
    "thresholds",
    "state",
    "progress_further",
    "labels",
    "parent",
)
#: The facts of a row: all but the labels and what came after them, which have keys of the run's
#: own. An earlier version refuses a longer row, and does not look at a key that it does not know.
_FACTS = RunAttributes._fields.index("labels")
#: What came after the labels and the parent: numbers.
_KEYS = RunAttributes._fields[RunAttributes._fields.index("parent") + 1 :]
#: Facts that every row has: those after them only where one of them is known.
_USUAL_FACTS = RunAttributes._fields.index("progress_further")
_SERIES = ("seen_at", "seen_before", "implausible_since", "series", "folded")


def to_json(run: RunTotals) -> str:
    """Return the run as JSON; money is a string."""
    text, pace = _ENCODE(_dump(run)), pace_text(run)
    return f'{text[:-1]},"pace":{pace}}}'


def from_json(text: str) -> RunTotals:
    """Return the run that ``to_json`` wrote.

    Raises ValueError for a format it does not know, or a value that cannot be; of any other text,
    whatever comes of it. What is returned can be judged: one bad row must not end a tick.
    """
    run = _load(json.loads(text))
    if not isinstance(run.session_id, str):
        raise TypeError(f"session_id is {run.session_id!r}")
    if not run.totals().keys() <= ZERO.keys():
        raise ValueError(f"it has used {', '.join(run.totals())}")
    run.uncertainty, run.began_at, run.gap()  # raise now what they would later
    return run


def _dump(run: RunTotals) -> dict[str, Any]:
    said = zip(_KEYS, run.attributes[-len(_KEYS) :], strict=True)
    return {
        "format": FORMAT,
        "session_id": run.session_id,
        "started_at": run.started_at,
        "first_seen_at": run.first_seen_at,
        "known_from": run.known_from,
        **({"restarts": run.restarts} if run.restarts.number else {}),
        "superseded": run.superseded,
        **({"also": run.also, "earlier": run.earlier} if run.also or run.earlier else {}),
        **({"floor": run.floor} if run.floor else {}),
        **({"bequeathed": run.bequeathed} if run.bequeathed else {}),
        **({"disowned": run.disowned} if run.disowned else {}),
        **({} if run.held_by is None else {"held_by": run.held_by}),
        **({"first_at": _first_seen(run)} if len(run.processes) > 1 else {}),
        "unsure": run.unsure,
        "sampled_at": run.sampled_at,
        "ended_at": run.ended_at,
        **({} if run.vanished_at is None else {"vanished_at": run.vanished_at}),
        **({"has_left": True} if run.has_left else {}),
        "resets": run.resets,
        "gaps": run.gaps,
        "lag": run.lag.seconds,
        "facts": _dump_attributes(run.attributes),
        **({} if run.attributes.labels is None else {"labels": run.attributes.labels}),
        **({} if run.attributes.parent is None else {"parent": run.attributes.parent}),
        **{key: value for key, value in said if value is not None},
        "orders": [dump_override(o) for o in (run.overrides.stop, run.overrides.limits) if o],
        "incarnations": [
            _dump_process(key, process, run.attributes) for key, process in run.processes.items()
        ],
    }


def _load(data: dict[str, Any]) -> RunTotals:
    if data.get("format") not in range(1, FORMAT + 1):
        raise ValueError(f"account format {data.get('format')!r}: this version reads 1 to {FORMAT}")
    run = RunTotals(
        data["session_id"], load_moment(data["started_at"]), load_real(data["first_seen_at"])
    )
    run.superseded = tuple(map(load_real, data.get("superseded", ())))
    run.also = tuple(map(load_real, data.get("also", ())))
    run.earlier = load_amounts(data.get("earlier", {}))
    run.floor = load_amounts(data.get("floor", {}))
    run.bequeathed = load_amounts(data.get("bequeathed", {}))
    run.disowned = load_amounts(data.get("disowned", {}))
    run.held_by = load_parent(data.get("held_by"))
    run.known_from = load_real(data.get("known_from", run.first_seen_at))
    number, since, used = data.get("restarts", NO_RESTARTS)
    run.restarts = Restarts(int(load_real(number)), load_real(since), load_amounts(used))
    # Before 3: some calls, without their number.
    stored = data.get("at_least", ())
    known = {name: 1 for resource, name in _UNSURE.items() if resource in stored}
    run.unsure = load_calls(data.get("unsure", known))
    run.sampled_at = load_moment(data["sampled_at"])
    run.ended_at = load_moment(data["ended_at"])
    run.vanished_at = load_moment(data.get("vanished_at"))
    run.has_left = run.vanished_at is not None and data.get("has_left") is True
    run.resets = int(load_real(data["resets"]))
    run.gaps = tuple(map(load_real, data["gaps"]))
    run.lag = Lag(load_real(data.get("lag", 0.0)))
    numbers = {key: load_moment(data[key]) for key in _KEYS if key in data}
    said = _Said(load_labels(data.get("labels")), load_parent(data.get("parent")), numbers)
    run.attributes = _load_attributes(data["facts"], said)
    run.overrides = reduce(
        Overrides.after, map(load_override, data.get("orders", ())), NO_OVERRIDES
    )
    for saved in data["incarnations"]:
        if isinstance(saved, dict):  # before 3
            row = {"timed": True, "unsure": {}, "began_at": data.get("began_at"), **saved}
            target_series = {
                target: {"folded": {}, **series} for target, series in saved["views"].items()
            }
        else:
            rare = [*saved[len(_PROCESS) :], None, None]
            row = dict(zip(_PROCESS, saved[: len(_PROCESS)], strict=True))
            row[_RUN], row[_ENDING] = rare[:2]
            target_series = {
                target: dict(zip(_SERIES, series, strict=True)) for target, *series in row["views"]
            }
        run.processes[row["key"]] = _load_process(row, target_series, run.attributes, said)
    for key, target, first_at in data.get("first_at", ()):
        run.processes[key].target_series[target].first_at = load_real(first_at)
    run.find_alive()
    run.pace = load_pace(data, run)
    return run


def _first_seen(run: RunTotals) -> list[tuple[str, str, float]]:
    """Return when each process was first seen at each target: who goes on beside whom."""
    return [
        (key, target, series.first_at)
        for key, process in run.processes.items()
        for target, series in process.target_series.items()
    ]


def dump_override(override: Override) -> dict[str, Any]:
    """Return an operator's order as JSON types."""
    limits = {
        key: None if limit is None else dump_number(limit) for key, limit in override.limits.items()
    }
    return {
        "kind": str(override.kind),
        "reason": override.reason,
        "by": override.by,
        "at": override.at,
        "until": override.until,
        "limits": limits,
        **({"now": True} if override.now else {}),
    }


def load_override(data: dict[str, Any]) -> Override:
    """Return the order that ``dump_override`` wrote. Raises whatever comes of anything else."""
    limits = {
        key: None if limit is None else load_number(limit) for key, limit in data["limits"].items()
    }
    if not (isinstance(data["reason"], str) and isinstance(data["by"], str)):
        raise TypeError("an order's reason and its giver are text")
    at, until = load_real(data["at"]), load_moment(data["until"])
    kind, at_once = OverrideKind(data["kind"]), data.get("now", False)
    if not isinstance(at_once, bool):
        raise TypeError("a stop is one at once or not")
    return Override(kind, data["reason"], data["by"], at, until, limits, at_once)


def dump_past_run(past_run: PastRun) -> dict[str, Any]:
    """Return how a run ended as JSON types; the workflow comes first."""
    run = past_run.run
    return {
        "workflow": past_run.workflow,
        "session_id": past_run.session_id,
        "started_at": past_run.started_at,
        "at": past_run.at,
        "ended_well": run.ended_well,
        "used": {name: dump_number(used) for name, used in run.used.items()},
        "cut": {name: dump_number(limit) for name, limit in run.cut.items()},
    }


def load_past_run(data: dict[str, Any]) -> PastRun:
    """Return what ``dump_past_run`` wrote. Raises whatever comes of anything else."""
    workflow, session_id, ended_well = data["workflow"], data["session_id"], data["ended_well"]
    texts = isinstance(workflow, str) and isinstance(session_id, str)
    if not (texts and isinstance(ended_well, bool)):
        raise TypeError("a workflow and a session id are text, and a run ended well or not")
    run = EndedRun(load_amounts(data["used"]), ended_well, load_amounts(data["cut"]))
    started_at = load_moment(data["started_at"])
    return PastRun(workflow, session_id, started_at, load_real(data["at"]), run)


def amounts_to_json(amounts: Mapping[str, Number]) -> str:
    """Return what was used of resources as JSON; money is a string."""
    return _ENCODE(amounts)


def amounts_from_json(text: str) -> dict[str, Number]:
    """Return what ``amounts_to_json`` wrote. Raises whatever comes of anything else."""
    return load_amounts(json.loads(text))


def _dump_process(key: str, process: Process, attributes: RunAttributes) -> tuple[object, ...]:
    """Return it as a row of ``_PROCESS``. facts: the run's; they are not written twice."""
    return (
        key,
        process.started_at,
        process.carried_over,
        None if process.attributes is attributes else _dump_attributes(process.attributes),
        process.attributes_at,
        process.began_at,
        process.timed,
        process.unsure,
        [_dump_series(target, series) for target, series in process.target_series.items()],
        *_dump_rare(process),
    )


def _dump_rare(process: Process) -> tuple[object, ...]:
    """Return what few have: the run it carries, and what moved after it said that it is over."""
    ending = process.ending
    if ending is not None and ending.moves:
        return (process.run_started_at, ending.row())
    return () if process.run_started_at is None else (process.run_started_at,)


def _load_process(
    row: dict[str, Any],
    target_series: dict[str, dict[str, Any]],
    attributes: RunAttributes,
    said: _Said,
) -> Process:
    """Return a process. attributes, said: the run's; all its processes are taken to be of it."""
    process = Process(load_moment(row["started_at"]))
    process.run_started_at = load_moment(row.get(_RUN))
    process.carried_over = load_amounts(row["carried_over"])
    facts = row["facts"]
    process.attributes = attributes if facts is None else _load_attributes(facts, said)
    process.attributes_at = load_moment(row["facts_at"])
    process.began_at = load_moment(row["began_at"])
    process.timed, process.unsure = bool(row["timed"]), load_calls(row["unsure"])
    process.target_series = {
        target: _load_series(series) for target, series in target_series.items()
    }
    attributes = process.attributes
    if len(target_series) == 1:
        (series,) = process.target_series.values()  # what it said is of its newest sample
        series.lasted, series.active = attributes.duration, attributes.active
    if row.get(_ENDING) is not None:
        process.ending = Ending.of_row(row[_ENDING], process.used)
    elif attributes.state in semconv.ENDED_STATES and process.attributes_at is not None:
        process.mind_end(process.attributes_at, whole=True)
    return process


def _dump_series(target: str, series: TargetSeries) -> tuple[object, ...]:
    """Return it as its target and a row of ``_SERIES``."""
    return (
        target,
        series.seen_at,
        series.seen_before,
        series.implausible_since,
        [
            (*key, *state, *((series.branches[key].row(),) if key in series.branches else ()))
            for key, state in series.counters.items()
        ]
        if series.branches
        else [(*key, *state) for key, state in series.counters.items()],
        series.folded,
    )


def _load_series(row: dict[str, Any]) -> TargetSeries:
    series = TargetSeries(load_real(row["seen_at"]))
    series.seen_before = load_moment(row["seen_before"])
    series.implausible_since = load_moment(row["implausible_since"])
    series.counters = {
        (resource, labels): CounterState(load_amount(resource, total), load_amount(resource, last))
        for resource, labels, total, last, *_ in row["series"]
    }
    series.branches = {
        (resource, labels): Branches.of_row(branches[0], load_number)
        for resource, labels, _, _, *branches in row["series"]
        if branches
    }
    series.shown_at = dict.fromkeys(series.counters, series.seen_at)
    series.folded = load_amounts(row["folded"])
    series.sum_up()
    return series


def _dump_attributes(attributes: RunAttributes) -> tuple[object, ...]:
    """Return them as a row; what few have only where they do, as an earlier version refuses it."""
    row: tuple[object, ...] = attributes[:_FACTS]
    while len(row) > _USUAL_FACTS and row[-1] is None:
        row = row[:-1]
    return row


class _Said(NamedTuple):
    """What a run says that is stored in keys of its own, beside its facts."""

    labels: Mapping[str, str] | None
    parent: str | None
    numbers: Mapping[str, Any]
    """Of ``_KEYS``, those that there are."""


def _load_attributes(data: Any, said: _Said) -> RunAttributes:
    attributes = RunAttributes(**data) if isinstance(data, dict) else RunAttributes(*data)
    if any(value is not None for value in attributes[_FACTS:]):
        raise TypeError("a row of facts has no labels, no parent, and nothing after them")
    for name, value in zip(RunAttributes._fields, attributes, strict=True):
        if name not in _NO_NUMBERS:
            load_moment(value)
    if not isinstance(attributes.state, str | None):
        raise TypeError(f"state is {attributes.state!r}")
    return attributes._replace(
        carried_over=load_amounts(attributes.carried_over),
        limits=load_limits(attributes.limits),
        thresholds={key: load_real(value) for key, value in attributes.thresholds.items()},
        progress_further=None
        if attributes.progress_further is None
        else {key: load_real(value) for key, value in attributes.progress_further.items()},
        labels=said.labels,
        parent=said.parent,
        **said.numbers,
    )


def _encoded(value: object) -> object:
    """Return what the encoder itself has no way to write."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"an account holds a {type(value).__name__}: {value!r}")


#: No account holds itself: to look for that in each takes a tenth of the time.
_ENCODE = json.JSONEncoder(separators=(",", ":"), default=_encoded, check_circular=False).encode
