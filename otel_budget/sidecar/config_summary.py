"""The configuration in words: what would run, and what is allowed but should be meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.config.sources import ADD
from otel_budget.core.bindings import why_expression
from otel_budget.core.budget import Mode
from otel_budget.core.budget_text import window_text
from otel_budget.core.limits import IGNORE
from otel_budget.core.resources import RESOURCES, TIMES
from otel_budget.files.token_file import open_to
from otel_budget.policy.format import amounts
from otel_budget.policy.suggestion import LEAST_RUNS
from otel_budget.sidecar.factory import ceilings_in, suggesting_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_budget.config.ceilings import CeilingsConfig
    from otel_budget.config.listen import ListenConfig
    from otel_budget.config.otlp import OtlpConfig
    from otel_budget.config.schema import SidecarConfig
    from otel_budget.config.sources import SourceConfig
    from otel_budget.core.budget import Budget


def summary(config: SidecarConfig) -> tuple[str, ...]:
    """Say, line by line, what would run."""
    verdicts = config.verdicts
    stale = "auto" if verdicts.stale_after is None else f"{verdicts.stale_after:g} s"
    return (
        f"source:   {config.source.describe()}",
        *(f"bound:    {each}" for each in describe_bindings(config.source)),
        f"ceilings: {describe_ceilings(config.resource_limits)}",
        *_describe_outside(config.limits_from_outside),
        *(f"budget:   {describe_budget(each)}" for each in config.shared_budgets),
        f"verdicts: lease {verdicts.lease:g} s, forgotten after {verdicts.forget_after:g} s",
        f"no data:  stale after {stale}, held for {verdicts.hold:g} s, then {verdicts.on_no_data}",
        f"listen:   {describe_listen(config.listen)}",
        f"storage:  {config.storage.path}",
        f"policy:   revision {config.revision}",
    )


def _describe_outside(lets: bool | tuple[str, ...]) -> Iterator[str]:  # noqa: FBT001 - as the file has it
    """Say whose own limits an operator may replace."""
    if lets:
        whose = f"runs of {', '.join(lets)}" if isinstance(lets, tuple) else "every run"
        yield f"outside:  an operator's limits may replace the own ones of {whose}"


def describe_budget(budget: Budget) -> str:
    """Say in a few words what a budget limits, for whom and over what time."""
    shadow = " (shadow)" if budget.mode is Mode.SHADOW else ""
    per = f" for each {' and '.join(budget.per)}" if budget.per else ""
    of = ", ".join(f"{label}={' or '.join(values)}" for label, values in budget.match.items())
    said = f"{budget.name}{shadow}: {amounts(budget.limits)}{per}, {window_text(budget.window)}"
    return f"{said}, of runs with {of}" if of else said


def warnings(config: SidecarConfig) -> tuple[str, ...]:
    """Say what is allowed but should be meant."""
    listen = config.listen
    found = [
        *_unjudged(config),
        *_of_one_another(config),
        *_expressions(config.source),
        *_open_secrets(listen),
        *_open_storage(config.storage.path),
        *_open_receiver(config.source.otlp),
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
    source = config.source
    if (verdicts.stale_after or source.interval) < source.interval:
        yield (
            f"verdicts: stale_after ({verdicts.stale_after:g} s) is shorter than the interval of "
            f"the source ({source.interval:g} s): every run is stale between two readings"
        )


def _expressions(config: SourceConfig) -> Iterator[str]:
    """Say which bindings look like regular expressions."""
    patterns = (pattern for sessions, _ in config.bound() for pattern in sessions)
    for pattern in dict.fromkeys(patterns):
        if why := why_expression(pattern):
            yield f"sessions: {why}"


def _open_receiver(otlp: OtlpConfig | None) -> Iterator[str]:
    """Say what others may do at the receiver."""
    if otlp is None:
        return
    who = "" if otlp.token_file is None else open_to(otlp.token_file)
    if who:
        yield (
            f"source.otlp.token_file: {who} can read {otlp.token_file}, and push whatever it "
            "likes with it: chmod 600 it"
        )
    if otlp.is_loopback:
        return
    reached = f"source.otlp: other hosts may reach {otlp.address}"
    if otlp.token_file is None:
        yield f"{reached}, nothing asks who they are: who reaches it pushes whatever it likes"
    else:
        yield f"{reached}, tokens come in clear text: put it behind a proxy"


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


def _unjudged(config: SidecarConfig) -> Iterator[str]:
    """Say which ceilings cannot be judged, because a preset has nothing to judge them by."""
    limited = ceilings_in(config.resource_limits).keys() - TIMES  # these are known of each run
    polled, pushed = config.source.polled, config.source.otlp
    asked = {preset.name: preset for preset in (polled.presets() if polled else ())}
    for name, preset in sorted(asked.items()):
        for resource in sorted(limited - preset.measured):
            yield _is_unjudged(
                resource, f"read by preset {name}: {preset.why_unmeasured(resource)}"
            )
    for preset in (pushed.presets if pushed else None) or ():
        for resource in sorted(limited - preset.measured - preset.measured_by_events):
            why = preset.why_unmeasured(resource)
            yield _is_unjudged(resource, f"that push and are read by preset {preset.name}: {why}")


def _is_unjudged(resource: str, of: str) -> str:
    return f"resource_limits.{RESOURCES[resource].limit_key} is not judged for programs {of}"


def describe_listen(config: ListenConfig) -> str:
    """Say in a few words where verdicts are served, and to whom."""
    mutual = config.tls is not None and config.tls.client_ca_file is not None
    said = [config.address]
    said += ["TLS with client certificates" if mutual else "TLS"] if config.tls else []
    said.append("readers need a token" if config.read_token_file else "no token needed to read")
    said.append("operators may act" if config.admin_token_file else "operators may not act")
    return ", ".join(said)


def describe_bindings(config: SourceConfig) -> Iterator[str]:
    """Say which session ids belong to which targets, and what holds for the others."""
    for sessions, targets in config.bound():
        yield f"{', '.join(sessions)} to {targets}"
    if config.refuses_second_targets:
        yield "other runs to the targets that carry them, as long as they show them"


def describe_ceilings(config: CeilingsConfig) -> str:
    """Say in a few words what holds for every run on top of its own limits."""
    said = [amounts(ceilings_in(config)) or "none beyond each run's own limits"]
    suggesting = suggesting_in(config)
    if suggesting is not None:
        less = f", never below {amounts(suggesting.at_least)}" if suggesting.at_least else ""
        said.append(
            f"of which {' and '.join(suggesting.at_most)} may be less: suggested for each workflow "
            f"by its runs that ended well, from the {LEAST_RUNS}th on{less}"
        )
    minded = {"unpriced calls": config.on_unpriced, "unknown usage": config.on_unknown_usage}
    if config.on_restart == ADD:
        said.append("the use of runs that begin again and did not complete adds up")
    if config.shadow:
        said.append("in shadow: judged, and not enforced")
    return ", ".join([*said, *(f"{what}: {do}" for what, do in minded.items() if do != IGNORE)])
