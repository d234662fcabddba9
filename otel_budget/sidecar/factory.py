"""From the configuration to the parts it describes: the source, the storage, the rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from otel_budget.config.ceilings import AT_LEAST, AT_MOST, FROM
from otel_budget.config.sources import ADD, REFUSE, PrometheusConfig
from otel_budget.config.values import is_foreign
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.resources import RESOURCES
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.suggestion import Suggesting
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import Rules
from otel_budget.presets import loader
from otel_budget.sidecar.clock import Boot
from otel_budget.sidecar.settings import Settings
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from otel_budget.sources import scrape
from otel_budget.sources.exposition import PageLimits
from otel_budget.sources.http import Access
from otel_budget.sources.otlp.source import OtlpSettings, OtlpSource
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.prometheus_reading import SOURCE as PROMETHEUS
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from otel_budget.sources.several import SeveralSources

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_budget.config.ceilings import CeilingsConfig
    from otel_budget.config.otlp import OtlpConfig
    from otel_budget.config.schema import SidecarConfig, StorageConfig
    from otel_budget.config.sources import ScrapeConfig, SourceConfig, TargetConfig
    from otel_budget.core.quantities import Number
    from otel_budget.presets.model import Preset
    from otel_budget.sidecar.storage.base import Restored, Storage
    from otel_budget.sources.base import Clock, Source

#: Seconds, where the interval is not shorter.
_SCRAPE_TIMEOUT: Final = 1.0


def make_pushes(config: SidecarConfig, clock: Clock) -> OtlpSource | None:
    """Return what programs push to; None if they may not."""
    otlp = config.source.otlp
    return None if otlp is None else OtlpSource(_otlp_settings(config, otlp), clock)


def are_read_alike(one: SidecarConfig, other: SidecarConfig) -> bool:
    """Tell whether what is pushed is read in the same way by two configurations."""
    otlp, others = one.source.otlp, other.source.otlp
    if otlp is None or others is None:
        return otlp is others
    return _otlp_settings(one, otlp) == _otlp_settings(other, others)


def details_of(config: SidecarConfig) -> Details:
    """Return what of runs is read: what the configuration makes use of."""
    weighed = any(budget.weights for budget in config.shared_budgets)
    return Details(config.scope_labels, token_kinds=weighed)


def make_source(
    config: SourceConfig,
    clock: Clock,
    pushes: OtlpSource | None = None,
    details: Details = NO_DETAILS,
) -> Source:
    """Return the configured source; nothing is opened yet. pushes: what programs push to.

    details: what of runs is read.
    """
    polled = config.polled
    asked = None if polled is None else _SOURCES[config.kind](polled, clock, details)
    if asked is None or pushes is None:
        found = asked or pushes
        if found is None:
            raise ValueError("a configuration without any source")
        return found
    return SeveralSources(asked, pushes)


def settings_of(config: SidecarConfig, source: Source, pushes: OtlpSource | None) -> Settings:
    """Return what the loop needs to know. source, pushes: made from the same configuration."""
    chosen = config.source
    interval, forget_after = chosen.interval, config.verdicts.forget_after
    return Settings(
        chosen.kind, source, interval, rules_of(config), forget_after, pushes, details_of(config)
    )


#: How each kind of storage is opened.
_STORAGES: Final[Mapping[str, Callable[[StorageConfig], tuple[Storage, Restored]]]] = {
    "sqlite": lambda config: open_sqlite(
        str(config.path),
        archive_size=config.archive_size,
        boot=Boot.now,
        audit_size=config.audit_size,
        audit_keep=config.audit_keep,
    ),
}


def open_storage(config: StorageConfig, kind: str = "sqlite") -> tuple[Storage, Restored]:
    """Open the configured storage; return it, and what the last process left in it.

    kind: the configuration does not name it, as there is only one so far. Raises
    UnusableStorageError, and ValueError for an unknown kind.
    """
    if kind not in _STORAGES:
        raise ValueError(f"unknown storage {kind!r}; known: {', '.join(_STORAGES)}")
    return _STORAGES[kind](config)


def rules_of(config: SidecarConfig) -> Rules:
    """Return how to judge."""
    ceilings, verdicts = config.resource_limits, config.verdicts
    from_outside = config.limits_from_outside
    thresholds = {row.name: row.threshold_of(ceilings) for row in RESOURCES.values()}
    given = {resource: value for resource, value in thresholds.items() if value is not None}
    return Rules(
        ceilings=bounds_from(ceilings_in(ceilings), given, "sidecar"),
        thresholds=given,
        completion_threshold=ceilings.completion_threshold,
        lease=verdicts.lease,
        stale_after=verdicts.stale_after,
        hold=verdicts.hold,
        on_no_data=verdicts.on_no_data,
        on_unknown=OnUnknown(ceilings.on_unpriced, ceilings.on_unknown_usage),
        adds_restarts=ceilings.on_restart == ADD,
        revision=config.revision,
        budgets=config.shared_budgets,
        suggesting=suggesting_in(ceilings),
        shadow=ceilings.shadow,
        limits_from_outside=from_outside if from_outside is True else frozenset(from_outside or ()),
        text=config.policy_text,
    )


def ceilings_in(config: CeilingsConfig) -> dict[str, Number]:
    """Return the configured ceilings by resource, those that are the most a suggestion may be
    among them.
    """
    return {**_limits_in(config), **_limits_in(getattr(config, AT_MOST))}


def suggesting_in(config: CeilingsConfig) -> Suggesting | None:
    """Return between which bounds limits are suggested; None if none are."""
    if getattr(config, FROM) is None:
        return None
    return Suggesting(_limits_in(getattr(config, AT_MOST)), _limits_in(getattr(config, AT_LEAST)))


def _limits_in(section: object) -> dict[str, Number]:
    """Return the limits of a section by resource. section: what has the fields, or None."""
    if section is None:
        return {}
    limits = {row.name: row.limit_of(section) for row in RESOURCES.values()}
    return {resource: limit for resource, limit in limits.items() if limit is not None}


def scrape_settings(config: ScrapeConfig) -> ScrapeSettings:
    """Return what the source of a scrape needs to know."""
    return ScrapeSettings(
        targets=tuple(
            ScrapeTarget(
                target.url,
                _access(target),
                foreign(target.preset or config.preset),
                target.honor_timestamps,
                target.sessions,
                recognises=target.preset is None and config.preset is None,
            )
            for target in config.targets
        ),
        file_sd=config.file_sd,
        presets={name: foreign(one) for name, one in config.presets_by_name.items()},
        file_sd_preset=foreign(config.preset),
        recognises=config.preset is None,
        interval=config.interval,
        timeout=min(_SCRAPE_TIMEOUT, config.interval) if config.timeout is None else config.timeout,
        body_size_limit=config.body_size_limit,
        page=PageLimits(
            config.sample_limit,
            config.label_limit,
            config.label_name_length_limit,
            config.label_value_length_limit,
        ),
        session_limit=config.session_limit,
        first_owns=config.on_second_target == REFUSE,
    )


def prometheus_settings(config: PrometheusConfig) -> PrometheusSettings:
    """Return what the source of a Prometheus needs to know."""
    return PrometheusSettings(
        url=config.url,
        interval=config.interval,
        timeout=config.timeout,
        body_size_limit=config.body_size_limit,
        session_limit=config.session_limit,
        matchers=config.matchers,
        access=_access(config),
        preset=foreign(config.preset),
        replica_labels=config.replica_labels,
        bindings=tuple((each.sessions, each.matchers) for each in config.bindings),
        first_owns=config.on_second_target == REFUSE,
    )


def foreign(preset: Preset | None) -> Preset | None:
    """Return the preset of another program; None if it is none, or that of otel-budget itself."""
    return preset if is_foreign(preset) else None


def _otlp_settings(config: SidecarConfig, otlp: OtlpConfig) -> OtlpSettings:
    presets = otlp.presets
    if presets is None:
        own = [loader.preset(name, config.presets) for name in config.presets]
        presets = (*loader.shipped().values(), *own)
    return OtlpSettings(
        presets=presets,
        idle_after=otlp.idle,
        request_body=otlp.request_body,
        session_limit=otlp.session_limit,
        series_limit=otlp.series_limit,
        run_attributes=otlp.run_attributes,
        details=details_of(config),
    )


def _access(config: TargetConfig | PrometheusConfig) -> Access:
    return Access(config.bearer_token_file, config.ca_file, config.headers)


#: How the source of each section of the configuration is made.
_SOURCES: Final[Mapping[str, Callable[[Any, Clock, Details], Source]]] = {
    scrape.SOURCE: lambda config, clock, details: ScrapeSource(
        replace(scrape_settings(config), details=details), clock
    ),
    PROMETHEUS: lambda config, clock, details: PrometheusSource(
        replace(prometheus_settings(config), details=details), clock
    ),
}
