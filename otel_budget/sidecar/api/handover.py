"""``POST /v1/handover``: a run that ended hands over its last state, as its page would show it.

Who scrapes seldom would miss it, and a process of a few seconds altogether. It is the same text, by
the same names, as a scrape would read, and counts as one more view of the same process: of two the
larger sum, once. It ends no run but its own: see ledger/owners.py.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from otel_budget import semconv
from otel_budget.core.observation import HANDED_OVER
from otel_budget.errors import InvalidValueError
from otel_budget.runtime.workers import Workers
from otel_budget.sidecar.api.connection_limits import client_of
from otel_budget.sidecar.api.models import MAX_NAMED, Body, SessionIds
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.request_body import body_of
from otel_budget.sidecar.api.route import TEXT, Answer, Operation, RequestBody, Tag
from otel_budget.sidecar.api.verdict_body import SESSION_ID
from otel_budget.sidecar.handovers import HandoverOutcome
from otel_budget.sources.base import TargetError
from otel_budget.sources.exposition import PageLimits, PageReader
from otel_budget.sources.session_assembly import assemble, needed

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from otel_budget.core.observation import RunObservation
    from otel_budget.core.owner_labels import Details
    from otel_budget.core.samples import Assembled
    from otel_budget.sidecar.api.host import Host

#: Requests that are read and judged at once, or wait for it.
MAX_AT_ONCE: Final = 100
#: Seconds of processor time that reading one may take.
_READ_WITHIN: Final = 1.0
_BUSY: Final = f"{MAX_AT_ONCE:,} handovers are being judged already"
_REFUSED: Final = (
    "run {!r} is carried by another process than the one that handed it over, or it is bound to "
    "targets: its end is seen there"
)
_BY_BROWSER: Final = "a run hands over its end, not a page in a browser"
_NOT_STORED: Final = "it could not be stored: the sidecar's log says why"
_EXAMPLE: Final = (
    f'{semconv.SESSION_TOKENS.name}{{session_id="{SESSION_ID}"}} 3000\n'
    f'{semconv.SESSION_START.name}{{session_id="{SESSION_ID}"}} 1767268800.25\n'
    f'{semconv.INCARNATION_START.name}{{session_id="{SESSION_ID}"}} 1767268800.25\n'
    f'{semconv.SESSION_STATE.name}{{session_id="{SESSION_ID}",state="completed"}} 1\n'
)


class RefusedBody(Body):
    """What was not taken of several runs; all others are judged and stored."""

    refused: SessionIds
    """Runs that another process carries, or that are bound to targets."""


class Handover:
    """Takes the last state of runs that ended, within bounds."""

    def __init__(self, host: Host, on_refused: Callable[[str, str], None], body: int) -> None:
        """host: judges and stores. on_refused: as in ``Gate``. body: bytes."""
        self._host, self._on_refused, self._body = host, on_refused, body
        self._under_way = 0
        self._thread = Workers("handover")

    @Operation(
        method="POST",
        path="/v1/handover",
        id="handOver",
        tag=Tag.VERDICTS,
        summary="Hand over the last state of runs that have ended",
        description=(
            "The series of each, as /metrics shows them, when it has ended. Answered once they are "
            "judged and stored: 204, or 200 where one of several was refused."
        ),
        body=RequestBody(str, _EXAMPLE, media_type=TEXT),
        answers=(
            Answer(
                200,
                "For several runs: all but the ones listed have been judged and stored.",
                RefusedBody,
                {"refused": []},
            ),
            Answer(204, "All of it has been judged and stored."),
            problem_answer(403, "A page in a browser sent it.", _BY_BROWSER),
            problem_answer(409, "Its end is to be seen elsewhere.", _REFUSED.format(SESSION_ID)),
            problem_answer(429, "Too many are being judged already.", _BUSY, retry_after=True),
            problem_answer(503, "It could not be stored.", _NOT_STORED, retry_after=True),
        ),
    )
    async def hand_over(self, request: Request) -> Response:
        """Answer 204 once all runs are judged and stored."""
        client = client_of(request)
        if "origin" in request.headers:  # any page may post text, also to a loopback address
            self._on_refused("request", client)
            raise HTTPException(HTTPStatus.FORBIDDEN, _BY_BROWSER)
        if self._under_way >= MAX_AT_ONCE:
            self._on_refused("nudges", client)
            raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, _BUSY, {"Retry-After": "1"})
        self._under_way += 1
        try:
            page = await body_of(request, self._body, TEXT)
            now, target = self._host.now(), f"{HANDED_OVER}{client}"
            found = await self._thread.run(_runs_in, page, target, now, self._host.details)
            outcomes = await self._host.hand_over(found.sessions, found.dropped)
        finally:
            self._under_way -= 1
        return _answer(found.sessions, outcomes)


def _runs_in(page: bytes, target: str, now: float, details: Details) -> Assembled:
    """Return the runs on a page. Raises InvalidValueError where it is not one of ended runs."""
    try:
        samples = PageReader(needed(details), PageLimits(), _READ_WITHIN).read(page, TEXT)
    except TargetError as exc:
        raise InvalidValueError("body", exc.unquoted, "the text of a Prometheus page") from exc
    found = assemble(samples, target, now, details=details)
    if not 0 < len(found.sessions) <= MAX_NAMED:
        allowed = f"the series of a run that has ended, or of up to {MAX_NAMED}"
        raise InvalidValueError("body", f"{len(found.sessions)} runs", allowed)
    for run in found.sessions:
        said = run.attributes
        if said.state not in semconv.ENDED_STATES or None in (said.started_at, said.incarnation_at):
            allowed = f"one of {', '.join(semconv.ENDED_STATES)}, and when run and process began"
            raise InvalidValueError(f"the state of {run.session_id}", said.state, allowed)
    return found


def _answer(runs: tuple[RunObservation, ...], outcomes: list[HandoverOutcome]) -> Response:
    """Return the answer; raise HTTPException where nothing of it was taken."""
    if HandoverOutcome.NOT_STORED in outcomes:
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, _NOT_STORED, {"Retry-After": "1"})
    refused = [
        run.session_id
        for run, outcome in zip(runs, outcomes, strict=True)
        if outcome is HandoverOutcome.REFUSED
    ]
    if not refused:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    if len(runs) == 1:
        raise HTTPException(HTTPStatus.CONFLICT, _REFUSED.format(refused[0]))
    return json_response(json.dumps({"refused": refused}))
