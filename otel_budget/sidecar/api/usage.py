"""``GET /v1/usage``: what the runs of each user, team or other owner used."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from otel_budget import semconv
from otel_budget.core import validation
from otel_budget.core.resources import COUNTED
from otel_budget.sidecar.api.budget_body import amounts_json
from otel_budget.sidecar.api.health import NOT_READY, NOT_READY_ANSWER, unavailable
from otel_budget.sidecar.api.models import ABSENT, Amount, Body
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.route import Answer, Operation, Parameter, Tag

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from otel_budget.ledger.owner_use import OwnerUse
    from otel_budget.sidecar.api.host import Host

#: Owners in one answer.
MAX_OWNERS: Final = 1000


class OwnerUseBody(Body):
    """What the runs of one owner used."""

    value: str
    """Of the label; empty for runs without it."""
    runs: int
    over: int
    """Of these, the runs that said that they are over."""
    stopped: int
    """Of the others, those that were told to stop."""
    used: Annotated[
        dict[str, Amount],
        Field(description=f"By resource: {', '.join(COUNTED)}. Absent where no run says it."),
    ]
    at_least: list[str]
    """The resources of which a part is not known."""


class UsageBody(Body):
    """What the runs used that the sidecar knows now, by one of their labels."""

    by: str
    owners: list[OwnerUseBody]
    """Who used most tokens first; at most 1,000."""
    left_off: int = ABSENT
    """Owners that used less, and are not in this answer; absent if there are none."""


class Usage:
    """Answers with the use of runs by owner."""

    def __init__(self, host: Host) -> None:
        """Take the process around."""
        self._host = host

    @Operation(
        path="/v1/usage",
        id="getUsage",
        tag=Tag.SESSIONS,
        summary="What runs used, by user, team or another label",
        description=(
            "Of the runs that are known now; one that ended is forgotten after some time. What was "
            "used over longer times is in the budgets."
        ),
        parameters=(
            Parameter(
                "by",
                "A label of runs: workflow, team, project, user, agent, or one of scope_labels.",
                str,
                "user",
                required=True,
            ),
        ),
        answers=(
            Answer(
                200,
                "The use by owner.",
                UsageBody,
                {
                    "by": "user",
                    "owners": [
                        {
                            "value": "ann",
                            "runs": 3,
                            "over": 1,
                            "stopped": 0,
                            "used": {semconv.TOKENS: 1250000, semconv.COST: "3.75"},
                            "at_least": [],
                        }
                    ],
                },
            ),
            NOT_READY_ANSWER,
        ),
    )
    async def usage(self, request: Request) -> Response:
        """Answer with what each owner's runs used."""
        label = validation.choice("by", request.query_params.get("by"), self._host.details.labels)
        if not self._host.ready:
            raise unavailable(self._host, NOT_READY)
        owners = await self._host.use_by(label)
        said: dict[str, Any] = {
            "by": label,
            "owners": [owner_json(one) for one in islice(owners, MAX_OWNERS)],
        }
        if len(owners) > MAX_OWNERS:
            said["left_off"] = len(owners) - MAX_OWNERS
        return json_response(json.dumps(said))


def owner_json(use: OwnerUse) -> dict[str, Any]:
    """Return the use of one owner as JSON types."""
    return {
        "value": use.value,
        "runs": use.runs,
        "over": use.over,
        "stopped": use.stopped,
        "used": amounts_json(use.used),
        "at_least": sorted(use.at_least),
    }
