"""From the metrics of a resource to the series of its runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.samples import Sample, plausible
from otel_budget.presets.model import word
from otel_budget.sources.otlp import naming
from otel_budget.sources.otlp.attributes import taken
from otel_budget.sources.otlp.contract import DELTA
from otel_budget.sources.otlp.messages import GAUGE, HISTOGRAM, SUM, SUMMARY
from otel_budget.sources.otlp.own_limits import own_limits
from otel_budget.sources.otlp.run import METRICS, View
from otel_budget.sources.otlp.series import STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_budget.presets.model import Preset
    from otel_budget.sources.otlp.contract import OwnSeries
    from otel_budget.sources.otlp.identity import Identities
    from otel_budget.sources.otlp.known_resources import KnownResource, KnownResources
    from otel_budget.sources.otlp.messages import Metric, Point, Resource
    from otel_budget.sources.otlp.run import PushedRun
    from otel_budget.sources.otlp.runs import Runs
    from otel_budget.sources.otlp.series import SeriesPage
    from otel_budget.sources.otlp.wanted import Wanted

#: Names what is cumulative and does not say when it began: after a restart here, too, so that the
#: ledger goes on with it.
_NO_START: Final = 0
_SCOPE: Final = "otel_scope_name"


class Reading(NamedTuple):
    """One value of a point, as Prometheus would have it."""

    sample: Sample
    """With all labels that were kept. NaN where the value is missing."""
    point: Point
    delta: bool
    of: tuple[str, str]
    """Name and scope of its metric, as they are in the digest of its stream."""

    @property
    def start(self) -> int:
        """When its cumulative stretch began; 0 if that is unknown, or it is none."""
        return 0 if self.delta or self.sample.declared == GAUGE else max(0, self.point.start)


class MetricsIntake:
    """Takes in metrics."""

    def __init__(
        self,
        wanted: Wanted,
        identities: Identities,
        known: KnownResources,
        runs: Runs,
        own: OwnSeries,
    ) -> None:
        """Share what is known with those that take in the other signals."""
        self._wanted, self._identities = wanted, identities
        self._known, self._runs, self._own = known, runs, own

    def take(
        self, origin: KnownResource, resource: Resource, metrics: Sequence[Metric], now: float
    ) -> tuple[dict[str, None], int]:
        """Take in a resource's metrics; return the runs they are of, and the values that count."""
        found = [reading for metric in metrics for reading in self._readings(metric)]
        own = [reading for reading in found if reading.sample.name in self._wanted.own]
        if own:
            self._known.pushes_own(origin, resource)
            sessions, dropped = self._own.take(
                map(self._own_sample, own), origin.peer, resource.digest, now
            )
            self._runs.dropped.update(dropped)
            if sessions:
                self._known.recognises(origin)
            return dict.fromkeys(sessions), len(own)
        if not found or self._known.is_own(origin, resource):
            return {}, 0
        preset = self._known.preset_of(origin, (reading.sample for reading in found))
        if preset is None:
            return {}, 0
        self._known.recognises(origin)
        return self._take_foreign(origin, preset, resource, found, now)

    def _take_foreign(
        self, origin: KnownResource, preset: Preset, resource: Resource, found: Sequence[Reading],
        now: float,
    ) -> tuple[dict[str, None], int]:  # fmt: skip
        names = frozenset(preset.names)
        read = [reading for reading in found if reading.sample.name in names]
        epoch = origin.epoch([(one.point.stream, one.start) for one in read if one.start])
        limits, view = own_limits(resource.attributes), View(METRICS, preset.name)
        runs: dict[str, PushedRun] = {}
        counted = 0
        for one in read:
            identity = self._identities.of(
                resource.attributes, one.point.attributes, preset, origin.peer
            )
            if not identity.named and self._known.is_told_in_logs(origin, preset):
                continue  # the same use, which log records tell of by its run
            run = self._runs.get(origin.peer, identity, now)
            if run is None:
                continue
            process = run.process if one.delta else str(epoch if one.start else _NO_START)
            page = run.page(view, preset, resource.digest, process, origin.service)
            if self._put(run, page, one, origin, epoch):
                counted += 1
            runs[run.session_id] = run
            owner = self._wanted.owners.of(preset, one.point.attributes, resource.attributes)
            run.belongs_to(owner, now)
        for run in runs.values():
            run.limit(limits, now)
            self._runs.note(run, view, now)
        return dict.fromkeys(runs), counted

    def _put(
        self, run: PushedRun, page: SeriesPage, one: Reading, origin: KnownResource, epoch: int
    ) -> bool:
        """Put a value into its series; return whether it could be read."""
        sample, stream, begun = one.sample, one.point.stream, str(one.start or page.process)
        before = len(page)
        if not page.has(sample.name, stream, begun) and not self._runs.has_room(run):
            page.lose(sample.name)
            return False
        if one.delta:
            good = page.add(sample, stream, begun)
        else:
            page.set(sample, stream, begun, grows=one.start > 0)
            good = plausible(sample.value)
        if len(page) > before:
            self._runs.count_series(origin.peer)
            if one.start:
                origin.began(stream, one.start, epoch)
        self._runs.dropped[semconv.IMPLAUSIBLE] += not good
        return good

    def _readings(self, metric: Metric) -> Iterator[Reading]:
        """Yield the values of a metric that somebody knows: of a histogram its sum and count."""
        names: tuple[str | None, str | None]
        if metric.kind in (HISTOGRAM, SUMMARY):
            names = naming.known_names(metric.name, metric.unit, self._wanted.names)
            declared = metric.kind
        else:
            known = naming.known_name(
                metric.name, metric.unit, metric.kind,
                monotonic=metric.monotonic, known=self._wanted.names,
            )  # fmt: skip
            names, declared = (known, None), GAUGE
            if metric.kind == SUM and metric.monotonic:
                declared = "counter"
        for point in metric.points:
            labels = {naming.label(name): word(value) for name, value in point.attributes.items()}
            if metric.scope:
                labels.setdefault(_SCOPE, metric.scope)
            for name, value in zip(names, (point.value, point.values), strict=True):
                if name is not None and not (value is None and metric.kind == HISTOGRAM):
                    number = math.nan if value is None else float(value)
                    sample = Sample(name, labels, number, declared)
                    yield Reading(sample, point, metric.delta, (metric.name, metric.scope))

    def _own_sample(self, reading: Reading) -> Sample:
        """Return a value of one of our own series, as its page would show it.

        Further attributes, of which only those are kept that somebody looks at, tell series apart.
        """
        sample, point, ours = reading.sample, reading.point, self._wanted.own_labels
        labels = {name: value for name, value in sample.labels.items() if name in ours}
        known = ((n, value) for n, value in point.attributes.items() if naming.label(n) in ours)
        if taken(known, _none, *reading.of)[1] != point.stream:
            labels[STREAM] = point.stream
        declared = DELTA if reading.delta else sample.declared
        return Sample(sample.name, labels, sample.value, declared)


def _none(_attribute: str) -> bool:
    return False
