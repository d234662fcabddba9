"""``/v1/sessions``: one run with its overrides, and what an operator may do to it."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import ConfigDict, Field, create_model
from starlette.exceptions import HTTPException

from otel_budget.core import validation, verdict_json
from otel_budget.core.override import (
    LONGEST,
    LONGEST_NAME,
    LONGEST_REASON,
    Override,
    OverrideKind,
    OverrideRefusedError,
    Refusal,
    override_from,
)
from otel_budget.core.quantities import COUNT, MONEY, MONEY_PATTERN, SECONDS, Quantity
from otel_budget.core.resources import RESOURCES
from otel_budget.core.validation import LINE_PATTERN, MAX_COUNT
from otel_budget.sidecar.api.connection_limits import client_of
from otel_budget.sidecar.api.models import ABSENT, Amount, Body, RequestObject
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.request_body import json_of
from otel_budget.sidecar.api.route import Access, Answer, Operation, RequestBody, Tag
from otel_budget.sidecar.api.verdict_body import (
    SESSION_ID,
    VERDICT_EXAMPLE,
    ExpiredBody,
    VerdictBody,
)
from otel_budget.sidecar.api.verdicts import NO_RUN_ANSWER, SESSION_PARAMETER, verdict_members

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.requests import Request
    from starlette.responses import Response

    from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
    from otel_budget.sidecar.api.host import Host

T = TypeVar("T")

#: Overrides of one run that an answer shows.
MAX_SHOWN: Final = 100
_STATUS: Final = {
    Refusal.UNKNOWN_RUN: HTTPStatus.NOT_FOUND,
    Refusal.RUN_ENDED: HTTPStatus.CONFLICT,
    Refusal.NOT_STORED: HTTPStatus.SERVICE_UNAVAILABLE,
}

#: Without the halves of surrogate pairs: text in JSON has none, and many tools cannot read them.
_ONE_LINE: Final = f"^{LINE_PATTERN.pattern}$".replace(r"\ud800-\udfff", "")
#: What an operator says: why, and who it is.
OperatorReason = Annotated[str, Field(min_length=1, max_length=LONGEST_REASON, pattern=_ONE_LINE)]
OperatorName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=_ONE_LINE)]
_ForSeconds = Annotated[float, Field(gt=0, le=LONGEST)]
_Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
_Number = Annotated[float, Field(ge=0, le=MAX_COUNT)]
_MoneyText = Annotated[str, Field(pattern=f"^{MONEY_PATTERN.pattern}$")]
_NO_CEILING: Final = "null means no ceiling."


class ReleaseRequest(RequestObject):
    """Take a stop back."""

    reason: OperatorReason
    """One line for people; the run and the log show it."""
    by: OperatorName = ABSENT
    """Who gives the override; any name."""


class StopRequest(ReleaseRequest):
    """Stop the run, whatever its numbers say."""

    for_seconds: _ForSeconds = ABSENT
    """How long the stop holds; until it is released if absent."""
    now: bool = ABSENT
    """True: not even the last calls are allowed with which the run could finish, `wrap_up` in the
    verdict; absent is false."""


class _LimitsRequest(ReleaseRequest):
    model_config = ConfigDict(
        json_schema_extra={
            "dependentRequired": {row.limit_key: ["for_seconds"] for row in RESOURCES.values()}
        }
    )

    for_seconds: _ForSeconds = ABSENT
    """How long the ceilings hold; required if there are any."""


_DOLLARS: Final = f"US dollars, as a decimal string or a number; {_NO_CEILING}"
_CEILING: Final[dict[Quantity, Any]] = {
    COUNT: Annotated[_Count | None, Field(description=_NO_CEILING)],
    SECONDS: Annotated[_Number | None, Field(description=_NO_CEILING)],
    MONEY: Annotated[_MoneyText | _Number | None, Field(description=_DOLLARS)],
}
_CEILINGS: Final[dict[str, Any]] = {
    row.limit_key: (_CEILING[row.quantity], ABSENT) for row in RESOURCES.values()
}
#: Its keys are the limits of the resources there are.
LimitsRequest = create_model(
    "LimitsRequest",
    __base__=_LimitsRequest,
    __doc__=(
        "Ceilings to hold the run to instead of the configured ones, for a time; without any, the "
        "configured ones hold again. The run's own limits stay in force, unless the run, or the "
        "configuration, lets limits come from outside: then these take their place, too."
    ),
    __module__=__name__,
    **_CEILINGS,
)


class OverrideBody(Body):
    """An override as it was given."""

    kind: OverrideKind
    reason: str
    by: str
    """Empty if no name was given."""
    at: datetime
    until: datetime | None
    """When it ends; null if it holds until it is released."""
    limits: dict[str, Amount | None]
    """The ceilings of a `limits` override; null means no ceiling."""
    now: bool = ABSENT
    """True of a stop that allows no last calls; absent otherwise."""


class SessionBody(Body):
    """One run: its current verdict, and its overrides."""

    verdict: VerdictBody | None
    expired: ExpiredBody = ABSENT
    """In place of a verdict that has outlived its lease; absent otherwise."""
    stop: OverrideBody | None
    """The stop in force."""
    limits: OverrideBody | None
    """The ceilings in force instead of the configured ones."""
    orders: list[OverrideBody]
    """The overrides of this run, newest first."""


class OverrideResultBody(VerdictBody):
    """The verdict that follows an override, and what the override changed."""

    changes: bool
    """False if the run may use as much, and for as long, as before."""
    notes: list[str]
    """For people: why nothing changes, or what else stops the run."""


_STOP: Final = {"reason": "runs in circles", "by": "ann"}
_OVERRIDE_EXAMPLE: Final[dict[str, Any]] = {
    "kind": str(OverrideKind.STOP),
    **_STOP,
    "at": "2026-01-01T12:00:00.000Z",
    "until": None,
    "limits": {},
}
_PATH: Final = "/v1/sessions/{session_id}"
_OVERRIDE_ANSWERS: Final = (
    Answer(
        200,
        "Stored and in force: the verdict that follows, and what the override changed.",
        OverrideResultBody,
        {**VERDICT_EXAMPLE, "changes": True, "notes": []},
    ),
    NO_RUN_ANSWER,
    problem_answer(409, "The run has ended.", f"run '{SESSION_ID}' has ended: completed"),
    problem_answer(
        503,
        "The override could not be stored, so it is not in force.",
        "the override could not be stored and is not in force: the log says why",
    ),
)


class RunOverrides:
    """Shows a run's overrides, and applies new ones."""

    def __init__(self, broadcaster: VerdictBroadcaster, host: Host, max_body: int) -> None:
        """Take the parts. max_body: bytes of a request's body."""
        self._broadcaster, self._host, self._max_body = broadcaster, host, max_body

    @Operation(
        path=_PATH,
        id="getSession",
        tag=Tag.SESSIONS,
        summary="The current verdict of one run, and its overrides",
        description="Which stop and which ceilings are in force, and who set them.",
        parameters=(SESSION_PARAMETER,),
        answers=(
            Answer(
                200,
                "The run.",
                SessionBody,
                {
                    "verdict": VERDICT_EXAMPLE,
                    "stop": _OVERRIDE_EXAMPLE,
                    "limits": None,
                    "orders": [_OVERRIDE_EXAMPLE],
                },
            ),
            NO_RUN_ANSWER,
        ),
    )
    async def session(self, request: Request) -> Response:
        """Answer with a run's verdict and its overrides."""
        session_id = validation.session_id(request.path_params["session_id"])
        held, newest = await _answered(self._host.overrides_of(session_id, MAX_SHOWN))
        known = {
            "stop": held.stop and override_json(held.stop),
            "limits": held.limits and override_json(held.limits),
            "orders": [override_json(override) for override in newest],
        }
        verdict = verdict_members(self._broadcaster, session_id)
        return json_response(f"{{{verdict},{json.dumps(known)[1:]}")

    @Operation(
        method="POST",
        path=f"{_PATH}/stop",
        id="stopSession",
        tag=Tag.SESSIONS,
        summary="Stop a run, whatever its numbers say",
        description=(
            "It refuses a run that waits until it may go on. The stop holds until it is "
            "released, or for for_seconds; it also applies to the run "
            "when it is resumed. The run may make its last calls, to finish with what it has; with "
            "now it may make none."
        ),
        access=Access.ADMIN,
        parameters=(SESSION_PARAMETER,),
        body=RequestBody(StopRequest, _STOP),
        answers=_OVERRIDE_ANSWERS,
    )
    async def stop(self, request: Request) -> Response:
        """Stop a run."""
        return await self._override(OverrideKind.STOP, request)

    @Operation(
        method="POST",
        path=f"{_PATH}/release",
        id="releaseSession",
        tag=Tag.SESSIONS,
        summary="Take a stop back",
        description="Anything else that stops the run still does; `notes` in the answer say so.",
        access=Access.ADMIN,
        parameters=(SESSION_PARAMETER,),
        body=RequestBody(ReleaseRequest, {"reason": "the loop is fixed", "by": "ann"}),
        answers=_OVERRIDE_ANSWERS,
    )
    async def release(self, request: Request) -> Response:
        """Take a stop back."""
        return await self._override(OverrideKind.RELEASE, request)

    @Operation(
        method="POST",
        path=f"{_PATH}/limits",
        id="limitsSession",
        tag=Tag.SESSIONS,
        summary="Hold a run to other ceilings than the configured ones, for a time",
        description=(
            "The run's own limits stay in force: the stricter applies. Where the run, or the "
            "configuration, lets limits come from outside, they take the place of its own; "
            "own_limits_replaced in the answer lists the resources."
        ),
        access=Access.ADMIN,
        parameters=(SESSION_PARAMETER,),
        body=RequestBody(
            LimitsRequest,
            {
                "reason": "a larger repository than usual",
                "by": "ann",
                "for_seconds": 3600,
                "max_tokens": 3000000,
                "max_cost_usd": "40.00",
            },
        ),
        answers=_OVERRIDE_ANSWERS,
    )
    async def limits(self, request: Request) -> Response:
        """Set other ceilings."""
        return await self._override(OverrideKind.LIMITS, request)

    async def _override(self, kind: OverrideKind, request: Request) -> Response:
        session_id = validation.session_id(request.path_params["session_id"])
        client = client_of(request)
        override = override_from(kind, await json_of(request, self._max_body), self._host.now())
        verdict, effect = await _answered(self._host.apply_override(session_id, override, client))
        rest = json.dumps({"changes": effect.changes, "notes": effect.notes})
        return json_response(f"{verdict_json.to_json(verdict)[:-1]},{rest[1:]}")


async def _answered(answer: Awaitable[T]) -> T:
    try:
        return await answer
    except OverrideRefusedError as exc:
        raise HTTPException(_STATUS[exc.refusal], str(exc)) from exc


def override_json(override: Override) -> dict[str, Any]:
    """Return an override as it was given, as JSON types."""
    limits = {RESOURCES[res].limit_key: _plain(limit) for res, limit in override.limits.items()}
    return {
        "kind": str(override.kind),
        "reason": override.reason,
        "by": override.by,
        "at": verdict_json.timestamp(override.at),
        "until": None if override.until is None else verdict_json.timestamp(override.until),
        "limits": limits,
        **({"now": True} if override.now else {}),
    }


def _plain(limit: object) -> object:
    return str(limit) if isinstance(limit, Decimal) else limit
