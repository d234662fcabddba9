"""``POST /v1/nudge``: have runs read and judged now, as they may be past a limit.

A nudge says nothing of what was used: the metrics stay the only truth. Nudges of one run are done
one after the other, at most one every ``SPACING``; those that come meanwhile are one. Those of runs
at one target share what is read of it, and all of them what is judged (sources/turns.py,
sidecar/nudging.py), so what they cost together is bounded.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

from otel_budget.core import validation
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.nudging import NudgeOutcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

#: Seconds from one reading of a run to the next one.
SPACING = 0.02
#: Runs that are read at once, or wait for it: those of one slow target must not be all of them.
MAX_RUNS = 1000
#: Runs that can be named in one request: its head has a bound.
MAX_NAMED = 100
_FRESH = {"Cache-Control": "no-store"}


class Nudges:
    """Does them, within bounds."""

    def __init__(
        self,
        look: Callable[[str], Awaitable[NudgeOutcome]],
        on_refused: Callable[[str, str], None],
        *,
        spacing: float = SPACING,
    ) -> None:
        """Take what reads and judges one run. on_refused: as ``Gate`` has it."""
        self._look, self._on_refused, self._spacing = look, on_refused, spacing
        self._running: dict[str, asyncio.Task[NudgeOutcome]] = {}
        self._next: dict[str, asyncio.Task[NudgeOutcome]] = {}

    async def nudge(self, request: Request) -> Response:
        """Answer 204 once the run's verdict is of now; 200 where several are named."""
        wanted = request.query_params.getlist("session_id")
        if not 0 < len(wanted) <= MAX_NAMED:
            allowed = f"the id of the run as a query parameter, {MAX_NAMED} of them at most"
            raise InvalidValueError("session_id", f"{len(wanted)} of them", allowed)
        named = list(dict.fromkeys(validation.session_id(one) for one in wanted))
        client = request.client.host if request.client else ""
        if len(named) > 1:
            return await self._several(named, client)
        (session_id,) = named
        outcome = await self._once(session_id, client)
        if outcome is NudgeOutcome.UNKNOWN:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"no target shows a run {session_id!r}")
        if outcome is NudgeOutcome.IMPOSSIBLE:
            raise HTTPException(HTTPStatus.CONFLICT, "this sidecar's source cannot be hastened")
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _several(self, named: list[str], client: str) -> Response:
        """Answer once all of some runs were looked at, with those of which that cannot be."""
        outcomes = await asyncio.gather(*(self._once(one, client) for one in named))
        found = {
            str(kind.value): [
                one for one, outcome in zip(named, outcomes, strict=True) if outcome is kind
            ]
            for kind in (NudgeOutcome.UNKNOWN, NudgeOutcome.IMPOSSIBLE)
        }
        return Response(json.dumps(found), 200, _FRESH, "application/json")

    async def _once(self, session_id: str, client: str) -> NudgeOutcome:
        """Wait for the first look at the run that begins from now on."""
        task = self._next.get(session_id)
        if task is None:
            running = self._running.get(session_id)
            if running is None and len(self._running) >= MAX_RUNS:
                self._on_refused("nudges", client)
                detail = f"{MAX_RUNS} runs are looked at already"
                headers = {"Retry-After": "1"}
                raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, headers)
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
            return await self._look(session_id)
        finally:
            if session_id not in self._next:
                del self._running[session_id]
