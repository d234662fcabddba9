"""The HTTP API of the sidecar: its topics behind its guard, as one ASGI application.

A topic is a class with one method per route; adding one is adding it here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from otel_budget.sidecar.api import openapi
from otel_budget.sidecar.api.audit import Audit
from otel_budget.sidecar.api.auth import Gate, Guarded, admin_only
from otel_budget.sidecar.api.budgets import Budgets
from otel_budget.sidecar.api.connection_limits import ClientLimits
from otel_budget.sidecar.api.handover import Handover
from otel_budget.sidecar.api.health import Health
from otel_budget.sidecar.api.hooks import Hooks
from otel_budget.sidecar.api.metrics import Metrics
from otel_budget.sidecar.api.nudge import Nudges
from otel_budget.sidecar.api.openapi import Description
from otel_budget.sidecar.api.overrides import RunOverrides
from otel_budget.sidecar.api.problem import HANDLERS
from otel_budget.sidecar.api.receiver import Receiver
from otel_budget.sidecar.api.reservations import Reservations
from otel_budget.sidecar.api.route import Access, handlers_of
from otel_budget.sidecar.api.run_state import RunState
from otel_budget.sidecar.api.stream import Streams
from otel_budget.sidecar.api.top_ups import TopUps
from otel_budget.sidecar.api.usage import Usage
from otel_budget.sidecar.api.verdicts import Verdicts

if TYPE_CHECKING:
    from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
    from otel_budget.sidecar.api.host import Host
    from otel_budget.sidecar.api.route import Handler, Operation

#: In the order of the description.
TOPICS: Final = (
    Verdicts, Streams, Nudges, Handover, Hooks, RunState, RunOverrides, Usage, Budgets, TopUps,
    Reservations, Audit, Metrics, Receiver, Health, Description,
)  # fmt: skip


def description(version: str) -> dict[str, Any]:
    """Return the OpenAPI document as JSON types. version: of otel-budget."""
    return openapi.document(TOPICS, version)


def build_app(
    broadcaster: VerdictBroadcaster,
    host: Host,
    version: str,
    gate: Gate | None = None,
    limits: ClientLimits | None = None,
) -> Starlette:
    """Return the ASGI application. version: of otel-budget, for the description.

    gate: who may do what; by default everyone may read. limits: by default ``ClientLimits()``.
    """
    gate, limits = gate or Gate(), limits or ClientLimits()
    nudges = Nudges(host.nudge, gate.on_refused)
    topics = (
        Verdicts(broadcaster, host),
        Streams(broadcaster, limits),
        nudges,
        Handover(host, gate.on_refused, limits.request_body),
        Hooks(broadcaster, host, nudges, gate.on_refused),
        RunState(broadcaster, host),
        RunOverrides(broadcaster, host, limits.request_body),
        Usage(host),
        Budgets(host),
        TopUps(host, limits.request_body),
        Reservations(host, limits.request_body),
        Audit(host),
        Metrics(host),
        Receiver(host),
        Health(broadcaster, host),
        Description(json.dumps(description(version))),
    )
    handled = [found for topic in topics for found in handlers_of(topic)]
    open_paths = {operation.path for operation, _ in handled if operation.access is Access.OPEN}
    app = Starlette(
        routes=[_route(operation, handler, gate) for operation, handler in handled],
        middleware=[Middleware(Guarded, gate=gate, open_paths=open_paths)],
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False  # an unknown path is an error that says so, not a detour
    return app


def _route(operation: Operation, handler: Handler, gate: Gate) -> Route:
    if operation.access is Access.ADMIN:
        handler = admin_only(gate, handler)
    return Route(operation.path, handler, methods=[operation.method])
