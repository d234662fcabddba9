"""``/v1/verdicts``: the current verdict of one run, or of many in pages."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field
from starlette.exceptions import HTTPException

from otel_budget.core import validation, verdict_json
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api.health import NOT_READY, NOT_READY_ANSWER, unavailable
from otel_budget.sidecar.api.models import ABSENT, MAX_NAMED, Body, SessionId, SessionIds
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.route import Answer, Operation, Parameter, Tag
from otel_budget.sidecar.api.verdict_body import (
    SESSION_ID,
    VERDICT_EXAMPLE,
    ExpiredBody,
    VerdictBody,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from otel_budget.core.verdict import Verdict
    from otel_budget.sidecar.api.broadcaster import PublishedVerdict, VerdictBroadcaster
    from otel_budget.sidecar.api.host import Host

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
_DIGITS: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_EXPIRED: Final = (
    "the last verdict on the run {!r} is older than its lease of {:g} s: the run has not been "
    "judged since; the log and /metrics say why"
)
#: The run that a path names.
SESSION_PARAMETER: Final = Parameter(
    "session_id", "The run's id.", SessionId, SESSION_ID, "path", required=True
)
NO_RUN_ANSWER: Final = problem_answer(
    404,
    "No run with this id is known, or it ended some time ago.",
    f"no run '{SESSION_ID}' is known here",
)


class VerdictPageBody(Body):
    """Some of the runs, in the order of their ids."""

    verdicts: list[VerdictBody]
    expired: list[ExpiredBody]
    """Runs on this page whose verdict has outlived its lease, whatever `status` was asked for."""
    unknown: list[SessionId] = ABSENT
    """Runs named with `session_id` that are not known here; absent if none were named."""
    next_cursor: str | None
    """Pass it as `cursor` to get the next page; null on the last page."""


class Verdicts:
    """Answers with verdicts as the broadcaster has rendered them."""

    def __init__(self, broadcaster: VerdictBroadcaster, host: Host) -> None:
        """Take the parts."""
        self._broadcaster, self._host = broadcaster, host

    @Operation(
        path="/v1/verdicts",
        id="listVerdicts",
        tag=Tag.VERDICTS,
        summary="The current verdicts of all runs, sorted by session id",
        description="In pages of up to 1,000; a run that ended stays listed for 10 minutes.",
        parameters=(
            Parameter(
                "limit",
                "How many verdicts to put on a page.",
                Annotated[
                    int, Field(ge=1, le=MAX_LIMIT, json_schema_extra={"default": DEFAULT_LIMIT})
                ],
                DEFAULT_LIMIT,
            ),
            Parameter("cursor", "The next_cursor of the previous page.", SessionId, SESSION_ID),
            Parameter("status", "Only runs with this status.", LimitStatus, "exceeded"),
            Parameter(
                "session_id",
                "Only these runs, on one page; those that are not known are in `unknown`.",
                SessionIds,
                [SESSION_ID],
            ),
        ),
        answers=(
            Answer(
                200,
                "One page of verdicts.",
                VerdictPageBody,
                {"verdicts": [VERDICT_EXAMPLE], "expired": [], "next_cursor": None},
            ),
            NOT_READY_ANSWER,
        ),
    )
    async def page(self, request: Request) -> Response:
        """Answer with one page."""
        query = request.query_params
        limit = number("limit", query.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT)
        cursor = query.get("cursor")
        after = "" if cursor is None else _cursor(cursor)
        status = _status(query.get("status"))
        named = [validation.session_id(one) for one in query.getlist("session_id")]
        if named:
            return self._named(named)
        if not self._host.ready:
            raise unavailable(self._host, NOT_READY)
        found, following = self._broadcaster.page(limit=limit, after=after, status=status)
        return self._page(found, {"next_cursor": following})

    @Operation(
        path="/v1/verdicts/{session_id}",
        id="getVerdict",
        tag=Tag.VERDICTS,
        summary="The current verdict of one run",
        description="A program that only needs to know whether to go on reads `action`.",
        parameters=(SESSION_PARAMETER,),
        answers=(
            Answer(200, "The run's current verdict.", VerdictBody, VERDICT_EXAMPLE),
            NO_RUN_ANSWER,
            NOT_READY_ANSWER,
        ),
    )
    async def verdict(self, request: Request) -> Response:
        """Answer with one verdict."""
        session_id = validation.session_id(request.path_params["session_id"])
        published = self._broadcaster.get(session_id)
        if published is not None:
            text = self._broadcaster.json_of(published)
            if text is None:
                verdict = published.verdict
                why = _EXPIRED.format(session_id, verdict.lease_seconds or 0.0)
                raise unavailable(self._host, why, expired(verdict))
            return json_response(text)
        # Before the first reading, an unknown run cannot be told from one that was not read yet.
        # What is known from before a restart is answered above: exceeded stays exceeded.
        if not self._host.ready:
            raise unavailable(self._host, NOT_READY)
        raise HTTPException(HTTPStatus.NOT_FOUND, f"no run {session_id!r} is known here")

    def _named(self, named: list[str]) -> Response:
        """Answer with the verdicts of some runs, known or not: for clients that cannot stream."""
        if len(named) > MAX_NAMED:
            raise InvalidValueError("session_id", f"{len(named)} of them", f"up to {MAX_NAMED}")
        found = {one: self._broadcaster.get(one) for one in named}
        unknown = [one for one, published in found.items() if published is None]
        known = [published for published in found.values() if published is not None]
        return self._page(known, {"next_cursor": None, "unknown": unknown})

    def _page(self, found: list[PublishedVerdict], more: dict[str, object]) -> Response:
        texts, outlived = [], []
        for published in found:
            text = self._broadcaster.json_of(published)
            if text is None:  # left out, the run would seem not to exist
                outlived.append(expired(published.verdict))
            else:
                texts.append(text)
        rest = json.dumps({"expired": outlived, **more})
        return json_response(f'{{"verdicts":[{",".join(texts)}],{rest[1:]}')


def expired(verdict: Verdict) -> dict[str, Any]:
    """Return what is known of a run whose verdict has outlived its lease, as JSON types."""
    return {
        "session_id": verdict.session_id,
        "last_action": str(verdict.action),
        "last_reason": str(verdict.reason),
        "evaluated_at": verdict_json.timestamp(verdict.evaluated_at),
        "valid_until": verdict_json.timestamp(
            verdict.evaluated_at + (verdict.lease_seconds or 0.0)
        ),
    }


def verdict_members(broadcaster: VerdictBroadcaster, session_id: str) -> str:
    """Return the members of a JSON object that hold a run's current verdict."""
    published = broadcaster.get(session_id)
    if published is None:
        return '"verdict":null'
    text = broadcaster.json_of(published)
    if text is None:
        return f'"verdict":null,"expired":{json.dumps(expired(published.verdict))}'
    return f'"verdict":{text}'


def number(key: str, text: str, lowest: int, highest: int) -> int:
    """Return a whole number in a query. Raises InvalidValueError."""
    if _DIGITS.fullmatch(text) is None or not lowest <= int(text) <= highest:
        raise InvalidValueError(key, text, f"a whole number from {lowest} to {highest}")
    return int(text)


def _cursor(text: str) -> str:
    if validation.SESSION_ID_PATTERN.fullmatch(text) is None:
        raise InvalidValueError("cursor", text, "the next_cursor of the previous page")
    return text


def _status(text: str | None) -> LimitStatus | None:
    if text is None:
        return None
    try:
        return LimitStatus(text)
    except ValueError as exc:
        raise InvalidValueError("status", text, ", ".join(LimitStatus)) from exc
