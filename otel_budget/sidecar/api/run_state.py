"""``POST /v1/sessions/{session_id}/state``: whoever started a run's program says how it is.

A program that pushes says nothing by its silence, and one that was ended by a signal says nothing
at all. Who started it knows: ``otel-budget run`` does. It makes no run known, and lifts no limit.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Literal

from starlette.exceptions import HTTPException
from starlette.responses import Response

from otel_budget import semconv
from otel_budget.core import validation
from otel_budget.sidecar.api.connection_limits import client_of
from otel_budget.sidecar.api.models import SessionId
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.route import Answer, Operation, Parameter, Tag
from otel_budget.sidecar.api.verdict_body import SESSION_ID

if TYPE_CHECKING:
    from starlette.requests import Request

    from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
    from otel_budget.sidecar.api.host import Host

#: What may be told: a pause is the run's own matter.
TOLD: Final = (semconv.RUNNING, *semconv.ENDED_STATES)
_UNKNOWN: Final = "nothing is known of a run {!r}"
_FROM_A_PAGE: Final = "a page in a browser has started no run"


class RunState:
    """Takes what is told of runs."""

    def __init__(self, broadcaster: VerdictBroadcaster, host: Host) -> None:
        """Take the parts."""
        self._broadcaster, self._host = broadcaster, host

    @Operation(
        method="POST",
        path="/v1/sessions/{session_id}/state",
        id="tellState",
        tag=Tag.VERDICTS,
        summary="Say that a run's program has begun or ended",
        description=(
            "For who started the program: pushed runs say nothing by their silence. An end holds "
            "until the run is seen to use more; a start makes it fresh. No limit is lifted by it."
        ),
        parameters=(
            Parameter("session_id", "The run.", SessionId, SESSION_ID, "path", required=True),
            Parameter(
                "state",
                "How it is.",
                Literal["running", "completed", "stopped", "failed"],
                "completed",
                required=True,
            ),
        ),
        answers=(
            Answer(204, "It is taken note of, and judged."),
            problem_answer(403, "A page in a browser asks.", _FROM_A_PAGE),
            problem_answer(404, "The run is not known.", _UNKNOWN.format(SESSION_ID)),
        ),
    )
    async def tell(self, request: Request) -> Response:
        """Answer 204 once it is judged."""
        if "origin" in request.headers:  # any page could post here, whatever it may read
            raise HTTPException(HTTPStatus.FORBIDDEN, _FROM_A_PAGE)
        session_id = validation.session_id(request.path_params["session_id"])
        state = validation.choice("state", request.query_params.get("state"), TOLD)
        if self._broadcaster.get(session_id) is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, _UNKNOWN.format(session_id))
        client = client_of(request)
        await self._host.hook_seen(session_id, state=state, tokens=None, preset="", peer=client)
        return Response(status_code=HTTPStatus.NO_CONTENT)
