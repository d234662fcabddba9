"""``POST /v1/budgets/{name}/top-ups``: an operator adds to a shared budget for a time."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import ConfigDict, Field, WithJsonSchema, create_model
from starlette.exceptions import HTTPException
from starlette.responses import Response

from otel_budget.core.budget import WindowKind
from otel_budget.core.quantities import COUNT, MONEY, MONEY_PATTERN, Quantity
from otel_budget.core.resources import COUNTED, RESOURCES
from otel_budget.core.top_up import (
    KEY_PATTERN,
    LONGEST_TOP_UP,
    RESET,
    TopUpRefusal,
    TopUpRefusedError,
    key_from,
    top_up_from,
)
from otel_budget.core.validation import MAX_COUNT
from otel_budget.sidecar.api.budget_body import TOP_UP_EXAMPLE, TopUpBody, top_up_json
from otel_budget.sidecar.api.budgets import (
    BUDGET_PARAMETER,
    NO_BUDGET_ANSWER,
    budget_named,
    group_known,
)
from otel_budget.sidecar.api.connection_limits import client_of
from otel_budget.sidecar.api.health import NOT_READY, unavailable
from otel_budget.sidecar.api.models import ABSENT, RequestObject
from otel_budget.sidecar.api.overrides import OperatorName, OperatorReason
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import NO_STORE
from otel_budget.sidecar.api.request_body import json_of
from otel_budget.sidecar.api.route import (
    JSON,
    Access,
    Answer,
    Operation,
    Parameter,
    RequestBody,
    Tag,
)

if TYPE_CHECKING:
    from starlette.requests import Request

    from otel_budget.sidecar.api.host import Host

_STATUS: Final = {
    TopUpRefusal.UNKNOWN_BUDGET: HTTPStatus.NOT_FOUND,
    TopUpRefusal.UNKNOWN_GROUP: HTTPStatus.NOT_FOUND,
    TopUpRefusal.KEY_REUSED: HTTPStatus.CONFLICT,
    TopUpRefusal.NOT_STORED: HTTPStatus.SERVICE_UNAVAILABLE,
}
_AMOUNT: Final[dict[Quantity, Any]] = {
    COUNT: Annotated[int, Field(gt=0, le=MAX_COUNT)],
    MONEY: Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "pattern": f"^{MONEY_PATTERN.pattern}$",
                "not": {"pattern": "^[0.]*$"},
            }
        ),
    ]
    | Annotated[float, Field(gt=0, le=MAX_COUNT)],
}


class _Amounts(RequestObject):
    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "allOf": [{"not": {"required": [n, RESOURCES[n].limit_key]}} for n in COUNTED],
        }
    )


_FIELDS: Final[dict[str, Any]] = {
    name: (_AMOUNT[RESOURCES[resource].quantity], ABSENT)
    for resource in COUNTED
    for name in (resource, RESOURCES[resource].limit_key)
}
#: Its keys are the resources that a budget may limit, and what their limits are called.
TopUpAmounts = create_model(
    "TopUpAmounts",
    __base__=_Amounts,
    __doc__=(
        "At least one of what the budget limits, each above 0: by resource, or by what its limit "
        "is called. Money is US dollars."
    ),
    __module__=__name__,
    **_FIELDS,
)


class TopUpRequestBody(RequestObject):
    """An addition to a budget."""

    group: dict[str, str] | str = ABSENT
    """For which group, as in verdicts or as in `limit_from`; needed where the budget has `per`."""
    amounts: TopUpAmounts  # type: ignore[valid-type] # made of the resources there are
    """How much is added."""
    reason: OperatorReason
    """One line for people; the history and the log show it."""
    by: OperatorName = ABSENT
    """Who asks; any name."""
    until: Annotated[float, Field(gt=0, le=LONGEST_TOP_UP)] | str = ABSENT
    """When it ends: `reset` (with the present window; refused where that has no end, the default
    elsewhere), after a duration such as `2h` or seconds, or at a time with its offset; 400 days
    at most."""


class TopUps:
    """Gives top-ups."""

    def __init__(self, host: Host, max_body: int) -> None:
        """Take the process around. max_body: bytes of a request's body."""
        self._host, self._max_body = host, max_body

    @Operation(
        method="POST",
        path="/v1/budgets/{name}/top-ups",
        id="topUpBudget",
        tag=Tag.BUDGETS,
        summary="Add to a shared budget for a time",
        description=(
            "The addition counts beside the configured limit, at once for all its runs, and ends "
            "by itself. A second try with the same Idempotency-Key and body is answered alike and "
            "adds nothing, also after a restart of the sidecar."
        ),
        access=Access.ADMIN,
        parameters=(
            BUDGET_PARAMETER,
            Parameter(
                "Idempotency-Key",
                "Names this top-up: new for each, the same for each try. A UUID will do.",
                Annotated[str, Field(pattern=f"^{KEY_PATTERN.pattern}$")],
                TOP_UP_EXAMPLE["key"],
                "header",
                required=True,
            ),
        ),
        body=RequestBody(
            TopUpRequestBody,
            {
                "group": {"user": "ann"},
                "amounts": {"max_tokens": 5000000},
                "reason": "the release is late",
                "by": "bob",
                "until": RESET,
            },
        ),
        answers=(
            Answer(201, "Stored and in force.", TopUpBody, TOP_UP_EXAMPLE),
            NO_BUDGET_ANSWER,
            problem_answer(
                409,
                "The key stands for a top-up with another body.",
                "the Idempotency-Key names another top-up: take a new one for each",
            ),
            problem_answer(
                503,
                "The top-up could not be stored, so it is not in force; or nothing is known yet.",
                "the top-up could not be stored and is not in force: the log says why",
            ),
        ),
    )
    async def top_up(self, request: Request) -> Response:
        """Give a top-up, or answer as when it was given."""
        reports = self._host.budgets
        if reports is None:
            raise unavailable(self._host, NOT_READY)
        report = budget_named(request.path_params["name"], reports)
        key = key_from(request.headers.get("idempotency-key"))
        data = await json_of(request, self._max_body)
        asked = top_up_from(report.budget, key, data, self._host.now())
        if report.budget.window.kind is not WindowKind.RUN:  # of those no group is listed
            group_known(report, [asked.group])
        try:
            given = await self._host.top_up(asked, client_of(request))
        except TopUpRefusedError as exc:
            raise HTTPException(_STATUS[exc.refusal], str(exc)) from exc
        text = json.dumps(top_up_json(report.budget, given))
        return Response(text, HTTPStatus.CREATED, NO_STORE, JSON)
