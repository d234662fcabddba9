"""``POST /v1/nudge``: have runs read and judged now, because they may be past a limit.

A nudge does not say what was used: the metrics stay the only truth. Nudges of one run are done one
after the other, ``SPACING`` apart; those that come meanwhile are done as one. Nudges of runs at one
target share one reading of it, and all share what is judged (sources/scheduler.py,
sidecar/nudging.py), so that what they cost together is bounded.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from otel_budget.core import validation
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api.connection_limits import client_of
from otel_budget.sidecar.api.models import MAX_NAMED, Body, SessionId, SessionIds
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.route import Answer, Operation, Parameter, Tag
from otel_budget.sidecar.api.verdict_body import SESSION_ID
from otel_budget.sidecar.nudging import NudgeOutcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

#: Seconds between two readings of a run.
SPACING: Final = 0.02
#: Runs that are read at once, or wait for it: those of one slow target must not take all places.
MAX_RUNS: Final = 1000
_NOT_SHOWN: Final = "no target shows a run {!r}"
_NOT_ON_DEMAND: Final = "this sidecar's source cannot read a run on demand"
_BUSY: Final = f"{MAX_RUNS:,} runs are being read already"


class NotReadBody(Body):
    """The nudged runs that could not be read; all others have just been judged."""

    unknown: list[SessionId]
    """Runs that no target shows."""
    impossible: list[SessionId]
    """Runs whose source reads all runs or none, on its own schedule."""


class Nudges:
    """Has runs read and judged, within bounds."""

    def __init__(
        self,
        read: Callable[[str], Awaitable[NudgeOutcome]],
        on_refused: Callable[[str, str], None],
        *,
        spacing: float = SPACING,
    ) -> None:
        """Take the parts. read: reads, judges and publishes one run. on_refused: as in ``Gate``."""
        self._read, self._on_refused, self._spacing = read, on_refused, spacing
        self._running: dict[str, asyncio.Task[NudgeOutcome]] = {}
        self._next: dict[str, asyncio.Task[NudgeOutcome]] = {}

    @Operation(
        method="POST",
        path="/v1/nudge",
        id="nudge",
        tag=Tag.VERDICTS,
        summary="Have runs read and judged now, because they may be past a limit",
        description=(
            "Carries no numbers: the metrics stay the only truth. The answer is 204 for one run, "
            "200 for several."
        ),
        parameters=(Parameter("session_id", "The runs.", SessionIds, [SESSION_ID], required=True),),
        answers=(
            Answer(
                200,
                "For several runs: all but the ones listed have been judged just now.",
                NotReadBody,
                {"unknown": [], "impossible": []},
            ),
            Answer(204, "The run has been judged just now."),
            problem_answer(404, "No target shows the run.", _NOT_SHOWN.format(SESSION_ID)),
            problem_answer(
                409, "The source reads all runs or none, on its own schedule.", _NOT_ON_DEMAND
            ),
            problem_answer(429, "Too many runs are being read already.", _BUSY, retry_after=True),
        ),
    )
    async def nudge(self, request: Request) -> Response:
        """Answer 204 once the run has been judged; 200 if several runs are named."""
        wanted = request.query_params.getlist("session_id")
        if not 0 < len(wanted) <= MAX_NAMED:
            allowed = f"the run's id as a query parameter, up to {MAX_NAMED} of them"
            raise InvalidValueError("session_id", f"{len(wanted)} of them", allowed)
        named = list(dict.fromkeys(validation.session_id(one) for one in wanted))
        client = client_of(request)
        if len(named) > 1:
            return await self._several(named, client)
        (session_id,) = named
        outcome = await self.once(session_id, client)
        if outcome is NudgeOutcome.UNKNOWN:
            raise HTTPException(HTTPStatus.NOT_FOUND, _NOT_SHOWN.format(session_id))
        if outcome is NudgeOutcome.IMPOSSIBLE:
            raise HTTPException(HTTPStatus.CONFLICT, _NOT_ON_DEMAND)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _several(self, named: list[str], client: str) -> Response:
        """Answer once all runs were read, with those that could not be."""
        outcomes = await asyncio.gather(*(self.once(one, client) for one in named))
        found = {
            str(kind.value): [
                one for one, outcome in zip(named, outcomes, strict=True) if outcome is kind
            ]
            for kind in (NudgeOutcome.UNKNOWN, NudgeOutcome.IMPOSSIBLE)
        }
        return json_response(json.dumps(found))

    async def once(self, session_id: str, client: str) -> NudgeOutcome:
        """Wait for the first reading of the run that begins from now on."""
        task = self._next.get(session_id)
        if task is None:
            running = self._running.get(session_id)
            if running is None and len(self._running) >= MAX_RUNS:
                self._on_refused("nudges", client)
                headers = {"Retry-After": "1"}
                raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, _BUSY, headers)
            task = asyncio.create_task(self._after(running, session_id))
            (self._running if running is None else self._next)[session_id] = task
        return await asyncio.shield(task)

    async def _after(
        self, before: asyncio.Task[NudgeOutcome] | None, session_id: str
    ) -> NudgeOutcome:
        if before is not None:
            await asyncio.wait([before])
            await asyncio.sleep(self._spacing)
            self._running[session_id] = self._next.pop(session_id)
        try:
            return await self._read(session_id)
        finally:
            if session_id not in self._next:
                del self._running[session_id]
