"""``/v1/reservations``: a run takes room in its budgets before it uses it.

What is held counts as used for whoever asks next. A reservation is taken back with DELETE: that may
be tried again after an answer that was lost, by any client on the way, and comes to the same.
"""

from __future__ import annotations

import json
import math
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import ConfigDict, Field, WithJsonSchema, create_model
from starlette.responses import Response

from otel_budget.core.quantities import COUNT, MONEY, MONEY_PATTERN, Quantity
from otel_budget.core.reservation import (
    DEFAULT_LEASE,
    LONGEST_AGO,
    LONGEST_LEASE,
    ReservationRefusal,
    ReservationRefusedError,
    extension_from,
    request_from,
    use_from,
)
from otel_budget.core.resources import COUNTED, RESOURCES
from otel_budget.core.top_up import KEY_PATTERN, key_from
from otel_budget.core.validation import MAX_COUNT
from otel_budget.ledger.holds import HoldState
from otel_budget.sidecar.api.budget_body import BUDGET, Name, ResourceAmounts, amounts_json
from otel_budget.sidecar.api.health import NOT_READY, unavailable
from otel_budget.sidecar.api.models import ABSENT, Body, RequestObject, SessionId, one_of
from otel_budget.sidecar.api.problem import MEDIA_TYPE, ProblemBody, ProblemError, body
from otel_budget.sidecar.api.rendered import NO_STORE
from otel_budget.sidecar.api.request_body import json_of
from otel_budget.sidecar.api.route import JSON, Answer, Operation, Parameter, RequestBody, Tag
from otel_budget.sidecar.api.verdict_body import SESSION_ID
from otel_budget.sidecar.reservations import Commit, Extend, Order, Release, Reserve, Reserved

if TYPE_CHECKING:
    from starlette.requests import Request

    from otel_budget.sidecar.api.host import Host

_STATUS: Final = {
    ReservationRefusal.UNKNOWN_RUN: HTTPStatus.NOT_FOUND,
    ReservationRefusal.UNKNOWN: HTTPStatus.NOT_FOUND,
    ReservationRefusal.TOO_MANY: HTTPStatus.TOO_MANY_REQUESTS,
    ReservationRefusal.NOT_STORED: HTTPStatus.SERVICE_UNAVAILABLE,
}
_ID: Final = "5f0c2f6f0e5c4be7a1d5f1c0a3a1f9d2"
_AMOUNT: Final[dict[Quantity, Any]] = {
    COUNT: Annotated[int, Field(ge=0, le=MAX_COUNT)],
    MONEY: Annotated[
        str, WithJsonSchema({"type": "string", "pattern": f"^{MONEY_PATTERN.pattern}$"})
    ]
    | Annotated[float, Field(ge=0, le=MAX_COUNT)],
}
_FIELDS: Final[dict[str, Any]] = {
    name: (_AMOUNT[RESOURCES[name].quantity], ABSENT) for name in COUNTED
}
_OR_NULL: Final[dict[str, Any]] = {
    name: (_AMOUNT[RESOURCES[name].quantity] | None, ABSENT) for name in COUNTED
}


class _AtLeastOne(RequestObject):
    model_config = ConfigDict(json_schema_extra={"minProperties": 1})


ReservedAmounts = create_model(
    "ReservedAmounts",
    __base__=_AtLeastOne,
    __doc__="By resource, what may be used; at least one. Money is US dollars.",
    __module__=__name__,
    **_FIELDS,
)
UsedAmounts = create_model(
    "UsedAmounts",
    __base__=RequestObject,
    __doc__="By resource, what was used. Absent or null is not known: as much as was reserved.",
    __module__=__name__,
    **_OR_NULL,
)
_Lease = Annotated[
    float, Field(gt=0, le=LONGEST_LEASE, json_schema_extra={"default": DEFAULT_LEASE})
]


class ReservationRequestBody(RequestObject):
    """What a run may use soon."""

    session_id: SessionId
    resources: ReservedAmounts  # type: ignore[valid-type] # made of the resources there are
    lease_seconds: _Lease = ABSENT
    """After which it ends by itself, unless it is extended."""


class CommitBody(RequestObject):
    """What was used of a reservation."""

    used: UsedAmounts  # type: ignore[valid-type] # as above
    seconds_ago: Annotated[float, Field(ge=0, le=LONGEST_AGO)] = ABSENT
    """How long ago the last of it was recorded by the run, 0 if not said: a sample that was taken
    since has it."""


class ExtendBody(RequestObject):
    """For how long a lease goes on."""

    lease_seconds: _Lease = ABSENT
    """From now on; what is left of it is never made less."""


class ReservationBody(Body):
    """A reservation."""

    id: str
    session_id: SessionId
    state: Annotated[str, one_of(*HoldState)]
    """`held`; `committed`: what was used is held until a newer sample of the run is counted; or how
    it came to its end: `counted`, `released`, `ended` (with its lease)."""
    resources: ResourceAmounts
    """As asked for."""
    used: ResourceAmounts = ABSENT
    """Of one that is committed."""
    budgets: list[Name]
    """The budgets that hold it: all of the run's that are enforced."""
    remaining_lease_seconds: float
    """0 when it is over."""


_EXAMPLE: Final = {
    "id": _ID, "session_id": SESSION_ID, "state": "held",
    "resources": {"tokens": 8000, "api_calls": 1}, "budgets": [BUDGET],
    "remaining_lease_seconds": 60.0,
}  # fmt: skip
_COMMITTED: Final = {
    **_EXAMPLE, "state": "committed", "used": {"tokens": 7150, "api_calls": 1},
    "remaining_lease_seconds": 300.0,
}  # fmt: skip


def _refused_answer(
    status: int, description: str, refusal: ReservationRefusal, detail: str, **members: Any
) -> Answer:
    example = {**body(status, detail), "type": str(refusal), "reason": str(refusal), **members}
    return Answer(status, description, ProblemBody, example, MEDIA_TYPE)


_UNKNOWN_RUN: Final = _refused_answer(
    404, "No run of this id is known.", ReservationRefusal.UNKNOWN_RUN,
    f"no run {SESSION_ID!r} is known here",
)  # fmt: skip
_UNKNOWN: Final = _refused_answer(
    404, "No such reservation is known, or it ended minutes ago.", ReservationRefusal.UNKNOWN,
    f"no reservation {_ID!r} is known here, or not any more",
)  # fmt: skip
_CONFLICT: Final = _refused_answer(
    409, "It was committed with something else, was given back, or its lease has ended; `reason` "
    "says which.", ReservationRefusal.LEASE_ENDED,
    "its lease has ended, and others may have the room: reserve anew",
)  # fmt: skip
_NOT_STORED: Final = _refused_answer(
    503, "It could not be stored, so it is not in force; or nothing is known yet.",
    ReservationRefusal.NOT_STORED,
    "it could not be stored and is not in force: the sidecar's log says why",
)  # fmt: skip
_RESERVATION: Final = Parameter("id", "The reservation.", str, _ID, "path", required=True)


class Reservations:
    """Takes orders on reservations."""

    def __init__(self, host: Host, max_body: int) -> None:
        """Take the process around. max_body: bytes of a request's body."""
        self._host, self._max_body = host, max_body

    @Operation(
        method="POST",
        path="/v1/reservations",
        id="reserve",
        tag=Tag.BUDGETS,
        summary="Hold room for a run in all budgets that it shares",
        description=(
            "In all that are enforced, or in none. A second try with the same Idempotency-Key and "
            "body is answered alike, with what is left of the lease, also after a restart. Refused "
            "with 409: `budget_exceeded` where what is left does not suffice, until `resets_at`; "
            "`budget_busy` where others hold it, with `retry_after`."
        ),
        parameters=(
            Parameter(
                "Idempotency-Key",
                "Names this reservation: new for each, the same for each try. A UUID will do.",
                Annotated[str, Field(pattern=f"^{KEY_PATTERN.pattern}$")],
                "2f1c8a52-6a0e-4a53-9d6d-0c5b0f6f9d10",
                "header",
                required=True,
            ),
        ),
        body=RequestBody(
            ReservationRequestBody,
            {
                "session_id": SESSION_ID,
                "resources": {"tokens": 8000, "api_calls": 1},
                "lease_seconds": 60,
            },
        ),
        answers=(
            Answer(201, "Held, and stored.", ReservationBody, _EXAMPLE),
            _UNKNOWN_RUN,
            _refused_answer(
                409,
                "It does not fit now (`budget_busy`, with `retry_after` and the header), or until "
                "`resets_at` (`budget_exceeded`); the run has ended (`run_ended`); or the key "
                "names another reservation (`idempotency_key_reused`).",
                ReservationRefusal.BUSY,
                "budget research-month of user=ann: 8,000 of tokens do not fit: 49,990,000 of "
                "50,000,000 used, 8,000 held by others",
                budgets=[f"budget:{BUDGET}{{user=ann}}"],
                retry_after=1.0,
            ),
            _refused_answer(
                429,
                "There are too many, of the run or in all.",
                ReservationRefusal.TOO_MANY,
                "there are too many reservations: commit or release some",
                retry_after=1.0,
            ),
            _NOT_STORED,
        ),
    )
    async def reserve(self, request: Request) -> Response:
        """Hold what is asked for."""
        if self._host.budgets is None:
            raise unavailable(self._host, NOT_READY)
        key = key_from(request.headers.get("idempotency-key"))
        asked = request_from(key, await json_of(request, self._max_body))
        return await self._do(Reserve(uuid.uuid4().hex, asked), HTTPStatus.CREATED)

    @Operation(
        method="POST",
        path="/v1/reservations/{id}/commit",
        id="commitReservation",
        tag=Tag.BUDGETS,
        summary="Say what was used of a reservation",
        description=(
            "The rest is free at once. What was used stays held until a newer sample of the run is "
            "counted. More than was reserved is held in full. The same again is answered alike."
        ),
        parameters=(_RESERVATION,),
        body=RequestBody(CommitBody, {"used": {"tokens": 7150, "api_calls": 1}}),
        answers=(
            Answer(200, "Stored.", ReservationBody, _COMMITTED),
            _UNKNOWN,
            _CONFLICT,
            _NOT_STORED,
        ),
    )
    async def commit(self, request: Request) -> Response:
        """Take what was used."""
        used, ago = use_from(await json_of(request, self._max_body))
        return await self._do(Commit(request.path_params["id"], used, ago))

    @Operation(
        method="POST",
        path="/v1/reservations/{id}/extend",
        id="extendReservation",
        tag=Tag.BUDGETS,
        summary="Let the lease of a reservation go on",
        description="For so many seconds from now on.",
        parameters=(_RESERVATION,),
        body=RequestBody(ExtendBody, {"lease_seconds": 60}),
        answers=(
            Answer(200, "Stored.", ReservationBody, _EXAMPLE),
            _UNKNOWN,
            _CONFLICT,
            _NOT_STORED,
        ),
    )
    async def extend(self, request: Request) -> Response:
        """Extend a lease."""
        lease = extension_from(await json_of(request, self._max_body))
        return await self._do(Extend(request.path_params["id"], lease))

    @Operation(
        method="DELETE",
        path="/v1/reservations/{id}",
        id="releaseReservation",
        tag=Tag.BUDGETS,
        summary="Give a reservation back, of which nothing was used",
        description="One that was given back, or has ended, is answered alike.",
        parameters=(_RESERVATION,),
        answers=(
            Answer(204, "It holds nothing any more."),
            _UNKNOWN,
            _CONFLICT,
            _NOT_STORED,
        ),
    )
    async def release(self, request: Request) -> Response:
        """Give one back."""
        await self._do(Release(request.path_params["id"]))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _do(self, order: Order, status: int = HTTPStatus.OK) -> Response:
        try:
            found = await self._host.reserve(order)
        except ReservationRefusedError as exc:
            raise _problem(exc) from exc
        return Response(json.dumps(_shown(found)), status, NO_STORE, JSON)


def _problem(refused: ReservationRefusedError) -> ProblemError:
    kind = str(refused.refusal)
    members = {"type": kind, "reason": kind, **refused.members}
    if refused.refusal in (ReservationRefusal.TOO_MANY, ReservationRefusal.NOT_STORED):
        members["retry_after"] = 1.0
    after = members.get("retry_after")
    headers = {} if after is None else {"Retry-After": str(max(1, math.ceil(after)))}
    status = _STATUS.get(refused.refusal, HTTPStatus.CONFLICT)
    return ProblemError(status, refused.detail, headers, members)


def _shown(found: Reserved) -> dict[str, Any]:
    hold = found.hold
    return {
        "id": hold.id,
        "session_id": hold.session_id,
        "state": str(hold.state),
        "resources": amounts_json(hold.amounts),
        **({"used": amounts_json(hold.used)} if hold.used else {}),
        "budgets": [claim.budget for claim in hold.claims],
        "remaining_lease_seconds": round(found.lease_left, 3),
    }
