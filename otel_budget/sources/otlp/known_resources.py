"""What is known of who pushes: resources, their presets and processes, and what they leave unsaid.

A program may say in its metrics what it says in its log records, without naming the run there.
These metrics are another way to the same use, so they count only where no records tell of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_budget.logs.text import one_line
from otel_budget.presets.detection import detect
from otel_budget.sources.otlp.remembered import Remembered
from otel_budget.sources.otlp.wanted import INSTANCE_ID, SERVICE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_budget.core.samples import Sample
    from otel_budget.presets.model import Preset
    from otel_budget.sources.otlp.messages import Resource

#: Resources that are remembered; past that the one that was silent for longest goes.
RESOURCES_MOST: Final = 20_000
#: Services of which it is remembered whether anything of theirs counts.
SERVICES_MOST: Final = 2_000
#: Streams of a resource of which it is remembered when their process began.
STREAMS_MOST: Final = 50_000
#: Seconds after which a service of which nothing counted is told of.
NOTHING_AFTER: Final = 60.0


@dataclass(slots=True)
class KnownResource:
    """One resource of one peer."""

    peer: str
    service: str
    """Its name, as one short printable line."""
    instance: str
    preset: Preset | None = None
    """What reads its metrics, once that is known."""
    names: set[str] = field(default_factory=set)
    """Metrics by which that was decided."""
    epochs: dict[tuple[str, int], int] = field(default_factory=dict)
    """Stream and its start, to the start of the process that it is of."""

    def began(self, stream: str, start: int, epoch: int) -> None:
        """Take note of the process that a stream is of."""
        if len(self.epochs) >= STREAMS_MOST:
            del self.epochs[next(iter(self.epochs))]
        self.epochs[stream, start] = epoch

    def epoch(self, streams: Sequence[tuple[str, int]]) -> int:
        """Return when the process began that cumulative streams are of; 0 is unknown.

        streams: all of one request, each with its start. That of a stream is known from then on:
        one that begins later belongs to the same process.
        """
        starts = [start for _, start in streams if start > 0]
        known = (self.epochs.get(key) for key in streams)
        found = next((at for at in known if at is not None), None)
        return min(starts, default=0) if found is None else found


@dataclass(slots=True)
class _Service:
    since: float
    recognised: bool = False
    told: bool = False


class KnownResources:
    """All resources that are known, by peer."""

    def __init__(self, presets: Sequence[Preset]) -> None:
        """presets: what may read what they push."""
        self._presets = presets
        self._counting = {
            name: preset
            for preset in sorted(presets, key=lambda one: (one.rank, one.name))
            for name in preset.counted
        }
        """Metric that counts to the preset of the highest rank that counts it."""
        self._known: dict[tuple[str, str], KnownResource] = {}
        self._own = Remembered[tuple[str, str]](RESOURCES_MOST)
        """Peer, and digest or instance, of those that push our own series."""
        self._services: dict[tuple[str, str], _Service] = {}
        self._told_in_logs = Remembered[tuple[str, str, str]](RESOURCES_MOST)
        """Peer, service and preset of those whose log records name their runs."""

    def of(self, peer: str, resource: Resource, now: float) -> KnownResource:
        """Return what is known of a resource."""
        key = (peer, resource.digest)
        origin = self._known.pop(key, None)
        if origin is None:
            service = one_line(str(resource.attributes.get(SERVICE_NAME, "")), 80)
            instance = str(resource.attributes.get(INSTANCE_ID, ""))
            origin = KnownResource(peer, service, instance)
            if len(self._known) >= RESOURCES_MOST:
                del self._known[next(iter(self._known))]
            if len(self._services) < SERVICES_MOST:
                self._services.setdefault((peer, service), _Service(now))
        self._known[key] = origin  # the one that was heard of last is at the end
        return origin

    def preset_of(self, origin: KnownResource, samples: Iterable[Sample]) -> Preset | None:
        """Return what reads the metrics of a resource, by all that it ever pushed; None: nothing.

        Another one is taken only in favour of a higher rank: what two count is counted twice.
        """
        new = [sample for sample in samples if sample.name not in origin.names]
        if not new:
            return origin.preset
        origin.names.update(sample.name for sample in new)
        fitting = [match.preset for match in detect(self._presets, new)]
        fitting += [self._counting[s.name] for s in new if s.name in self._counting]
        best = fitting[0] if fitting else None
        known = origin.preset
        if best is not None and (known is None or best.rank > known.rank):
            origin.preset = best
        return origin.preset

    def pushes_own(self, origin: KnownResource, resource: Resource) -> None:
        """Take note that a resource pushes our own series: nothing else of it counts beside."""
        for name in (resource.digest, origin.instance):
            if name:
                self._own.add((origin.peer, name))

    def is_own(self, origin: KnownResource, resource: Resource) -> bool:
        """Tell whether a resource, or its process, pushes our own series."""
        return any(
            (origin.peer, name) in self._own for name in (resource.digest, origin.instance) if name
        )

    def tells_in_logs(self, origin: KnownResource, preset: Preset) -> bool:
        """Take note that a service's log records name their runs; return whether that is new."""
        return self._told_in_logs.add((origin.peer, origin.service, preset.name))

    def is_told_in_logs(self, origin: KnownResource, preset: Preset) -> bool:
        """Tell whether that is known of a service."""
        return (origin.peer, origin.service, preset.name) in self._told_in_logs

    def recognises(self, origin: KnownResource) -> None:
        """Take note that a service is one of which something counts, sooner or later."""
        service = self._services.get((origin.peer, origin.service))
        if service is not None:
            service.recognised = True

    def uncounted(self, now: float) -> dict[str, str]:
        """Return the peers with a service that nobody recognises, each service once."""
        found: dict[str, list[str]] = {}
        for (peer, name), service in self._services.items():
            if not service.recognised and not service.told and now - service.since >= NOTHING_AFTER:
                service.told = True
                found.setdefault(peer, []).append(name or "a program without service.name")
        return {
            peer: f"{', '.join(sorted(names))} pushes nothing that can be counted"
            for peer, names in found.items()
        }
