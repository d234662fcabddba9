"""The JSON object that comes with a request, within bounds."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from starlette.requests import Request


async def json_of(request: Request, most: int) -> object:
    """Return what is in a body of application/json. most: bytes.

    Raises HTTPException for another type and for more bytes, InvalidValueError for no JSON.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        detail = f"content type {kind[:100]!r}: send the body as application/json"
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            detail = f"the body is larger than {most:,} bytes"
            headers = {"Connection": "close"}
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        shown = body[:100].decode("utf-8", "replace")
        raise InvalidValueError("body", shown, "one JSON object") from exc
