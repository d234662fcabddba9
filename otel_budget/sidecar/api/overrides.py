"""What an operator may order over HTTP, with the admin token, and what was ordered before."""

from __future__ import annotations

import json
from decimal import Decimal
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from otel_budget.core import validation, verdict_json
from otel_budget.core.override import (
    Override,
    OverrideKind,
    OverrideRefusedError,
    Overrides,
    Refusal,
    override_from,
)
from otel_budget.core.resources import RESOURCES
from otel_budget.sidecar.api.auth import Role, unauthorized
from otel_budget.sidecar.api.request_body import json_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.requests import Request

    from otel_budget.core.verdict import Verdict
    from otel_budget.policy.override_effect import Effect
    from otel_budget.sidecar.api.auth import Gate

T = TypeVar("T")

MAX_ACTIONS = 100
_NO_ADMIN = (
    "operators cannot act here: there is no admin token; give the sidecar one with "
    "listen.admin_token_file"
)
_STATUS: Final = {
    Refusal.UNKNOWN_RUN: HTTPStatus.NOT_FOUND,
    Refusal.RUN_ENDED: HTTPStatus.CONFLICT,
    Refusal.NOT_STORED: HTTPStatus.SERVICE_UNAVAILABLE,
}
_ONLY_READS = "this token may only read; to act send the admin token"


class Operations(Protocol):
    """What the process does for an operator."""

    def now(self) -> float:
        """Return the Unix time by the clock that orders are held against."""

    async def order(self, session_id: str, order: Override, client: str) -> tuple[Verdict, Effect]:
        """Give an order to a run and return its verdict since, once both are stored, and what the
        order changed.

        client: address it came from. Raises OverrideRefusedError; any other error means that it
        could not be stored, and does not hold.
        """

    async def orders(self, session_id: str, most: int) -> tuple[Overrides, Sequence[Override]]:
        """Return what holds for a run, and the newest orders it was given. See ``order``."""


class OverrideRoutes:
    """The endpoints below ``/v1/sessions``."""

    def __init__(
        self,
        operations: Operations,
        gate: Gate,
        known_of: Callable[[str], str],
        max_body: int,
    ) -> None:
        """Take the parts. known_of: returns the members of a JSON object with a run's verdict.

        max_body: bytes.
        """
        self._operations, self._gate = operations, gate
        self._known_of, self._max_body = known_of, max_body

    def routes(self) -> list[Route]:
        """Return the routes."""
        path = "/v1/sessions/{session_id}"
        return [
            Route(path, self.session),
            *(
                Route(f"{path}/{kind}", self._acting(kind), methods=["POST"])
                for kind in OverrideKind
            ),
        ]

    async def session(self, request: Request) -> Response:
        """Answer with a run's verdict and its orders."""
        session_id = validation.session_id(request.path_params["session_id"])
        orders, given = await self._asked(self._operations.orders(session_id, MAX_ACTIONS))
        known = {
            "stop": orders.stop and order_json(orders.stop),
            "limits": orders.limits and order_json(orders.limits),
            "orders": [order_json(order) for order in given],
        }
        return _json(f"{{{self._known_of(session_id)},{json.dumps(known)[1:]}")

    def _acting(self, kind: OverrideKind) -> Callable[[Request], Any]:
        async def act(request: Request) -> Response:
            if not self._gate.can_act:
                raise HTTPException(HTTPStatus.FORBIDDEN, _NO_ADMIN)
            client = request.client.host if request.client else ""
            if request.state.role is not Role.ADMIN:
                self._gate.on_refused("token", client)
                if "authorization" not in request.headers:
                    return unauthorized(given=False)
                raise HTTPException(HTTPStatus.FORBIDDEN, _ONLY_READS)
            session_id = validation.session_id(request.path_params["session_id"])
            order = override_from(
                kind, await json_of(request, self._max_body), self._operations.now()
            )
            verdict, effect = await self._asked(self._operations.order(session_id, order, client))
            came_of_it = json.dumps({"changes": effect.changes, "notes": effect.notes})
            return _json(f"{verdict_json.to_json(verdict)[:-1]},{came_of_it[1:]}")

        return act

    @staticmethod
    async def _asked(answer: Awaitable[T]) -> T:
        try:
            return await answer
        except OverrideRefusedError as exc:
            raise HTTPException(_STATUS[exc.refusal], str(exc)) from exc


def order_json(order: Override) -> dict[str, Any]:
    """Return an order as it was given, with times in RFC 3339."""
    limits = {RESOURCES[res].limit_key: _plain(limit) for res, limit in order.limits.items()}
    return {
        "kind": str(order.kind),
        "reason": order.reason,
        "by": order.by,
        "at": verdict_json.timestamp(order.at),
        "until": None if order.until is None else verdict_json.timestamp(order.until),
        "limits": limits,
    }


def _plain(limit: object) -> object:
    return str(limit) if isinstance(limit, Decimal) else limit


def _json(text: str) -> Response:
    return Response(text, headers={"Cache-Control": "no-store"}, media_type="application/json")
