"""Every error of the HTTP API in one shape: application/problem+json, RFC 9457."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic import ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response

from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api.models import Body
from otel_budget.sidecar.api.rendered import NO_STORE
from otel_budget.sidecar.api.route import Answer

if TYPE_CHECKING:
    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"


class ProblemBody(Body):
    """An error, as in RFC 9457."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "additionalProperties": {
                "description": "For a verdict that has outlived its lease, the members of Expired."
            }
        },
    )

    type: str
    title: str
    status: int
    detail: str
    """One sentence for people: what is wrong, and what to do about it."""


RETRY_AFTER: Final[Mapping[str, Any]] = {
    "schema": {"type": "integer"},
    "description": "Seconds.",
    "example": 10,
}


class ProblemError(HTTPException):
    """An HTTPException whose problem has members beside the sentence for people."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str], members: Mapping[str, object]
    ) -> None:
        """Keep the fields."""
        self.members = members
        super().__init__(status, detail, dict(headers))


def problem(
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, object] | None = None,
) -> Response:
    """Return an error response. detail: one sentence for people that says what to do."""
    headers = {**NO_STORE, **(headers or {})}
    said = {**body(status, detail), **(members or {})}
    return Response(json.dumps(said), status, headers, MEDIA_TYPE)


def body(status: int, detail: str) -> dict[str, str | int]:
    """Return the body of an error response as JSON types."""
    return {
        "type": "about:blank",  # the status says it all; RFC 9457, section 4.2.1
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }


def problem_answer(
    status: int, description: str, detail: str, *, retry_after: bool = False
) -> Answer:
    """Describe an error. detail: an example of it. retry_after: it has a header that says when."""
    headers = {"Retry-After": RETRY_AFTER} if retry_after else {}
    return Answer(status, description, ProblemBody, body(status, detail), MEDIA_TYPE, headers)


async def refused(_request: Request, error: Exception) -> Response:
    """Answer a value that is not allowed; the message names it and says what is allowed."""
    return problem(HTTPStatus.BAD_REQUEST, str(error))


async def failed(request: Request, error: Exception) -> Response:
    """Answer an HTTPException: ours, or the router's for an unknown path or method."""
    if not isinstance(error, HTTPException):
        return await broken(request, error)
    detail = error.detail
    if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is nothing at {request.url.path}: /openapi.json lists what there is"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.url.path} does not take {request.method}"
    members = error.members if isinstance(error, ProblemError) else None
    return problem(error.status_code, detail, error.headers, members)


async def broken(_request: Request, _error: Exception) -> Response:
    """Answer a defect of the sidecar; the traceback is in the log, not in the answer."""
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "the sidecar failed to answer; its log says why"
    )


HANDLERS = {InvalidValueError: refused, HTTPException: failed, Exception: broken}
