"""What is suggested by runs that are over, as JSON and as a section of the sidecar's file."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core.limits import DEFAULT_THRESHOLD
from otel_budget.core.resources import RESOURCES
from otel_budget.logs.text import one_line
from otel_budget.policy.format import amount
from otel_budget.policy.suggestion import resources_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.policy.suggestion import Suggestion
    from otel_budget.replay.ended_runs import Cut, Group

_SECTION: Final = "resource_limits:"


class Row(NamedTuple):
    """What is proposed for one resource of a workflow."""

    suggestion: Suggestion
    cut: Cut | None
    """What the proposal would have cut; None where nothing is proposed."""


class Advice(NamedTuple):
    """What is proposed for a workflow."""

    workflow: str
    """Empty: those that name none, or all together."""
    ends: Mapping[str, int]
    """How its runs ended, to how many did."""
    ended_well: int
    rows: tuple[Row, ...]
    """By resource, of those that its runs used."""

    @property
    def runs(self) -> int:
        """How many are over."""
        return sum(self.ends.values())


def advise(groups: Mapping[str, Group], thresholds: Mapping[str, float]) -> list[Advice]:
    """Return what is proposed for each workflow. thresholds: as configured; absent is the default.

    A run that no limit could have cut by a resource, as none used it, has no row of it.
    """
    return [
        Advice(name, group.ends, group.ended_well, tuple(_rows(group, thresholds)))
        for name, group in groups.items()
    ]


def _rows(group: Group, thresholds: Mapping[str, float]) -> Iterator[Row]:
    for found in group.suggest(resources_of(group.runs), thresholds, DEFAULT_THRESHOLD):
        threshold = thresholds.get(found.resource, DEFAULT_THRESHOLD)
        limit = found.proposed
        yield Row(found, None if limit is None else group.cut_by(found.resource, limit, threshold))


def proposes(advice: Sequence[Advice]) -> bool:
    """Tell whether anything is proposed."""
    return any(row.cut is not None for each in advice for row in each.rows)


def as_json(advice: Sequence[Advice], *, by_workflow: bool, open_runs: int) -> str:
    """Return it as one line of JSON; money is a string. open_runs: those without an end."""
    data = {
        "by": "workflow" if by_workflow else None,
        "runs": sum(each.runs for each in advice),
        "open": open_runs,
        "groups": [_group(each, by_workflow=by_workflow) for each in advice],
    }
    return json.dumps(data, allow_nan=False)


def _group(advice: Advice, *, by_workflow: bool) -> dict[str, Any]:
    return {
        **({"workflow": advice.workflow} if by_workflow else {}),
        "runs": advice.runs,
        "ended_well": advice.ended_well,
        "ends": dict(sorted(advice.ends.items())),
        "resources": {row.suggestion.resource: _resource(row) for row in advice.rows},
    }


def _resource(row: Row) -> dict[str, Any]:
    found, cut = row.suggestion, row.cut
    return {
        "runs": found.runs,
        "quantiles": {f"p{share}": _number(used) for share, used in found.quantiles.items()},
        "max": None if found.largest is None else _number(found.largest),
        "proposed": None if found.proposed is None else _number(found.proposed),
        "reason": found.reason,
        "would_have_cut": None
        if cut is None
        else {
            "ended_well": cut.ended_well,
            "warned": cut.warned,
            "all": cut.every,
            "of": cut.known,
        },
    }


def _number(value: Number) -> int | float | str:
    return value if isinstance(value, int | float) else f"{value:f}"


def as_yaml(advice: Sequence[Advice], *, by_workflow: bool) -> str:
    """Return a section of the sidecar's file, with the reasons as comments.

    Ceilings in it hold for every run. By workflow the sidecar suggests itself, by the runs that it
    sees; so the section has it do that, up to the largest of the proposals.
    """
    lines = [f"# {text}" for each in advice for text in _comments(each, by_workflow=by_workflow)]
    limits = _largest(advice)
    if not limits:
        return "\n".join([*lines, "# Nothing is proposed."])
    given = [f"{RESOURCES[name].limit_key}: {_plain(limit)}" for name, limit in limits.items()]
    if not by_workflow:
        return "\n".join([*lines, _SECTION, *(f"  {line}" for line in given)])
    return "\n".join([
        *lines, _SECTION, "  from: suggested  # for each workflow, by the runs that it sees",
        "  at_most:  # the largest proposal: it holds for every run, from the first on",
        *(f"    {line}" for line in given),
    ])  # fmt: skip


def _comments(advice: Advice, *, by_workflow: bool) -> Iterator[str]:
    well = f"{advice.ended_well:,} of {advice.runs:,} runs ended well"
    yield f"{name_of(advice.workflow, by_workflow=by_workflow)}: {well}"
    for row in advice.rows:
        yield f"  {row_text(row)}"


def name_of(workflow: str, *, by_workflow: bool) -> str:
    """Name a group to people."""
    if not by_workflow:
        return "all workflows"
    return f"workflow {one_line(workflow)}" if workflow else "runs that name no workflow"


def row_text(row: Row) -> str:
    """Say in one line what is proposed for a resource, why, and what it would have cut."""
    found, cut = row.suggestion, row.cut
    title = RESOURCES[found.resource].noun
    if cut is None or found.proposed is None:
        return f"{title}: no limit is proposed: {found.reason}"
    cuts = f"{cut.ended_well:,} of {found.runs:,} that ended well, {cut.every:,} of {cut.known:,}"
    return (
        f"{title} {amount(found.resource, found.proposed)}: {found.reason}; by their use it would "
        f"have cut {cuts} in all"
    )


def _largest(advice: Sequence[Advice]) -> dict[str, Number]:
    limits: dict[str, Number] = {}
    for row in (row for each in advice for row in each.rows):
        proposed, name = row.suggestion.proposed, row.suggestion.resource
        if proposed is not None:
            limits[name] = max(proposed, limits.get(name, proposed))
    return {name: limits[name] for name in RESOURCES if name in limits}


def _plain(limit: Number) -> str:
    """Write a limit as YAML reads it as a number: without an exponent."""
    return f"{limit:.0f}" if limit == int(limit) else f"{Decimal(str(limit)):f}"
