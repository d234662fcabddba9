"""Which program a page is of: by the metrics it shows, the same answer for the same page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import COUNTERS, FURTHER, TIMES
from otel_budget.presets import model as roles
from otel_budget.presets.model import MetricRule, Preset

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_budget.core.samples import Sample

_RESOURCE_ROLES: Final = {
    semconv.TOKENS: (roles.TOKENS,),
    semconv.API_CALLS: (roles.CALLS,),
    semconv.COST: (roles.COST_USD,),
    **{name: (name,) for name in FURTHER},
    **dict.fromkeys(TIMES, (roles.REPEAT,)),
}
#: What otel-budget itself exports, to be shown like the rest; the sidecar needs no preset for it.
OTEL_BUDGET: Final = Preset(
    name="otel_budget",
    title="otel-budget",
    rank=90,
    recognised_by=tuple(COUNTERS),
    session_labels=(semconv.SESSION_ID,),
    metrics=(
        MetricRule((semconv.SESSION_TOKENS.name,), (roles.TOKENS,)),
        MetricRule((semconv.SESSION_API_CALLS.name,), (roles.CALLS,)),
        MetricRule((semconv.SESSION_COST.name,), (roles.COST_USD,)),
        *(MetricRule((row.counter.name,), (name,)) for name, row in FURTHER.items() if row.counter),
        MetricRule(
            (semconv.CARRIED_OVER.name,),
            label=(semconv.RESOURCE,),
            values=_RESOURCE_ROLES,
            gauge=True,
            why="not a count",
        ),
        MetricRule(
            (semconv.PHASE_TOKENS.name,),
            label=(semconv.TOKEN_TYPE,),
            values={
                "input": (roles.INPUT,),
                "output": (roles.OUTPUT,),
                semconv.UNSPECIFIED: (roles.REPEAT,),
            },
            why="in the tokens of the run, of unknown type",
        ),
        MetricRule(
            (semconv.PHASE_TOKEN_DETAILS.name,),
            label=(semconv.DETAIL,),
            values={
                "cache_read": (roles.CACHED,),
                "cache_write": (roles.CACHE_WRITE,),
                "reasoning": (roles.REASONING,),
            },
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Match:
    """A preset that fits a page."""

    preset: Preset
    metric: str
    """By which it was recognised."""


def detect(presets: Iterable[Preset], samples: Sequence[Sample]) -> tuple[Match, ...]:
    """Return the presets that fit, the one to use first: by rank, and of equals by name."""
    names = {sample.name for sample in samples}
    fitting = []
    for preset in presets:
        by = names.intersection(preset.recognised_by)
        if by and preset.recognised_labels:
            by = {s.name for s in samples if s.name in by and _is_labelled(preset, s)}
        if by:
            fitting.append(Match(preset, min(by, key=preset.recognised_by.index)))
    return tuple(sorted(fitting, key=lambda match: (-match.preset.rank, match.preset.name)))


def _is_labelled(preset: Preset, sample: Sample) -> bool:
    return any(sample.labels.get(label) for label in preset.recognised_labels)
