"""The order of the links, and which of them are tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from otel_budget.core import validation
from otel_budget.doctor import (
    agent_page,
    budgets,
    coding_agents,
    prometheus,
    receiver,
    sidecar,
    trial_run,
)
from otel_budget.doctor.finding import State
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.metrics.endpoint import default_url
from otel_budget.sdk.sidecar_client.address import Credentials, SidecarAddress
from otel_budget.sdk.sidecar_client.request import Asker

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator

    from otel_budget.doctor.finding import Finding


def diagnose(arguments: argparse.Namespace, say: Callable[[Finding], None]) -> Finding | None:
    """Hand each finding to ``say``; return the first broken link, None if all hold.

    Raises InvalidValueError for arguments that are not possible.
    """
    first: Finding | None = None
    for finding in _findings(arguments):
        say(finding)
        if first is None and finding.state is State.BROKEN:
            first = finding
    return first


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    plan, asker, server = _plan(arguments), Asker.of(arguments.sidecar), _server(arguments)
    yield from trial_run.environment()
    if server is not None:
        yield from prometheus.look_at(server)
    for finding in sidecar.look_at(asker):
        yield finding
        if finding.state is State.BROKEN:
            return
    before = sidecar.figures_of(asker)
    source = list(sidecar.source(before))
    pushed_to = receiver.receiver_of(asker)
    if pushed_to is not None:
        yield from receiver.look_at(pushed_to, before)
        yield from receiver.try_push(plan, pushed_to)
    yield from coding_agents.look_at(asker, pushed_to)
    yield from budgets.look_at(asker, before)
    run_pages = arguments.metrics or _run_there(arguments)
    # Who is pushed to need not scrape anybody; a page of a run is tried where it is asked for.
    tries_run = arguments.serve or arguments.register or not (run_pages or pushed_to)
    # A source that had nothing to read may well read the trial run: that decides.
    undecided = tries_run and not _all_hold(source)
    if not undecided:
        yield from source
    for url in run_pages:
        yield from agent_page.look_at(url, asker, plan.timeout)
    if tries_run:
        tried = []
        for finding in trial_run.try_run(plan):
            tried.append(finding)
            yield finding
        if undecided:
            yield from map(sidecar.read_after_all, source) if _all_hold(tried) else source
    yield from sidecar.meanwhile(before, sidecar.figures_of(asker))


def _all_hold(findings: Iterable[Finding]) -> bool:
    return all(finding.state is not State.BROKEN for finding in findings)


def _run_there(arguments: argparse.Namespace) -> list[str]:
    """Return the page that a run has where the trial run would be shown; none if it is free."""
    if arguments.serve or arguments.register:
        return []
    url = default_url()
    return [url] if agent_page.shows_runs(url) else []


def _plan(arguments: argparse.Namespace) -> trial_run.Plan:
    timeout = validation.duration("--timeout", arguments.timeout)
    plan = trial_run.Plan(arguments.sidecar, register=arguments.register, timeout=timeout)
    if arguments.serve is None:
        return plan if arguments.register is None else replace(plan, port=0)
    host, _, port = arguments.serve.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidValueError("--serve", arguments.serve, "HOST:PORT such as 127.0.0.1:9464")
    return replace(plan, host=host.strip("[]"), port=int(port))


def _server(arguments: argparse.Namespace) -> Asker | None:
    if arguments.prometheus is None:
        return None
    # Without the sidecar's credentials: they are not for a Prometheus.
    token = arguments.prometheus_token_file
    credentials = Credentials(token_file=None if token is None else Path(token))
    url = arguments.prometheus.rstrip("/")
    return Asker(url, SidecarAddress.parse(url, credentials))
