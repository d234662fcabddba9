"""``otel-budget doctor``: try the whole chain, and name the link that is broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from otel_budget.asking import Asker
from otel_budget.doctor import chain, pages, prometheus, sidecar
from otel_budget.doctor.finding import State
from otel_budget.enforcement.address import Credentials, SidecarAddress
from otel_budget.errors import InvalidValueError
from otel_budget.model import checks

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

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
    yield from chain.settings()
    if server is not None:
        yield from prometheus.look_at(server)
    for finding in sidecar.look_at(asker):
        yield finding
        if finding.state is State.BROKEN:
            return
    before = sidecar.figures_of(asker)
    yield from sidecar.source(before)
    for url in arguments.metrics:
        yield from pages.look_at(url, asker, plan.timeout)
    if not arguments.metrics or arguments.serve or arguments.register:
        yield from chain.follow(plan)
    yield from sidecar.since(before, sidecar.figures_of(asker))


def _plan(arguments: argparse.Namespace) -> chain.Plan:
    timeout = checks.seconds("--timeout", arguments.timeout, positive=True)
    plan = chain.Plan(arguments.sidecar, register=arguments.register, timeout=timeout)
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
