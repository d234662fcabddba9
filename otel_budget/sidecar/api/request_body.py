"""What comes with a request, within bounds: JSON, or another type that is asked for."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.route import JSON

if TYPE_CHECKING:
    from starlette.requests import Request


#: What every operation with a body may answer, and those that mind its content type.
TOO_LARGE: Final = problem_answer(
    413, "The body is too large.", "the body is larger than 65,536 bytes"
)
ANSWERS: Final = (
    TOO_LARGE,
    problem_answer(
        415,
        "The body is of another type.",
        "content type 'text/plain': send the body as application/json",
    ),
)


async def json_of(request: Request, limit: int) -> object:
    """Return the JSON in a body of application/json. limit: bytes.

    Raises HTTPException for another type and for a longer body, InvalidValueError for what is not
    JSON.
    """
    body = await body_of(request, limit, JSON)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        shown = body[:100].decode("utf-8", "replace")
        raise InvalidValueError("body", shown, "one JSON object") from exc


async def body_of(request: Request, limit: int, wanted: str) -> bytes:
    """Return a body. limit: bytes. wanted: its media type.

    Raises HTTPException for another type and for a longer body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != wanted:
        detail = f"content type {kind[:100]!r}: send the body as {wanted}"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            detail = f"the body is larger than {limit:,} bytes"
            headers = {"Connection": "close"}
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers)
    return body
