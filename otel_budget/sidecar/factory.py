"""From the configuration to the parts it describes, and to words about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.config.load import revision
from otel_budget.config.schema import ADD, REFUSE, PrometheusConfig
from otel_budget.core.bindings import why_expression
from otel_budget.core.limits import IGNORE
from otel_budget.core.resources import RESOURCES
from otel_budget.files.token_file import open_to
from otel_budget.policy.format import amounts
from otel_budget.policy.status import bounds_from
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.clock import Boot
from otel_budget.sidecar.loop import Settings
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from otel_budget.sources import prometheus, scrape
from otel_budget.sources.exposition import PageLimits
from otel_budget.sources.http import Access
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from otel_budget.config.listen import ListenConfig
    from otel_budget.config.schema import (
        CeilingsConfig,
        ScrapeConfig,
        SidecarConfig,
        SourceConfig,
        StorageConfig,
        TargetConfig,
    )
    from otel_budget.core.quantities import Number
    from otel_budget.sidecar.storage.base import Restored, Storage
    from otel_budget.sources.base import Clock, Source

#: Seconds, where the interval is not shorter.
_SCRAPE_TIMEOUT: Final = 1.0


def make_source(config: SourceConfig, clock: Clock) -> Source:
    """Return the configured source; nothing is opened yet."""
    chosen = _chosen(config)
    if isinstance(chosen, PrometheusConfig):
        return PrometheusSource(_prometheus_settings(chosen), clock)
    return ScrapeSource(_scrape_settings(chosen), clock)


def settings_of(config: SidecarConfig, source: Source) -> Settings:
    """Return what the loop needs to know. source: made from the same configuration."""
    chosen = _chosen(config.source)
    name = prometheus.SOURCE if isinstance(chosen, PrometheusConfig) else scrape.SOURCE
    return Settings(name, source, chosen.interval, rules_of(config), config.verdicts.forget_after)


def open_storage(config: StorageConfig, kind: str = "sqlite") -> tuple[Storage, Restored]:
    """Open the configured storage; return it, and what the last process left in it.

    kind: the configuration does not name it yet, as there is one. Raises UnusableStorageError, and
    ValueError for a kind that is none.
    """
    if kind not in _STORAGES:
        raise ValueError(f"storage {kind!r} is not one of {', '.join(_STORAGES)}")
    return _STORAGES[kind](config)


def _sqlite(config: StorageConfig) -> tuple[Storage, Restored]:
    return open_sqlite(str(config.path), archive_size=config.archive_size, boot=Boot.now)


#: How each kind of storage is opened.
_STORAGES: Final[Mapping[str, Callable[[StorageConfig], tuple[Storage, Restored]]]] = {
    "sqlite": _sqlite,
}


def rules_of(config: SidecarConfig) -> Rules:
    """Return how to judge."""
    ceilings, verdicts = config.resource_limits, config.verdicts
    thresholds = {row.name: row.threshold_of(ceilings) for row in RESOURCES.values()}
    given = {resource: value for resource, value in thresholds.items() if value is not None}
    return Rules(
        ceilings=bounds_from(_limits(ceilings), given, "sidecar"),
        thresholds=given,
        completion_threshold=ceilings.completion_threshold,
        lease=verdicts.lease,
        stale_after=verdicts.stale_after,
        hold=verdicts.hold,
        on_no_data=verdicts.on_no_data,
        on_unknown=OnUnknown(ceilings.on_unpriced, ceilings.on_unknown_usage),
        adds_restarts=ceilings.on_restart == ADD,
        revision=revision(config),
    )


def summary(config: SidecarConfig) -> tuple[str, ...]:
    """Say, line by line, what would run."""
    verdicts = config.verdicts
    stale = "auto" if verdicts.stale_after is None else f"{verdicts.stale_after:g} s"
    return (
        f"source:   {describe_source(config.source)}",
        *(f"bound:    {each}" for each in describe_bindings(config.source)),
        f"ceilings: {describe_ceilings(config.resource_limits)}",
        f"verdicts: lease {verdicts.lease:g} s, forgotten after {verdicts.forget_after:g} s",
        f"no data:  stale after {stale}, held for {verdicts.hold:g} s, then {verdicts.on_no_data}",
        f"listen:   {describe_listen(config.listen)}",
        f"storage:  {config.storage.path}",
        f"policy:   revision {revision(config)}",
    )


def warnings(config: SidecarConfig) -> tuple[str, ...]:
    """Say what is allowed but should be meant."""
    listen = config.listen
    found = [
        *_unjudged(config),
        *_of_one_another(config),
        *_expressions(config.source),
        *_open_secrets(listen),
        *_open_storage(config.storage.path),
    ]
    if listen.is_loopback:
        return tuple(found)
    reached = f"listen: other hosts may reach {listen.address}"
    if not listen.asks_who:
        found.append(f"{reached}, nothing asks who they are: who reaches it reads all verdicts")
    if listen.tls is None and (listen.read_token_file or listen.admin_token_file):
        found.append(f"{reached}, tokens come in clear text: give tls, or put it behind a proxy")
    return tuple(found)


def _of_one_another(config: SidecarConfig) -> Iterator[str]:
    """Say which settings would take the effect of another one."""
    verdicts = config.verdicts
    decided = verdicts.hold + (verdicts.stale_after or 0.0)
    if "forget_after" in verdicts.model_fields_set and verdicts.forget_after <= decided:
        yield (
            f"verdicts: forget_after ({verdicts.forget_after:g} s) is no longer than hold and "
            f"stale_after: silent runs are kept until {verdicts.on_no_data} was decided of them"
        )
    source = config.source.prometheus or config.source.scrape
    if source is not None and (verdicts.stale_after or source.interval) < source.interval:
        yield (
            f"verdicts: stale_after ({verdicts.stale_after:g} s) is shorter than the interval of "
            f"the source ({source.interval:g} s): every run is stale between two readings"
        )


def _expressions(config: SourceConfig) -> Iterator[str]:
    """Say which bindings look like regular expressions."""
    chosen = _chosen(config)
    bound = chosen.bindings if isinstance(chosen, PrometheusConfig) else chosen.targets
    for pattern in dict.fromkeys(pattern for each in bound for pattern in each.sessions):
        if why := why_expression(pattern):
            yield f"sessions: {why}"


def _open_storage(path: Path) -> Iterator[str]:
    """Say who else may read the ledger."""
    who = open_to(path)
    if who:
        yield (
            f"storage.path: {who} can read {path}, which says who used what: chmod 600 it, and its "
            "-wal and -shm"
        )


def _open_secrets(listen: ListenConfig) -> Iterator[str]:
    """Say which secrets others on this host may read."""
    key = None if listen.tls is None else listen.tls.key_file
    for name, path, what in (
        ("admin_token_file", listen.admin_token_file, "stop and release runs"),
        ("read_token_file", listen.read_token_file, "read every verdict"),
        ("tls.key_file", key, "pass for this sidecar"),
    ):
        who = "" if path is None else open_to(path)
        if who:
            yield f"listen.{name}: {who} can read {path}, and {what} with it: chmod 600 it"


def _unjudged(config: SidecarConfig) -> list[str]:
    """Say which ceilings cannot be judged, because a preset has nothing to judge them by."""
    chosen = _chosen(config.source)
    read = (chosen,) if isinstance(chosen, PrometheusConfig) else chosen.targets
    presets = {one.preset.name: one.preset for one in read if one.preset is not None}
    limited = _limits(config.resource_limits).keys() - {semconv.DURATION}
    return [
        f"resource_limits: programs read by the preset {name} export no {resource}: that ceiling "
        f"is not judged for them ({RESOURCES[resource].limit_key})"
        for name, preset in sorted(presets.items())
        for resource in sorted(limited - preset.measured)
    ]


def describe_listen(config: ListenConfig) -> str:
    """Say in a few words where verdicts are served, and to whom."""
    mutual = config.tls is not None and config.tls.client_ca_file is not None
    said = [config.address]
    said += ["TLS with client certificates" if mutual else "TLS"] if config.tls else []
    said.append("readers need a token" if config.read_token_file else "no token needed to read")
    said.append("operators may act" if config.admin_token_file else "nobody may act")
    return ", ".join(said)


def describe_source(config: SourceConfig) -> str:
    """Say in a few words where samples come from."""
    chosen = _chosen(config)
    if isinstance(chosen, PrometheusConfig):
        matchers = "".join(f" {{{matcher}}}" for matcher in chosen.matchers)
        return f"prometheus {chosen.url}{matchers}{_as(chosen)} every {chosen.interval:g} s"
    places = [f"{target.url}{_as(target)}" for target in chosen.targets] + list(chosen.file_sd)
    return f"scrape of {', '.join(places)} every {chosen.interval:g} s"


def describe_bindings(config: SourceConfig) -> Iterator[str]:
    """Say which session ids belong to which targets, and what holds for the others."""
    chosen = _chosen(config)
    if isinstance(chosen, PrometheusConfig):
        for binding in chosen.bindings:
            yield f"{', '.join(binding.sessions)} to {{{', '.join(binding.matchers)}}}"
    else:
        for target in chosen.targets:
            if target.sessions:
                yield f"{', '.join(target.sessions)} to {target.url}"
    if chosen.on_second_target == REFUSE:
        yield "other runs to the targets that carry them, as long as they show them"


def _as(config: TargetConfig | PrometheusConfig) -> str:
    return "" if config.preset is None else f" (preset {config.preset.name})"


def describe_ceilings(config: CeilingsConfig) -> str:
    """Say in a few words what holds for every run on top of its own limits."""
    said = [amounts(_limits(config)) or "none, each run's own limits alone"]
    minded = {"unpriced calls": config.on_unpriced, "unknown usage": config.on_unknown_usage}
    if config.on_restart == ADD:
        said.append("the use of runs that begin again and did not complete adds up")
    return ", ".join([*said, *(f"{what}: {do}" for what, do in minded.items() if do != IGNORE)])


def _chosen(config: SourceConfig) -> PrometheusConfig | ScrapeConfig:
    chosen = config.prometheus or config.scrape
    if chosen is None:
        raise ValueError("a source without a kind")  # the schema lets none through
    return chosen


def _limits(config: CeilingsConfig) -> dict[str, Number]:
    limits = {row.name: row.limit_of(config) for row in RESOURCES.values()}
    return {resource: limit for resource, limit in limits.items() if limit is not None}


def _scrape_settings(config: ScrapeConfig) -> ScrapeSettings:
    return ScrapeSettings(
        targets=tuple(
            ScrapeTarget(
                target.url,
                _access(target),
                target.preset,
                target.honor_timestamps,
                target.sessions,
            )
            for target in config.targets
        ),
        file_sd=config.file_sd,
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


def _prometheus_settings(config: PrometheusConfig) -> PrometheusSettings:
    return PrometheusSettings(
        url=config.url,
        interval=config.interval,
        timeout=config.timeout,
        body_size_limit=config.body_size_limit,
        session_limit=config.session_limit,
        matchers=config.matchers,
        access=_access(config),
        preset=config.preset,
        replica_labels=config.replica_labels,
        bindings=tuple((each.sessions, each.matchers) for each in config.bindings),
        first_owns=config.on_second_target == REFUSE,
    )


def _access(config: TargetConfig | PrometheusConfig) -> Access:
    return Access(config.bearer_token_file, config.ca_file, config.headers)
