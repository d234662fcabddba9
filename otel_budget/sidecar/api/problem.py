"""Every error of the HTTP API in one shape: application/problem+json, RFC 9457."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

MEDIA_TYPE = "application/problem+json"


class ProblemError(HTTPException):
    """An HTTPException with more members of its problem than a sentence for people."""

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
    headers = {"Cache-Control": "no-store", **(headers or {})}
    said = {**body(status, detail), **(members or {})}
    return Response(json.dumps(said), status, headers, MEDIA_TYPE)


def body(status: int, detail: str) -> dict[str, str | int]:
    """Return what an error response says, as JSON types."""
    return {
        "type": "about:blank",  # the status says it all; RFC 9457, section 4.2.1
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }


async def refused(_request: Request, error: Exception) -> Response:
    """Answer a value that is not allowed; its message names it and what is."""
    return problem(HTTPStatus.BAD_REQUEST, str(error))


async def failed(request: Request, error: Exception) -> Response:
    """Answer an HTTPException: ours, or the router's for an unknown path or method."""
    if not isinstance(error, HTTPException):
        return await broken(request, error)
    detail = error.detail
    if error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is nothing at {request.url.path}; what there is: /openapi.json"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not possible at {request.url.path}"
    members = error.members if isinstance(error, ProblemError) else None
    return problem(error.status_code, detail, error.headers, members)


async def broken(_request: Request, _error: Exception) -> Response:
    """Answer a defect of ours; the traceback is in the log, not in the answer."""
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "the sidecar failed to answer; its log says why"
    )


HANDLERS = {InvalidValueError: refused, HTTPException: failed, Exception: broken}
