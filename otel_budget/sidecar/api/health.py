"""``/-/healthy`` and ``/-/ready``: whether to restart the process, and whether to send it clients.

A restart does nothing for a disk that is full or a source that is away, so only a step that hangs
is bad health; a process that has not judged for longer than a lease is not ready.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response

from otel_budget.sidecar.api.problem import ProblemError, problem_answer
from otel_budget.sidecar.api.rendered import NO_STORE
from otel_budget.sidecar.api.route import TEXT, Access, Answer, Operation, Tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
    from otel_budget.sidecar.api.host import Host

#: Seconds that one step of a tick may take.
STUCK_AFTER: Final = 300.0
NOT_READY: Final = "nothing has been read from the source yet; the log and /metrics say why"
_NOT_JUDGED: Final = (
    "no tick has succeeded for {:.0f} s, longer than the lease of {:g} s: the log and /metrics say "
    "why"
)
_STUCK: Final = (
    "the current tick has been running for {:.0f} s and may never end: restart the sidecar"
)
NOT_READY_ANSWER: Final = problem_answer(
    503,
    "Nothing has been read from the source yet, or nothing has been judged within the lease.",
    NOT_READY,
    retry_after=True,
)


class Health:
    """Tells whether the process works. Names no run and no target: anyone may ask."""

    def __init__(self, broadcaster: VerdictBroadcaster, host: Host) -> None:
        """Take the parts."""
        self._broadcaster, self._host = broadcaster, host

    @Operation(
        path="/-/healthy",
        id="getHealth",
        tag=Tag.OPERATIONS,
        summary="Whether the process answers and no tick hangs",
        description=(
            "A restart helps only when this fails. Needs no token and says nothing about any run."
        ),
        access=Access.OPEN,
        answers=(
            Answer(200, "The process is healthy.", str, "healthy\n", TEXT),
            problem_answer(503, "A tick has been hanging for minutes.", _STUCK.format(312)),
        ),
    )
    async def healthy(self, _request: Request) -> Response:
        """Answer 503 if a step hangs."""
        seconds = self._host.step_takes
        if seconds > STUCK_AFTER:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, _STUCK.format(seconds))
        return PlainTextResponse("healthy\n", headers=NO_STORE)

    @Operation(
        path="/-/ready",
        id="getReadiness",
        tag=Tag.OPERATIONS,
        summary="Whether the source has been read and all runs were judged within the lease",
        description="Needs no token and names no target.",
        access=Access.OPEN,
        answers=(
            Answer(200, "The sidecar is ready.", str, "ready\n", TEXT),
            NOT_READY_ANSWER,
        ),
    )
    async def ready(self, _request: Request) -> Response:
        """Answer 503 before the first reading, and if no tick succeeds."""
        if not self._host.ready:
            raise unavailable(self._host, NOT_READY)
        seconds, lease = self._host.unjudged_for, self._broadcaster.lease
        if seconds >= lease:
            raise unavailable(self._host, _NOT_JUDGED.format(seconds, lease))
        targets = self._host.unmatched
        more = f"nothing to count at {targets} of its targets: see the log\n" if targets else ""
        return PlainTextResponse(f"ready\n{more}", headers=NO_STORE)


def unavailable(host: Host, why: str, members: Mapping[str, object] | None = None) -> HTTPException:
    """Return a 503 that says when to ask again. members: of the problem, beside the sentence."""
    seconds = max(1, math.ceil(host.retry_after))
    headers = {"Retry-After": str(seconds)}
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, why, headers, members or {})
