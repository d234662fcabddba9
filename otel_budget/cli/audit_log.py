"""The audit log as the command line asks a sidecar for it: page by page, as decoded entries."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from otel_budget.core import validation
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.sidecar_client.request import AskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.sdk.sidecar_client.request import Asker

#: Entries asked for at once.
PAGE: Final = 500
_MOMENT: Final = "a time ago such as 1h, or a moment such as 2026-01-01T12:00:00Z"


def entries(asker: Asker, query: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    """Yield what the log has of what is asked for, in its order. query: as for GET /v1/audit."""
    after = query.get("after")
    while True:
        asked = {**query, "limit": PAGE, "after": after}
        given = {key: value for key, value in asked.items() if value is not None}
        try:
            page = json.loads(asker.get(f"/v1/audit?{urlencode(given)}"))
            found = page["entries"]
            after = page["next_after"]
            well_formed = all(isinstance(one, dict) and "body" in one for one in found)
        except (ValueError, KeyError, TypeError) as exc:
            raise AskError(f"{asker.url} does not answer like a sidecar: {exc}") from exc
        if not well_formed:
            raise AskError(f"{asker.url} does not answer like a sidecar: an entry without a body")
        yield from found
        if after is None:
            return


def moment(key: str, text: str | None) -> float | None:
    """Return a moment as Unix time. text: how long ago it was, RFC 3339, or Unix seconds."""
    if text is None:
        return None
    try:
        return time.time() - validation.duration(key, text) if _is_ago(text) else _written(text)
    except (ValueError, OverflowError) as exc:
        raise InvalidValueError(key, text, _MOMENT) from exc


def _is_ago(text: str) -> bool:
    """Tell durations from Unix seconds: these are without a unit, and many."""
    return not text.replace(".", "", 1).isdigit() and "-" not in text


def _written(text: str) -> float:
    if "-" not in text:
        return float(text)
    found = datetime.fromisoformat(text)
    return found.timestamp()  # without an offset it is of this machine's zone
