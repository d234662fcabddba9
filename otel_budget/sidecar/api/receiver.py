"""``GET /v1/receiver``: where programs push by OTLP."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from otel_budget.sidecar.api.models import Body
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.route import Answer, Operation, Tag

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from otel_budget.sidecar.api.host import Host

_NONE: Final = "this sidecar has no receiver: give it source.otlp"


class ReceiverBody(Body):
    """Where programs push by OTLP/HTTP."""

    endpoint: str
    """For OTEL_EXPORTER_OTLP_ENDPOINT; /v1/metrics and /v1/logs are below it."""
    token_required: bool
    """True if a bearer token is needed to push."""


class Receiver:
    """Says where to push."""

    def __init__(self, host: Host) -> None:
        """Take the process around it."""
        self._host = host

    @Operation(
        path="/v1/receiver",
        id="getReceiver",
        tag=Tag.OPERATIONS,
        summary="Where programs push by OTLP",
        description=(
            "The address of the sidecar's own OTLP/HTTP receiver, for programs that cannot be "
            "scraped."
        ),
        answers=(
            Answer(
                200,
                "The receiver.",
                ReceiverBody,
                {"endpoint": "http://127.0.0.1:4318", "token_required": False},
            ),
            problem_answer(404, "There is none.", _NONE),
        ),
    )
    async def receiver(self, _request: Request) -> Response:
        """Answer with the address."""
        found = self._host.receiver
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, _NONE)
        body = {"endpoint": found.endpoint, "token_required": found.token_required}
        return json_response(json.dumps(body))
