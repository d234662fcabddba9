"""Answers that are rendered already, and what every answer's headers say."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from otel_budget.sidecar.api.route import JSON

#: What is true of a run now may not be a second later.
NO_STORE: Final = {"Cache-Control": "no-store"}


def json_response(text: str) -> Response:
    """Return an answer with a JSON text as its body."""
    return Response(text, headers=NO_STORE, media_type=JSON)
