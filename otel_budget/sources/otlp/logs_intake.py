"""From the log records of a resource to what its runs used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.presets.model import word
from otel_budget.sources.otlp.attributes import digest_of
from otel_budget.sources.otlp.own_limits import own_limits
from otel_budget.sources.otlp.remembered import Remembered
from otel_budget.sources.otlp.run import LOGS, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.presets.model import EventRule, Preset
    from otel_budget.sources.otlp.identity import Identities
    from otel_budget.sources.otlp.known_resources import KnownResource, KnownResources
    from otel_budget.sources.otlp.messages import Record, Resource
    from otel_budget.sources.otlp.runs import Runs
    from otel_budget.sources.otlp.wanted import Wanted

#: Events with an id that are remembered: one that comes twice counts once.
EVENTS_MOST: Final = 200_000


class LogsIntake:
    """Takes in log records."""

    def __init__(
        self, wanted: Wanted, identities: Identities, known: KnownResources, runs: Runs
    ) -> None:
        """Share what is known with those that take in the other signals."""
        self._wanted, self._identities = wanted, identities
        self._known, self._runs = known, runs
        self._seen = Remembered[str](EVENTS_MOST)

    def take(
        self, origin: KnownResource, resource: Resource, records: Sequence[Record], now: float
    ) -> tuple[dict[str, None], int]:
        """Take in a resource's records; return the runs they are of, and how many count."""
        limits, counted = own_limits(resource.attributes), 0
        sessions: dict[str, None] = {}
        for record in records:
            preset, rule = self._rule(record)
            identity = self._identities.of(
                resource.attributes, record.attributes, preset, origin.peer
            )
            if identity.named and self._known.tells_in_logs(origin, preset):
                self._withdraw(origin, preset)
            if rule is None or not rule.is_counted:
                continue
            run = self._runs.get(origin.peer, identity, now)
            if run is None:
                continue
            sessions[run.session_id] = None
            view = View(LOGS, preset.name)
            if self._was_taken(rule, record, origin, preset):
                self._runs.dropped[semconv.DUPLICATE] += 1
            else:
                bad = run.usage(view).add(rule, record.attributes)
                self._runs.dropped[semconv.IMPLAUSIBLE] += bad
                counted += 1
            run.limit(limits, now)
            owner = self._wanted.owners.of(preset, record.attributes, resource.attributes)
            run.belongs_to(owner, now)
            self._runs.note(run, view, now)
        if records:
            self._known.recognises(origin)
        return sessions, counted

    def _rule(self, record: Record) -> tuple[Preset, EventRule | None]:
        """Return the preset that knows an event, and the rule by which it counts; None: by none."""
        known = [pair for name in record.names for pair in self._wanted.rules[name]]
        for preset, rule in known:
            if rule.applies(record.attributes):
                return preset, rule
        return known[0][0], None

    def _was_taken(
        self, rule: EventRule, record: Record, origin: KnownResource, preset: Preset
    ) -> bool:
        """Tell whether an event was taken before, by its id; one without an id never was."""
        values = [word(record.attributes.get(name)) for name in rule.id]
        if not values or not all(values):
            return False
        key = digest_of(origin.peer, preset.name, rule.names[0], *values)
        return not self._seen.add(key)

    def _withdraw(self, origin: KnownResource, preset: Preset) -> None:
        """Leave out what the same service pushed as metrics, without naming its run."""
        unnamed = self._identities.of({}, {}, preset, origin.peer).session_id
        run = None if unnamed is None else self._runs.known(origin.peer, unnamed)
        if run is not None and not run.named:
            self._runs.withdraw(run, origin.service)
