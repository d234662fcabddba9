"""``/v1/audit``: what happened and why, as the log in the storage has it."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field
from starlette.exceptions import HTTPException

from otel_budget.core import validation
from otel_budget.core.audit import MOST_ENTRIES, AuditKind, AuditQuery
from otel_budget.core.json_fields import Fields
from otel_budget.core.validation import MAX_COUNT
from otel_budget.errors import InvalidValueError
from otel_budget.logs.text import one_line
from otel_budget.sidecar.api.budget_body import NAME_PATTERN, Name
from otel_budget.sidecar.api.models import ABSENT, Body, SessionId, one_of
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.route import Answer, Operation, Parameter, Tag
from otel_budget.sidecar.api.verdict_body import SESSION_ID
from otel_budget.sidecar.api.verdicts import DEFAULT_LIMIT, number
from otel_budget.sidecar.storage.base import StorageError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from otel_budget.sidecar.api.host import Host

OLDEST, NEWEST = "oldest", "newest"
_MOMENT: Final = "2026-01-01T12:00:00Z"
_ENTRY_EXAMPLE: Final[dict[str, Any]] = {
    "number": 17,
    "at": "2026-01-01T12:00:00.131Z",
    "kind": str(AuditKind.ORDER),
    "session_id": SESSION_ID,
    "run_started_at": 1767268800.25,
    "budget": None,
    "body": {
        "event": "stop",
        "reason": "runs in circles",
        "by": "ann",
        "until": None,
        "limits": {},
    },
}


class AuditEntryBody(Body):
    """One thing that happened."""

    number: Annotated[int, Field(ge=1)]
    """Its place in the log. Numbers only grow; where entries were lost, some are left out."""
    at: datetime
    kind: Annotated[str, one_of(*AuditKind)]
    session_id: str | None
    """The run that it is about, if it is about one."""
    run_started_at: float | None
    """When that run began, in Unix seconds; null where it is not known."""
    budget: str | None
    """Name of the budget that it is about, or that decided a verdict."""
    body: dict[str, Any]
    """What happened, by kind: docs/audit.md has the members. Accept those that you do not know."""


class AuditPageBody(Body):
    """Some entries of the log."""

    entries: list[AuditEntryBody]
    next_after: int | None
    """Pass it as `after` to get the next page; null on the last one."""
    begins: int | None
    """Number of the oldest entry that the log still has; null if it is empty."""
    unreadable: int = ABSENT
    """How many entries are left out of this page as they are damaged."""


class Audit:
    """Answers with entries of the log."""

    def __init__(self, host: Host) -> None:
        """Take the process around."""
        self._host = host

    @Operation(
        path="/v1/audit",
        id="listAudit",
        tag=Tag.OPERATIONS,
        summary="What happened and why: verdicts, orders, top-ups, configurations",
        description=(
            "Entries of the audit log, in pages of up to 1,000. All that is asked for has to hold "
            "for an entry."
        ),
        parameters=(
            Parameter(
                "since", "Entries from this moment on: RFC 3339, or Unix seconds.", str, _MOMENT
            ),
            Parameter(
                "until", "Entries before this moment: RFC 3339, or Unix seconds.", str, _MOMENT
            ),
            Parameter("session", "Entries about this run.", SessionId, SESSION_ID),
            Parameter("budget", "Entries about this budget.", Name, "research-month"),
            Parameter("kind", "Entries of this kind.", Annotated[str, one_of(*AuditKind)], "order"),
            Parameter(
                "limit",
                "How many entries to put on a page.",
                Annotated[
                    int, Field(ge=1, le=MOST_ENTRIES, json_schema_extra={"default": DEFAULT_LIMIT})
                ],
                DEFAULT_LIMIT,
            ),
            Parameter(
                "after",
                "Entries behind this number, in the order asked for.",
                Annotated[int, Field(ge=0)],
                17,
            ),
            Parameter("order", "Which come first.", Annotated[str, one_of(OLDEST, NEWEST)], NEWEST),
        ),
        answers=(
            Answer(
                200,
                "One page of the log.",
                AuditPageBody,
                {"entries": [_ENTRY_EXAMPLE], "next_after": None, "begins": 1, "unreadable": 0},
            ),
            problem_answer(
                503,
                "The storage cannot be read just now.",
                "the audit log cannot be read just now: the log says why",
            ),
        ),
    )
    async def page(self, request: Request) -> Response:
        """Answer with one page."""
        query = _query(request)
        try:
            page = await self._host.audit_log(query)
        except StorageError as exc:
            detail = f"the audit log cannot be read just now: {one_line(str(exc))}"
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, detail) from exc
        rest = json.dumps(
            {"next_after": page.next_after, "begins": page.begins, "unreadable": page.unreadable}
        )
        return json_response(f'{{"entries":[{",".join(page.lines)}],{rest[1:]}')


def _query(request: Request) -> AuditQuery:
    """Return what a request asks for. Raises InvalidValueError."""
    given = request.query_params
    session, budget, after = given.get("session"), given.get("budget"), given.get("after")
    if budget is not None and re.match(NAME_PATTERN, budget) is None:
        raise InvalidValueError("budget", budget, "the name of a budget")
    return AuditQuery(
        since=_moment("since", given.get("since")),
        until=_moment("until", given.get("until")),
        session_id="" if session is None else validation.session_id(session),
        budget=budget or "",
        kind=None
        if given.get("kind") is None
        else Fields("", dict(given)).one_of(AuditKind, "kind"),
        after=None if after is None else number("after", after, 0, MAX_COUNT),
        newest=_order(given.get("order", OLDEST)),
        limit=number("limit", given.get("limit", str(DEFAULT_LIMIT)), 1, MOST_ENTRIES),
    )


def _order(text: str) -> bool:
    if text not in (OLDEST, NEWEST):
        raise InvalidValueError("order", text, f"{OLDEST} or {NEWEST}")
    return text == NEWEST


def _moment(key: str, text: str | None) -> float | None:
    """Return a moment as Unix time."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            allowed = f"a moment with its offset such as {_MOMENT}, or Unix seconds"
            raise InvalidValueError(key, text, allowed) from None
        seconds = moment.timestamp()
    if not math.isfinite(seconds):
        raise InvalidValueError(key, text, "a moment")
    return seconds
