"""Whether a reading shows all that is known of a run, where the answer it is from is not whole.

That something is missing of an answer does not say that something of this run is: a store that is
away may hold none of it, or the same as another one that is there. So what is known decides:

- A run that shows each series that it showed before, and as many limits as it says it has, is
  judged by them.
- What is left out of a run that is known stays as it is known, and the run is not fresh by the
  rest.
- Of a run that was never seen before nothing can be compared: it has to say how many limits it
  has, or be seen once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_budget.core.observation import RunAttributes, RunObservation
    from otel_budget.ledger.process import Process
    from otel_budget.ledger.run import RunTotals

#: Facts that a process which stated them goes on to state; limits and progress have their number.
_LASTING: Final = (
    "started_at", "incarnation_at", "duration", "active", "state", "optional_series",
    "unpriced_calls", "unknown_usage_calls", "estimated_calls", "completion_threshold",
)  # fmt: skip


def completed(run: RunTotals | None, reading: RunObservation) -> tuple[RunObservation, bool]:
    """Return a reading with what it leaves out of the run, and whether there is nothing of it.

    run: the one in the reading, if that is known.
    """
    attributes = reading.attributes
    if run is None:
        return reading, _says_all_limits(attributes)
    seen = [i for i in run.processes.values() if _may_be_of(i, reading)]
    if not seen:
        resources = {resource for resource, _ in reading.counters}
        return reading, _says_all_limits(attributes) and run.totals().keys() <= resources
    process = max(seen, key=lambda one: one.place)
    series = process.target_series[reading.target]
    lost = series.known_series().keys() - reading.counters.keys()
    if lost:
        # What a copy showed at the same time, and was less, is no drop later on.
        known = {key: series.counters[key].last for key in lost if key in series.counters}
        reading = reading._replace(counters={**known, **reading.counters})
    return reading, not lost and _states_as_much(attributes, process.attributes)


def _may_be_of(process: Process, reading: RunObservation) -> bool:
    stated = reading.attributes.incarnation_at
    return reading.target in process.target_series and stated in (None, process.started_at)


def _says_all_limits(attributes: RunAttributes) -> bool:
    return attributes.optional_series == attributes.optional_shown


def _states_as_much(attributes: RunAttributes, known: RunAttributes) -> bool:
    for name in _LASTING:
        if getattr(attributes, name) is None and getattr(known, name) is not None:
            return False
    if attributes.optional_series is not None:
        return _says_all_limits(attributes)
    if known.wrap_up_calls is not None and attributes.wrap_up_calls is None:
        return False
    return known.limits.keys() <= attributes.limits.keys()
