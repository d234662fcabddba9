"""``otel-budget doctor``: try the whole chain, and name the link that is broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from otel_budget.core import validation
from otel_budget.doctor import pages, prometheus, sidecar, trial_run
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
    """Say of each link how it is; return the first broken one, None if all hold.

    Raises InvalidValueError for arguments that cannot be.
    """
    first: Finding | None = None
    for finding in _findings(arguments):
        say(finding)
        if first is None and finding.state is State.BROKEN:
            first = finding
    return first


def _findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    plan, asker, server = _plan(arguments), Asker.of(arguments.sidecar), _server(arguments)
    yield from trial_run.settings()
    if server is not None:
        yield from prometheus.look_at(server)
    for finding in sidecar.look_at(asker):
        yield finding
        if finding.state is State.BROKEN:
            return
    before = sidecar.figures_of(asker)
    source = list(sidecar.source(before))
    pages_of_runs = arguments.metrics or _run_there(arguments)
    follows = not pages_of_runs or arguments.serve or arguments.register
    # A source that had nothing to read may well read the test session: that decides.
    undecided = follows and not _all_hold(source)
    if not undecided:
        yield from source
    for url in pages_of_runs:
        yield from pages.look_at(url, asker, plan.timeout)
    if follows:
        followed = []
        for finding in trial_run.follow(plan):
            followed.append(finding)
            yield finding
        if undecided:
            yield from map(sidecar.read_anyway, source) if _all_hold(followed) else source
    yield from sidecar.since(before, sidecar.figures_of(asker))


def _all_hold(findings: Iterable[Finding]) -> bool:
    return all(finding.state is not State.BROKEN for finding in findings)


def _run_there(arguments: argparse.Namespace) -> list[str]:
    """Return the page that a run has where the test session would be shown; none if it is free."""
    if arguments.serve or arguments.register:
        return []
    url = default_url()
    return [url] if pages.shows_runs(url) else []


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
    # Not the sidecar's credentials: they are none of its business.
    token = arguments.prometheus_token_file
    credentials = Credentials(token_file=None if token is None else Path(token))
    url = arguments.prometheus.rstrip("/")
    return Asker(url, SidecarAddress.parse(url, credentials))
