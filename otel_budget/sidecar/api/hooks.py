"""``POST /v1/hooks/{agent}``: what a coding agent's hook asks, and the answer that it understands.

Each call has the run read and judged, tells the ledger of a start, an end, or what a call used, and
is answered by what is known then (``agents.ending``). Of the input a few fields are read; the rest,
prompts and the output of tools, is dropped unread and never logged.
"""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import ConfigDict, Field
from starlette.exceptions import HTTPException

from otel_budget import semconv
from otel_budget.agents.base import GO_ON, LONGEST, EventKind
from otel_budget.agents.ending import HookedRuns
from otel_budget.agents.hook_input import TAIL, WHOLE, hook_input
from otel_budget.agents.known import hooks_of, names
from otel_budget.core import validation
from otel_budget.core.reasons import Reason
from otel_budget.core.verdict import LimitStatus
from otel_budget.sidecar.api.connection_limits import client_of
from otel_budget.sidecar.api.health import unavailable
from otel_budget.sidecar.api.models import Body, SessionId
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.route import Answer, Operation, Parameter, RequestBody, Tag
from otel_budget.sidecar.api.verdict_body import SESSION_ID

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from otel_budget.agents.base import AgentHooks, HookEvent
    from otel_budget.agents.base import Answer as HookAnswer
    from otel_budget.agents.ending import HookedRun
    from otel_budget.core.verdict import Verdict
    from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
    from otel_budget.sidecar.api.host import Host
    from otel_budget.sidecar.api.nudge import Nudges

#: Bytes of an input; past ``WHOLE`` they are dropped as they come.
MAX_INPUT: Final = 33_554_432
#: Seconds that a slow target may keep a hook waiting: it is answered by what is known then.
NUDGE_TIME: Final = 1.0
#: Seconds to wait near a limit until the call just made is counted, and between two looks.
PUSH_TIME, _LOOK_AFTER = 0.4, 0.01
_FINAL: Final = tuple(reason for reason in Reason if reason.is_final)
#: The example of an operation.
_AGENT: Final = "claude-code"
_UNKNOWN: Final = "no agent {!r} is known here: {}"
_FROM_A_PAGE: Final = "a page in a browser has no hooks"
_EXPIRED: Final = (
    "the last verdict on the run {!r} is older than its lease: the run has not been judged since; "
    "the log and /metrics say why"
)
_INPUT: Final[dict[str, Any]] = {
    "session_id": "206c34be-3e16-45b4-a51e-8fd3ee8c295f",
    "hook_event_name": "PreToolUse",
    "tool_name": "Bash",
}
_DENIED: Final[dict[str, Any]] = {
    "hookSpecificOutput": {
        "hookEventName": "PreToolUse",
        "permissionDecision": "deny",
        "permissionDecisionReason": (
            "otel-budget: this run is at its limit: tokens at 108.6% (43,440 of 40,000). No more "
            "tools are run. Give your final answer now, with what you have."
        ),
    }
}


class HookInputBody(Body):
    """What an agent gives its hooks; all else in it is dropped unread."""

    model_config = ConfigDict(extra="allow")

    hook_event_name: Annotated[str, Field(min_length=1, max_length=LONGEST)]
    session_id: SessionId
    """The agent's own."""


class Hooks:
    """Answers the hooks of coding agents."""

    def __init__(
        self,
        broadcaster: VerdictBroadcaster,
        host: Host,
        nudges: Nudges,
        on_refused: Callable[[str, str], None],
    ) -> None:
        """Take the parts. on_refused: as in ``Gate``."""
        self._broadcaster, self._host, self._nudges = broadcaster, host, nudges
        self._on_refused = on_refused
        self._agents: dict[str, AgentHooks] = {
            name: found for name in names() if (found := hooks_of(name)) is not None
        }
        self.runs = HookedRuns()

    @Operation(
        method="POST",
        path="/v1/hooks/{agent}",
        id="hook",
        tag=Tag.VERDICTS,
        summary="Answer a hook of a coding agent",
        description=(
            "The body is the hook's input as the agent writes it; the answer is the JSON that the "
            "agent understands at that event, `{}` if there is nothing to say. The run is read and "
            "judged first. Only names, ids and counts are read of the input. Starts and ends that "
            "it tells are taken note of."
        ),
        parameters=(
            Parameter("agent", "One of the agents known here.", str, _AGENT, "path", required=True),
            Parameter(
                "run", "The run's id; by default the session's in the input.", SessionId, SESSION_ID
            ),
        ),
        body=RequestBody(HookInputBody, _INPUT, is_any_type=True),
        answers=(
            Answer(200, "What the agent is to do.", dict[str, Any], _DENIED),
            problem_answer(403, "A page in a browser asks.", _FROM_A_PAGE),
            problem_answer(
                404, "No such agent is known.", _UNKNOWN.format("cline", ", ".join(names()))
            ),
            problem_answer(
                503,
                "The run has not been judged for longer than a lease, so there is no answer.",
                _EXPIRED.format(SESSION_ID),
                retry_after=True,
            ),
        ),
    )
    async def hook(self, request: Request) -> Response:
        """Answer one call of a hook."""
        name = request.path_params["agent"]
        agent = self._agents.get(name)
        if agent is None:
            detail = _UNKNOWN.format(name[:100], ", ".join(self._agents))
            raise HTTPException(HTTPStatus.NOT_FOUND, detail)
        if "origin" in request.headers:  # any page could post here, whatever it may read
            self._on_refused("request", client_of(request))
            raise HTTPException(HTTPStatus.FORBIDDEN, _FROM_A_PAGE)
        named = request.query_params.get("run")
        if named is not None:
            validation.session_id(named)
        event = agent.read(await _input_of(request, agent))
        if event.kind is EventKind.OTHER or _is_a_piece(event):
            return json_response("{}")
        answer = await self._answer(agent, event, named, client_of(request))
        return json_response(json.dumps(agent.write(event, answer)))

    async def _answer(
        self, agent: AgentHooks, event: HookEvent, named: str | None, client: str
    ) -> HookAnswer:
        """Have the run judged, and return what to answer. named: the run, if it was."""
        session_id, arrived = named or event.session_id, self._host.now()
        run = self.runs.of(session_id)
        run.note(event, arrived)
        starts = event.kind is EventKind.SESSION_START
        if not starts and event.tokens is None and run.sizes.is_looked_for(event):
            await self._read(session_id, client)
        state = self._state_told(event, session_id, run, named)
        if state is not None or event.tokens is not None:
            await self._host.hook_seen(
                session_id, state=state, tokens=event.tokens, preset=agent.preset, peer=client
            )
        if event.kind is EventKind.SESSION_END:
            return GO_ON
        verdict = self._verdict(session_id)
        if run.sizes.is_waited_for(event, verdict, arrived):
            verdict = await self._counted(run, event, session_id, arrived)
        return run.answer(event, agent.can(event), verdict, self._host.now())

    async def _read(self, session_id: str, client: str) -> None:
        """Have the run read and judged, within a bounded time; without it, what is known counts."""
        try:
            await asyncio.wait_for(self._nudges.once(session_id, client), NUDGE_TIME)
        except (TimeoutError, HTTPException):  # slow, or too many at once
            return

    def _state_told(
        self, event: HookEvent, session_id: str, run: HookedRun, named: str | None
    ) -> str | None:
        """Return which state of the run the event tells; None if it tells none."""
        if event.kind is EventKind.SESSION_START:
            return semconv.RUNNING
        if event.kind is EventKind.SESSION_END:
            if event.goes_on and named is not None:
                return None  # another session of the same run follows
            return semconv.STOPPED if run.is_stopped else semconv.COMPLETED
        published = self._broadcaster.get(session_id)
        if event.kind is not EventKind.PROMPT or published is None:
            return None
        verdict = published.verdict
        seems_gone = verdict.run_state in semconv.OVER_STATES
        is_silent = verdict.status is LimitStatus.INCONCLUSIVE
        return semconv.RUNNING if seems_gone or is_silent else None

    def _verdict(self, session_id: str) -> Verdict | None:
        """Return the run's verdict; None if nothing is known of it.

        Raises HTTPException if it is too old to go by.
        """
        published = self._broadcaster.get(session_id)
        if published is None:
            return None
        verdict = published.verdict
        if self._broadcaster.is_over(published) and verdict.reason not in _FINAL:
            raise unavailable(self._host, _EXPIRED.format(session_id))
        return verdict

    async def _counted(
        self, run: HookedRun, event: HookEvent, session_id: str, arrived: float
    ) -> Verdict | None:
        """Return the first verdict with the call just made in it; the newest, if none comes."""
        loop = asyncio.get_running_loop()
        until = loop.time() + PUSH_TIME
        while loop.time() < until:
            await asyncio.sleep(_LOOK_AFTER)
            verdict = self._verdict(session_id)
            if not run.sizes.is_waited_for(event, verdict, arrived):
                return verdict
        return self._verdict(session_id)


def _is_a_piece(event: HookEvent) -> bool:
    """Tell whether it is a chunk of a stream that says nothing of what the call used."""
    return event.kind is EventKind.AFTER_CALL and event.tokens is None


async def _input_of(request: Request, agent: AgentHooks) -> object:
    """Return the JSON of a hook's input; of a large one the beginning, and what its end tells.

    Raises HTTPException for one past all bounds, InvalidValueError for what is not JSON.
    """
    head, tail, size = bytearray(), b"", 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_INPUT:
            detail = f"the body is larger than {MAX_INPUT:,} bytes"
            headers = {"Connection": "close"}
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers)
        head += piece[: WHOLE - len(head)]
        tail = (tail + piece)[-TAIL:]
    if size == len(head):
        return hook_input(bytes(head), is_whole=True)
    found = hook_input(bytes(head), is_whole=False)
    return {**agent.end_of(tail), **found} if isinstance(found, dict) else found
