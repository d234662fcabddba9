"""The process around the API as its tests want it, and what they hold its answers against."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import jsonschema

from otel_budget.core import audit, sse, verdict_json
from otel_budget.core.audit import AuditEntry, AuditKind, AuditPage, AuditQuery
from otel_budget.core.budget import BudgetKey, Group, TopUp
from otel_budget.core.observation import RunObservation
from otel_budget.core.override import (
    Override,
    OverrideKind,
    OverrideRefusedError,
    Overrides,
    Refusal,
)
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.quantities import Number
from otel_budget.core.reservation import ReservationRefusal, ReservationRefusedError
from otel_budget.core.top_up import TopUpRefusedError, TopUpRequest
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.book_values import ClosedWindow
from otel_budget.ledger.owner_use import OwnerUse
from otel_budget.policy.override_effect import Effect
from otel_budget.sidecar.api.host import ReceiverInfo
from otel_budget.sidecar.budget_report import BudgetReport
from otel_budget.sidecar.handovers import HandoverOutcome
from otel_budget.sidecar.nudging import NudgeOutcome
from otel_budget.sidecar.reservations import Order, Reserved
from otel_budget.sidecar.storage.base import StorageError
from tests.support.sidecar_fixtures import LEASE, START, verdict


class Host:
    """The process around the API, as a test wants it."""

    ready = True
    unmatched = 0
    retry_after = 2.5
    unjudged_for = step_takes = 0.0
    receiver: ReceiverInfo | None = None

    def __init__(self) -> None:
        """Have been nudged by nobody."""
        self.nudged: list[str] = []
        self.budgets: Mapping[str, BudgetReport] | None = {}
        self.closed: Sequence[ClosedWindow] = ()
        self.unreadable = False
        self.owners: Sequence[OwnerUse] = ()
        self.topped_up: list[tuple[TopUpRequest, str]] = []
        """With the address that each came from."""
        self.refuses: TopUpRefusedError | None = None
        self.held: Mapping[BudgetKey, Mapping[str, Number]] = {}
        self.orders: list[Order] = []
        self.reserves: Reserved | ReservationRefusedError | None = None
        """What comes of orders on reservations; None: no run is known."""
        self.asked_of_log: AuditQuery | None = None
        self.storage_fails = False
        self.told: list[tuple[str, str | None, int | None, str, str]] = []
        """What hooks told: session id, state, tokens, preset, peer."""
        self.handed_over: list[RunObservation] = []
        self.handed = HandoverOutcome.TAKEN
        self.otherwise = NudgeOutcome.UNKNOWN
        self.on_nudge: Callable[[], Awaitable[object]] | None = None
        """Done before a nudge is answered."""

    def now(self) -> float:
        """Return some time."""
        return 1000.0

    async def hook_seen(
        self, session_id: str, *, state: str | None, tokens: int | None, preset: str, peer: str
    ) -> None:
        """Take note of what a hook tells."""
        self.told.append((session_id, state, tokens, preset, peer))

    async def apply_override(
        self, session_id: str, override: Override, client: str
    ) -> tuple[Verdict, Effect]:
        """Stop ``a``; nothing else is there."""
        if session_id != "a":
            raise OverrideRefusedError(Refusal.UNKNOWN_RUN, f"no run {session_id!r} is known here")
        self.given = (override, client)
        return verdict("a", 7), Effect(changes=False, notes=("it was stopped",))

    async def closed_windows(
        self, budget: str, groups: Sequence[Group], most: int
    ) -> Sequence[ClosedWindow]:
        """Return those of the closed windows that are asked for."""
        if self.unreadable:
            raise StorageError("the disk is gone")
        return [w for w in self.closed if w.budget == budget and w.group in groups][:most]

    async def use_by(self, label: str) -> Sequence[OwnerUse]:
        """Return what owners used, whatever the label."""
        return self.owners

    async def top_up(self, asked: TopUpRequest, client: str) -> TopUp:
        """Give what is asked for, unless it is to be refused."""
        if self.refuses is not None:
            raise self.refuses
        self.topped_up.append((asked, client))
        return TopUp(
            asked.key, asked.budget, asked.group, asked.amounts, asked.reason, asked.by, self.now(),
            asked.until, 0.0, asked.asked,
        )  # fmt: skip

    async def reserve(self, order: Order) -> Reserved:
        """Hold, or do what else is asked, for every run but ``b``."""
        self.orders.append(order)
        if self.reserves is None:
            detail = "no run is known here"
            raise ReservationRefusedError(ReservationRefusal.UNKNOWN_RUN, detail)
        if isinstance(self.reserves, ReservationRefusedError):
            raise self.reserves
        return self.reserves

    async def overrides_of(
        self, session_id: str, limit: int
    ) -> tuple[Overrides, Sequence[Override]]:
        """Return one order for ``a``."""
        if session_id != "a":
            raise OverrideRefusedError(Refusal.UNKNOWN_RUN, f"no run {session_id!r} is known here")
        stop = Override(OverrideKind.STOP, "because", "ann", 1000.0, 1060.0, {})
        return Overrides(stop=stop), [stop][:limit]

    async def audit_log(self, query: AuditQuery) -> AuditPage:
        """Return one entry, whatever is asked for."""
        self.asked_of_log = query
        if self.storage_fails:
            raise StorageError("disk I/O error")
        entry = AuditEntry(AuditKind.ORDER, START, {"event": "stop"}, "a", START - 10, number=7)
        return AuditPage((audit.to_json(entry),), 7, 1, 0)

    async def nudge(self, session_id: str) -> NudgeOutcome:
        """Know ``a`` alone."""
        self.nudged.append(session_id)
        if self.on_nudge is not None:
            await self.on_nudge()
        return NudgeOutcome.DONE if session_id == "a" else self.otherwise

    @property
    def details(self) -> Details:
        """Read no more than every sidecar does."""
        return NO_DETAILS

    async def hand_over(
        self, runs: Sequence[RunObservation], dropped: Mapping[str, int]
    ) -> list[HandoverOutcome]:
        """Take all but ``b``; remember what was handed over."""
        self.handed_over += runs
        return [HandoverOutcome.REFUSED if run.session_id == "b" else self.handed for run in runs]

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return something recognisable."""
        if accept == "broken":
            raise RuntimeError("no metrics today")
        return f"# {accept}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"


#: What is said of run ``a`` once its verdict has outlived its lease.
EXPIRED_OF_A = {
    "session_id": "a", "last_action": "continue", "last_reason": "within_limits",
    "evaluated_at": verdict_json.timestamp(START),
    "valid_until": verdict_json.timestamp(START + LEASE),
}  # fmt: skip


def token_of(role: str) -> str:
    """Return the token of ``read`` or ``admin``."""
    return role * 8


def assert_problem(answer: Any, status: int) -> dict[str, Any]:
    """Return the problem in an answer; fail if it is not one."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["type"] == "about:blank"
    return body


def assert_described(document: dict[str, Any], method: str, path: str, answer: Any) -> None:
    """Fail if an answer is not one that the description has for its operation.

    Its objects may have no member that is not described. Passes over what is not an operation, and
    over a defect of the sidecar.
    """
    operation = _operation(document, method, path)
    if operation is None or answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return
    described = operation["responses"][str(answer.status_code)]
    for name in described.get("headers", {}):
        assert name in answer.headers or name == sse.STREAM_HEADER
    if not answer.content:
        assert "content" not in described
        return
    media_type = answer.headers["content-type"].partition(";")[0]
    schema = described["content"][media_type]["schema"]
    body = answer.json() if media_type.endswith("json") else answer.text
    jsonschema.validate(body, {**_closed(document), **_closed(schema)})


def _operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    for template, methods in document["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path.partition("?")[0]):
            found: dict[str, Any] | None = methods.get(method.lower())
            return found
    return None


def _closed(value: Any) -> Any:
    """Return a schema whose objects have only the members that they name."""
    if isinstance(value, list):
        return [_closed(one) for one in value]
    if not isinstance(value, dict):
        return value
    closed = {key: _closed(one) for key, one in value.items()}
    if isinstance(value.get("properties"), dict) and value.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
