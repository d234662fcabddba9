"""What was used in windows of a budget that are over, as the API shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from otel_budget import semconv
from otel_budget.core import budget_json
from otel_budget.core.budget import OTHER, Budget, Window, WindowKind
from otel_budget.sidecar.api.budget_body import Labels, ResourceAmounts, amounts_json
from otel_budget.sidecar.api.health import unavailable
from otel_budget.sidecar.api.models import Body
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.route import Parameter
from otel_budget.sidecar.api.verdicts import number
from otel_budget.sidecar.storage.base import StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from starlette.requests import Request

    from otel_budget.core.budget import Group
    from otel_budget.ledger.book_values import ClosedWindow
    from otel_budget.sidecar.api.host import Host

MAX_WINDOWS: Final = 1000
_NOT_READ: Final = "the history could not be read from the storage: the log says why"
NOT_READ_ANSWER: Final = problem_answer(
    503, "The storage cannot be read, or nothing is known yet.", _NOT_READ, retry_after=True
)


class ClosedWindowBody(Body):
    """What a group used in a window that is over."""

    group: Labels
    """As in verdicts, by the labels of then."""
    start: datetime | None
    end: datetime | None
    used: ResourceAmounts
    limits: ResourceAmounts
    """In force when it closed; empty if that is not known."""
    carried: ResourceAmounts
    """Carried into it from the window before."""
    counted_from: datetime | None
    """Since when use was counted."""
    at_least: bool
    """True if part of the use is lost."""


CLOSED_EXAMPLE: Final[dict[str, Any]] = {
    "group": {"user": "ann"},
    "start": "2025-12-01T00:00:00.000+01:00",
    "end": "2026-01-01T00:00:00.000+01:00",
    "used": {semconv.TOKENS: 48000000},
    "limits": {semconv.TOKENS: 50000000},
    "carried": {},
    "counted_from": "2025-11-03T10:12:00.000+01:00",
    "at_least": False,
}


class ClosedWindowsBody(Body):
    """Windows of a budget that are over, the newest first."""

    windows: list[ClosedWindowBody]


async def closed_windows(
    host: Host, budget: Budget | str, groups: Sequence[Group], most: int
) -> list[dict[str, Any]]:
    """Return windows that are over as JSON types, the newest first.

    budget: one that is configured, or the name of another. Raises HTTPException.
    """
    name, tz = (budget, UTC) if isinstance(budget, str) else (budget.name, budget.window.tz)
    try:
        found = await host.closed_windows(name, groups, most)
    except StorageError as exc:
        raise unavailable(host, _NOT_READ) from exc
    return [_closed(one, tz) for one in found]


def budget_of_then(name: str, text: str | None) -> Budget:
    """Return a budget that is not configured any more, by the labels of a group's text."""
    labels = [part.partition("=")[0] for part in (text or "").split(",") if part]
    per = ("any",) if text == OTHER else tuple(labels)
    return Budget(name, Window(WindowKind.TOTAL), {}, per=per)


def windows_parameter(name: str, description: str, default: int) -> Parameter:
    """Return the parameter that says how many windows are wanted."""
    kind = Annotated[int, Field(ge=0, le=MAX_WINDOWS, json_schema_extra={"default": default})]
    return Parameter(name, description, kind, default)


def windows_wanted(request: Request, name: str, default: int) -> int:
    """Return how many windows are wanted. Raises InvalidValueError."""
    return number(name, request.query_params.get(name, str(default)), 0, MAX_WINDOWS)


def _closed(window: ClosedWindow, tz: tzinfo) -> dict[str, Any]:
    labels = (
        {OTHER: "true"}
        if window.group is None
        else dict(zip(window.per, window.group, strict=False))
    )
    return {
        "group": labels,
        "start": budget_json.local_time(window.start, tz),
        "end": budget_json.local_time(window.end, tz),
        "used": amounts_json(window.used),
        "limits": amounts_json(window.limits),
        "carried": amounts_json(window.carried),
        "counted_from": budget_json.local_time(window.counted_from, tz),
        "at_least": window.at_least,
    }
