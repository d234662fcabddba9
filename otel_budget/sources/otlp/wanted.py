"""What of a request is looked at: metrics and events that some preset counts, and our own.

All else is dropped while it is decoded. So are attributes: only those that a preset names, those
that name runs, and a resource's own limits are kept; never a prompt, nor what a tool said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.resources import RESOURCES
from otel_budget.sources.otlp import naming
from otel_budget.sources.otlp.messages import EVENT_NAME, HISTOGRAM, SUMMARY
from otel_budget.sources.otlp.owners import Owners
from otel_budget.sources.session_assembly import KIND_LABELS, needed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_budget.presets.model import EventRule, Preset

#: Attributes that name a run, in the order in which they are asked, after those of the resource.
SESSION_ATTRIBUTES: Final = ("session.id", "conversation.id")
SERVICE_NAME: Final = "service.name"
INSTANCE_ID: Final = "service.instance.id"
#: Attribute of a resource to the resource that it limits, or sets the threshold of.
LIMIT_ATTRIBUTES: Final = {f"otel_budget.{row.limit_key}": row for row in RESOURCES.values()}
THRESHOLD_ATTRIBUTES: Final = {
    f"otel_budget.{row.threshold_key}": row for row in RESOURCES.values()
}
#: Attribute of a resource that says how many calls its run keeps back for its end.
WRAP_UP_ATTRIBUTE: Final = "otel_budget.wrap_up_calls"
#: Labels of our own series that always matter.
_OWN_LABELS: Final = frozenset(
    {
        semconv.SESSION_ID, semconv.PARENT_SESSION_ID, semconv.RESOURCE, semconv.STATE,
        semconv.UNIT,
    }
)  # fmt: skip


class Wanted:
    """What some presets count, by the names it comes under."""

    def __init__(
        self,
        presets: Sequence[Preset],
        run_attributes: Sequence[str] = (),
        details: Details = NO_DETAILS,
    ) -> None:
        """run_attributes: further attributes that name a run. details: what of runs is read."""
        self.presets = presets
        self.owners = Owners(presets, details.labels)
        """Reads whose a run is."""
        self.own = frozenset(needed(details))
        """The metrics of ours."""
        kinds = KIND_LABELS if details.token_kinds else ()
        self.own_labels = _OWN_LABELS.union(details.labels, kinds)
        """Labels of our own series that matter."""
        self.names = self.own.union(*(_names(preset) for preset in presets))
        """Every metric, as Prometheus would spell it."""
        self.rules: dict[str, list[tuple[Preset, EventRule]]] = {}
        """Event to what it counts as, and to whom; the highest rank first."""
        for preset in sorted(presets, key=lambda one: (-one.rank, one.name)):
            for rule in preset.events:
                for name in rule.names:
                    self.rules.setdefault(name, []).append((preset, rule))
        self.events = frozenset(self.rules)
        naming_runs = (*run_attributes, semconv.ATTR_SESSION_ID, *SESSION_ATTRIBUTES)
        self._of_all = frozenset(map(naming.label, naming_runs)).union(
            *(preset.session_labels for preset in presets)
        )
        self._of_all |= self.owners.spellings
        self._of_points = self._of_all.union(self.own_labels, *(labels_of(p) for p in presets))
        self._of_records = frozenset({EVENT_NAME}).union(
            *(rule.attributes_read for preset in presets for rule in preset.events)
        )
        self._of_resources = frozenset(
            {SERVICE_NAME, INSTANCE_ID, WRAP_UP_ATTRIBUTE, *LIMIT_ATTRIBUTES, *THRESHOLD_ATTRIBUTES}
        )

    def metric(self, name: str, unit: str, kind: str, *, monotonic: bool) -> bool:
        """Tell whether a metric is looked at."""
        if kind in (HISTOGRAM, SUMMARY):
            return any(naming.known_names(name, unit, self.names))
        return (
            naming.known_name(name, unit, kind, monotonic=monotonic, known=self.names) is not None
        )

    def keeps_of_resource(self, attribute: str) -> bool:
        """Tell whether an attribute of a resource is kept."""
        return attribute in self._of_resources or naming.label(attribute) in self._of_all

    def keeps_of_point(self, attribute: str) -> bool:
        """Tell whether an attribute of a point is kept."""
        return naming.label(attribute) in self._of_points

    def keeps_of_record(self, attribute: str) -> bool:
        """Tell whether an attribute of a log record is kept."""
        return attribute in self._of_records or naming.label(attribute) in self._of_all


def _names(preset: Preset) -> Iterable[str]:
    return (*preset.names, *preset.recognised_by)


def labels_of(preset: Preset) -> Iterable[str]:
    """Return the labels by which a preset decides what counts, and for whom."""
    repeated = preset.repeated
    emitters = () if repeated is None else (*repeated.labels, *repeated.per, *repeated.process)
    skipped = (skip.label for skip in preset.skip)
    return (*preset.labels_read, *preset.recognised_labels, *skipped, *emitters)
