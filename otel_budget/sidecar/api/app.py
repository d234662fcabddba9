"""The HTTP API of the sidecar: verdicts by GET and as a stream, metrics, health, its description.

It shows what the broadcaster holds, and hands on what operators order; it never judges.
"""

from __future__ import annotations

import json
import math
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from otel_budget.core import validation, verdict_json
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api import openapi
from otel_budget.sidecar.api.auth import Gate, Guarded
from otel_budget.sidecar.api.connection_limits import Limits
from otel_budget.sidecar.api.nudge import Nudges
from otel_budget.sidecar.api.overrides import Operations, OverrideRoutes
from otel_budget.sidecar.api.problem import HANDLERS, ProblemError
from otel_budget.sidecar.api.stream import Streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from otel_budget.core.verdict import Verdict
    from otel_budget.sidecar.api.broadcaster import Published, VerdictBroadcaster
    from otel_budget.sidecar.nudging import NudgeOutcome

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
#: Runs that can be named in one request: its head has a bound.
MAX_NAMED = 100
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
_NOT_READY = "nothing has been read from the source yet; the log and /metrics say why"
_OVER = (
    "the last verdict on the run {!r} is older than its lease of {:g} s: nothing was judged since; "
    "the log and /metrics say why"
)
_NOT_JUDGED = (
    "no tick has succeeded for {:.0f} s, longer than the lease of {:g} s: the log and /metrics say "
    "why"
)
_STUCK = "the present tick has been at it for {:.0f} s: it may never end, start the sidecar again"
#: Seconds that one step of a tick may take. A restart does nothing for a disk that is full or a
#: source that is away, so only a step that hangs is bad health.
STUCK_AFTER = 300.0


class Host(Operations, Protocol):
    """What the API needs of the process around it."""

    @property
    def ready(self) -> bool:
        """True once the source was read."""

    @property
    def unjudged_for(self) -> float:
        """Seconds since all runs were last judged."""

    @property
    def step_takes(self) -> float:
        """Seconds the step has taken so far that is under way; 0 if none is."""

    @property
    def unmatched(self) -> int:
        """Targets that answer and show nothing that can be counted; that there are none is one."""

    @property
    def retry_after(self) -> float:
        """Seconds after which it makes sense to ask again while not ready."""

    async def nudge(self, session_id: str) -> NudgeOutcome:
        """Read and judge one run now; publish before returning."""

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the sidecar's own metrics for an Accept header: body and content type."""


def build_app(
    broadcaster: VerdictBroadcaster,
    host: Host,
    version: str,
    gate: Gate | None = None,
    limits: Limits | None = None,
) -> Starlette:
    """Return the ASGI application. version: of otel-budget, for the description.

    gate: who may do what; by default everybody may read. limits: by default those of ``Limits``.
    """
    gate, limits = gate or Gate(), limits or Limits()
    api = _Api(broadcaster, host, json.dumps(openapi.document(version)))
    streams = Streams(broadcaster, limits)
    nudges = Nudges(host.nudge, gate.on_refused)
    orders = OverrideRoutes(host, gate, api.known_of, limits.request_body)
    app = Starlette(
        routes=[
            Route("/v1/verdicts", api.verdicts),
            Route("/v1/verdicts/{session_id}", api.verdict),
            Route("/v1/stream", streams.stream),
            Route("/v1/stream/{stream_id}", streams.change, methods=["POST"]),
            Route("/v1/nudge", nudges.nudge, methods=["POST"]),
            *orders.routes(),
            Route("/metrics", api.metrics),
            Route("/-/healthy", api.healthy),
            Route("/-/ready", api.readiness),
            Route("/openapi.json", api.description),
        ],
        middleware=[Middleware(Guarded, gate=gate)],
        exception_handlers=HANDLERS,
    )
    app.router.redirect_slashes = False  # an unknown path is an error that says so, not a detour
    return app


class _Api:
    def __init__(self, broadcaster: VerdictBroadcaster, host: Host, description: str) -> None:
        self._broadcaster, self._host, self._description = broadcaster, host, description

    async def verdicts(self, request: Request) -> Response:
        query = request.query_params
        limit = _number("limit", query.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)
        cursor = query.get("cursor")
        after = "" if cursor is None else _named("cursor", cursor)
        status = _status(query.get("status"))
        named = [validation.session_id(one) for one in query.getlist("session_id")]
        if named:
            return self._some(named)
        if not self._host.ready:
            raise self._not_ready()
        found, following = self._broadcaster.page(limit=limit, after=after, status=status)
        return self._page(found, {"next_cursor": following})

    def _some(self, named: list[str]) -> Response:
        """Answer with the verdicts of runs that are named, known or not: for who cannot stream."""
        if len(named) > MAX_NAMED:
            raise InvalidValueError("session_id", f"{len(named)} of them", f"{MAX_NAMED} at most")
        found = {one: self._broadcaster.get(one) for one in named}
        unknown = [one for one, published in found.items() if published is None]
        known = [published for published in found.values() if published is not None]
        return self._page(known, {"next_cursor": None, "unknown": unknown})

    def _page(self, found: list[Published], more: dict[str, object]) -> Response:
        texts, over = [], []
        for published in found:
            text = self._broadcaster.json_of(published)
            if text is None:  # left out, it would seem to be no run
                over.append(expired(published.verdict))
            else:
                texts.append(text)
        rest = json.dumps({"expired": over, **more})
        return _json(f'{{"verdicts":[{",".join(texts)}],{rest[1:]}')

    async def verdict(self, request: Request) -> Response:
        session_id = validation.session_id(request.path_params["session_id"])
        published = self._broadcaster.get(session_id)
        if published is not None:
            text = self._broadcaster.json_of(published)
            if text is None:
                raise self._over(published.verdict)
            return _json(text)
        # Before the first reading nobody can tell an unknown run from one not read yet. What is
        # known from the time before a restart is answered above: exceeded stays exceeded.
        if not self._host.ready:
            raise self._not_ready()
        detail = f"no run {session_id!r} is known here"
        raise HTTPException(HTTPStatus.NOT_FOUND, detail)

    def known_of(self, session_id: str) -> str:
        """Return the members of a JSON object that say of a run how it was judged."""
        published = self._broadcaster.get(session_id)
        if published is None:
            return '"verdict":null'
        text = self._broadcaster.json_of(published)
        if text is None:
            return f'"verdict":null,"expired":{json.dumps(expired(published.verdict))}'
        return f'"verdict":{text}'

    async def metrics(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        body, content_type = await self._host.exposition(accept)
        return Response(body, headers={"Content-Type": content_type, **_FRESH})

    async def healthy(self, _request: Request) -> Response:
        seconds = self._host.step_takes
        if seconds > STUCK_AFTER:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, _STUCK.format(seconds))
        return PlainTextResponse("healthy\n", headers=_FRESH)

    async def readiness(self, _request: Request) -> Response:
        if not self._host.ready:
            raise self._not_ready()
        seconds, lease = self._host.unjudged_for, self._broadcaster.lease
        if seconds >= lease:
            raise self._unavailable(_NOT_JUDGED.format(seconds, lease))
        targets = self._host.unmatched
        # Which ones, the log says: anybody may ask here.
        more = f"nothing to count at {targets} of its targets: see the log\n" if targets else ""
        return PlainTextResponse(f"ready\n{more}", headers=_FRESH)

    async def description(self, _request: Request) -> Response:
        return _json(self._description)

    def _over(self, verdict: Verdict) -> HTTPException:
        why = _OVER.format(verdict.session_id, verdict.lease_seconds)
        return self._unavailable(why, expired(verdict))

    def _not_ready(self) -> HTTPException:
        return self._unavailable(_NOT_READY)

    def _unavailable(self, why: str, known: Mapping[str, object] | None = None) -> HTTPException:
        seconds = max(1, math.ceil(self._host.retry_after))
        headers = {"Retry-After": str(seconds)}
        return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, why, headers, known or {})


def expired(verdict: Verdict) -> dict[str, object]:
    """Return what is known of a run whose verdict holds no more; it says neither stop nor go on."""
    return {
        "session_id": verdict.session_id,
        "last_action": str(verdict.action),
        "last_reason": str(verdict.reason),
        "evaluated_at": verdict_json.timestamp(verdict.evaluated_at),
        "valid_until": verdict_json.timestamp(
            verdict.evaluated_at + (verdict.lease_seconds or 0.0)
        ),
    }


_FRESH = {"Cache-Control": "no-store"}


def _json(text: str) -> Response:
    return Response(text, headers=_FRESH, media_type="application/json")


def _number(key: str, text: str, least: int, most: int) -> int:
    if _DIGITS.fullmatch(text) is None or not least <= int(text) <= most:
        raise InvalidValueError(key, text, f"a whole number from {least} to {most}")
    return int(text)


def _named(key: str, text: str) -> str:
    if validation.SESSION_ID_PATTERN.fullmatch(text) is None:
        raise InvalidValueError(key, text, "the next_cursor of the page before")
    return text


def _status(text: str | None) -> LimitStatus | None:
    if text is None:
        return None
    try:
        return LimitStatus(text)
    except ValueError as exc:
        raise InvalidValueError("status", text, ", ".join(LimitStatus)) from exc
