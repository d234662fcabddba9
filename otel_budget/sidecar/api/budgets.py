"""``/v1/budgets``: how the budgets stand that runs share, by group, and windows that are over."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field
from starlette.exceptions import HTTPException

from otel_budget.core.budget import NONE
from otel_budget.core.budget_text import group_from_text
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api.budget_body import (
    BUDGET,
    DEFINITION_EXAMPLE,
    GROUP_EXAMPLE,
    NAME_PATTERN,
    BudgetBody,
    Name,
    definition,
    group_members,
    no_group,
)
from otel_budget.sidecar.api.budget_windows import (
    CLOSED_EXAMPLE,
    NOT_READ_ANSWER,
    ClosedWindowBody,
    ClosedWindowsBody,
    budget_of_then,
    closed_windows,
    windows_parameter,
    windows_wanted,
)
from otel_budget.sidecar.api.health import NOT_READY, NOT_READY_ANSWER, unavailable
from otel_budget.sidecar.api.models import ABSENT, Body
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.route import Answer, Operation, Parameter, Tag
from otel_budget.sidecar.api.verdicts import DEFAULT_LIMIT, MAX_LIMIT, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from otel_budget.core.budget import Budget, Group
    from otel_budget.core.quantities import Number
    from otel_budget.sidecar.api.host import Host
    from otel_budget.sidecar.budget_report import BudgetReport, GroupReport

#: Names and groups that an error suggests.
_SUGGESTED: Final = 3
#: Characters of a group's text that are shown, or compared.
_LONG: Final = 200
_NAME: Final = re.compile(NAME_PATTERN)
#: Where a group stands in a list: by the name of its budget, then by its values; what is past the
#: cap is last. A budget that no run matched yet has the name alone.
_Place = tuple[str] | tuple[str, bool, tuple[str, ...]]

BUDGET_PARAMETER: Final = Parameter("name", "The budget.", Name, BUDGET, "path", required=True)
NO_BUDGET_ANSWER: Final = problem_answer(
    404,
    "No budget of this name is configured, or it has no such group.",
    "no budget 'reserach-month' is configured here; did you mean research-month?",
)
_LIMIT: Final = Parameter(
    "limit",
    "How many groups to put on a page.",
    Annotated[int, Field(ge=1, le=MAX_LIMIT, json_schema_extra={"default": DEFAULT_LIMIT})],
    DEFAULT_LIMIT,
)
_CURSOR: Final = Parameter(
    "cursor", "The next_cursor of the previous page.", str, f"{BUDGET}/user=ann"
)


_GROUP: Final = Parameter(
    "group",
    "Only this group, as in `limit_from`: LABEL=VALUE for each label of `per`, with commas between "
    "them; values are percent-encoded where they hold `,{}%=`. `other` is the group of all that "
    "are past groups_max.",
    str,
    "user=ann",
)
#: Windows that are over of a group, where nothing else is asked for.
_CLOSED: Final = 10


class BudgetPageBody(Body):
    """Some of the groups of all budgets, in the order of their names and labels."""

    budgets: list[BudgetBody]
    """An item for each group; a budget that no run matched yet has one, whose `group` is null."""
    next_cursor: str | None
    """Pass it as `cursor` to get the next page; null on the last page."""


class OneBudgetBody(BudgetBody):
    """One budget. Without `per`, and where `group` was asked for, how that group stands is beside
    what is configured.
    """

    groups: list[BudgetBody]
    """Some of the groups, in the order of their labels; the one asked for."""
    groups_total: int
    """How many there are."""
    closed_windows: list[ClosedWindowBody] = ABSENT
    """Of the one group: windows that are over, the newest first."""
    refused_groups: int
    """Groups past groups_max since the sidecar began: their runs are in the group `other`."""
    next_cursor: str | None
    """Pass it as `cursor` to get the next groups; null on the last page."""


class Budgets:
    """Answers with what the last step of the sidecar said of its budgets."""

    def __init__(self, host: Host) -> None:
        """Take the process around."""
        self._host = host

    @Operation(
        path="/v1/budgets",
        id="listBudgets",
        tag=Tag.BUDGETS,
        summary="How all shared budgets stand, by group",
        description="In pages of up to 1,000 groups.",
        parameters=(_LIMIT, _CURSOR),
        answers=(
            Answer(
                200,
                "One page of groups.",
                BudgetPageBody,
                {"budgets": [GROUP_EXAMPLE], "next_cursor": None},
            ),
            NOT_READY_ANSWER,
        ),
    )
    async def page(self, request: Request) -> Response:
        """Answer with one page."""
        reports = self._reports()
        limit, after = _limit(request), _after(request, reports)
        places = (place for name in sorted(reports) for place in _places(reports[name]))
        found = list(islice((p for p in places if after is None or p > after), limit + 1))
        items = [self._item(reports[place[0]], place) for place in found[:limit]]
        following = _cursor_of(reports, found[limit - 1]) if len(found) > limit else None
        return json_response(json.dumps({"budgets": items, "next_cursor": following}))

    @Operation(
        path="/v1/budgets/{name}",
        id="getBudget",
        tag=Tag.BUDGETS,
        summary="One shared budget, with its groups or one of them",
        description="Asked for one group, or of a budget without `per`, it says how that stands.",
        parameters=(
            BUDGET_PARAMETER,
            _GROUP,
            windows_parameter(
                "windows", "How many windows of the group that are over to show.", _CLOSED
            ),
            _LIMIT,
            _CURSOR,
        ),
        answers=(
            Answer(
                200,
                "The budget.",
                OneBudgetBody,
                {
                    **DEFINITION_EXAMPLE,
                    "groups": [GROUP_EXAMPLE],
                    "groups_total": 1,
                    "refused_groups": 0,
                    "next_cursor": None,
                },
            ),
            NO_BUDGET_ANSWER,
            NOT_READY_ANSWER,
        ),
    )
    async def budget(self, request: Request) -> Response:
        """Answer with one budget."""
        reports = self._reports()
        report = budget_named(request.path_params["name"], reports)
        budget = report.budget
        one = _asked_for(request, report)
        limit, after = _limit(request), _after(request, reports)
        places = [(budget.name, *_order(one.group))] if one else _places(report)
        rest = [p for p in places if len(p) > 1 and (after is None or one or p > after)]
        following = _cursor_of(reports, rest[limit - 1]) if len(rest) > limit else None
        members = definition(report)
        if one is not None:
            members |= group_members(budget, one, self._held(budget, one.group))
            most = windows_wanted(request, "windows", _CLOSED)
            found = await closed_windows(self._host, budget, [one.group], most) if most else []
            members["closed_windows"] = found
        members |= {
            "groups": [self._item(report, place) for place in rest[:limit]],
            "groups_total": len(report.groups),
            "refused_groups": report.refused_groups,
            "next_cursor": following,
        }
        return json_response(json.dumps(members))

    @Operation(
        path="/v1/budgets/{name}/windows",
        id="listBudgetWindows",
        tag=Tag.BUDGETS,
        summary="What was used in windows of a budget that are over",
        description=(
            "Kept for 400 days, also of a budget that is not configured any more. Without `group`, "
            "of the groups that are known now."
        ),
        parameters=(
            BUDGET_PARAMETER,
            _GROUP,
            windows_parameter("limit", "How many windows to return.", DEFAULT_LIMIT),
        ),
        answers=(
            Answer(200, "The newest first.", ClosedWindowsBody, {"windows": [CLOSED_EXAMPLE]}),
            NO_BUDGET_ANSWER,
            NOT_READ_ANSWER,
        ),
    )
    async def windows(self, request: Request) -> Response:
        """Answer with windows that are over."""
        reports, name = self._reports(), request.path_params["name"]
        text = request.query_params.get("group")
        most = windows_wanted(request, "limit", DEFAULT_LIMIT)
        report = reports.get(name)
        if report is not None:
            groups = [*report.groups] if text is None else _named(report.budget, request, text)
            found = await closed_windows(self._host, report.budget, groups, most)
        else:
            then = budget_of_then(name, text)
            found = await closed_windows(self._host, name, _named(then, request, text or ""), most)
            if not found:
                budget_named(name, reports)
        return json_response(json.dumps({"windows": found}))

    def _item(self, report: BudgetReport, place: _Place) -> dict[str, Any]:
        if len(place) == 1:
            return {**definition(report), **no_group()}
        group, budget = _group_at(place), report.budget
        members = group_members(budget, report.groups[group], self._held(budget, group))
        return {**definition(report), **members}

    def _held(self, budget: Budget, group: Group) -> Mapping[str, Number]:
        return self._host.held.get((budget.name, group), {})

    def _reports(self) -> Mapping[str, BudgetReport]:
        reports = self._host.budgets
        if reports is None:
            raise unavailable(self._host, NOT_READY)
        return reports


def budget_named(name: str, reports: Mapping[str, BudgetReport]) -> BudgetReport:
    """Return the report on a budget. Raises HTTPException for one that is not configured."""
    report = reports.get(name)
    if report is None:
        shown = repr(name[:63])
        near = get_close_matches(name[:63], reports, _SUGGESTED)
        hint = _hint(near) if reports else "; none is: add `budgets` to its file"
        detail = f"no budget {shown} is configured here{hint}"
        raise HTTPException(HTTPStatus.NOT_FOUND, detail)
    return report


def group_known(report: BudgetReport, named: list[Group]) -> GroupReport:
    """Return the first of some groups that is known. Raises HTTPException if none is."""
    for group in named:
        known = report.groups.get(group)
        if known is not None:
            return known
    budget = report.budget
    text = budget.group_text(named[0])
    values = {",".join(group)[:_LONG]: group for group in report.groups if group}
    near = get_close_matches(",".join(named[0] or ())[:_LONG], values, _SUGGESTED)
    hint = _hint([budget.group_text(values[one])[:_LONG] for one in near])
    detail = f"no run is known that counts in group {text[:_LONG]!r} of {budget.name}{hint}"
    raise HTTPException(HTTPStatus.NOT_FOUND, detail)


def _hint(near: list[str]) -> str:
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _asked_for(request: Request, report: BudgetReport) -> GroupReport | None:
    """Return the group that is meant: the one asked for, or the only one there can be."""
    budget = report.budget
    text = request.query_params.get("group")
    if text is None:
        return None if budget.per else report.groups.get(())
    return group_known(report, _named(budget, request, text))


def _named(budget: Budget, request: Request, text: str) -> list[Group]:
    """Return the groups that a query may name: people copy what is percent-encoded once only."""
    query: bytes = request.scope["query_string"]
    raw = next(
        (part.partition(b"=")[2] for part in query.split(b"&") if part.startswith(b"group=")), b""
    )
    named: list[Group] = []
    refused: InvalidValueError | None = None
    for spelled in (text, raw.decode("latin-1")):
        try:
            group = group_from_text(budget, spelled)
        except InvalidValueError as exc:
            refused = refused or exc
            continue
        named.append(group)
        if group is not None and NONE in group:  # as it is shown
            named.append(tuple("" if value == NONE else value for value in group))
    if not named and refused is not None:
        raise refused
    return list(dict.fromkeys(named))  # most are spelled alike both times


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    return number("limit", text, 1, MAX_LIMIT)


def _after(request: Request, reports: Mapping[str, BudgetReport]) -> _Place | None:
    """Return the place after which a page begins; None: at the first."""
    text = request.query_params.get("cursor")
    if text is None:
        return None
    name, slash, group = text.partition("/")
    if _NAME.fullmatch(name) is None:
        raise InvalidValueError("cursor", text, "the next_cursor of the previous page")
    if not slash or name not in reports:
        return (name,)
    try:
        return (name, *_order(group_from_text(reports[name].budget, group)))
    except InvalidValueError as exc:
        raise InvalidValueError("cursor", text, "the next_cursor of the previous page") from exc


def _places(report: BudgetReport) -> Iterator[_Place]:
    name = report.budget.name
    if not report.groups:
        yield (name,)
    for order in sorted(map(_order, report.groups)):
        yield (name, *order)


def _order(group: Group) -> tuple[bool, tuple[str, ...]]:
    return (group is None, group or ())


def _group_at(place: _Place) -> Group:
    return None if len(place) == 1 or place[1] else place[2]


def _cursor_of(reports: Mapping[str, BudgetReport], place: _Place) -> str:
    if len(place) == 1:
        return place[0]
    return f"{place[0]}/{reports[place[0]].budget.group_text(_group_at(place))}"
