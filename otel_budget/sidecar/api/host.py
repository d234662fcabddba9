"""What the API needs of the process around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.audit import AuditPage, AuditQuery
    from otel_budget.core.budget import BudgetKey, Group, TopUp
    from otel_budget.core.observation import RunObservation
    from otel_budget.core.override import Override, Overrides
    from otel_budget.core.owner_labels import Details
    from otel_budget.core.quantities import Number
    from otel_budget.core.top_up import TopUpRequest
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.book_values import ClosedWindow
    from otel_budget.ledger.owner_use import OwnerUse
    from otel_budget.policy.override_effect import Effect
    from otel_budget.sidecar.budget_report import BudgetReport
    from otel_budget.sidecar.handovers import HandoverOutcome
    from otel_budget.sidecar.nudging import NudgeOutcome
    from otel_budget.sidecar.reservations import Order, Reserved


@dataclass(frozen=True, slots=True)
class ReceiverInfo:
    """Where programs push by OTLP/HTTP."""

    endpoint: str
    """As for OTEL_EXPORTER_OTLP_ENDPOINT."""
    token_required: bool


class Host(Protocol):
    """The sidecar's process, as the API sees it."""

    @property
    def ready(self) -> bool:
        """True once the source was read."""

    @property
    def unjudged_for(self) -> float:
        """Seconds since all runs were last judged."""

    @property
    def step_takes(self) -> float:
        """Seconds that the current step of a tick has taken so far; 0 if there is none."""

    @property
    def unmatched(self) -> int:
        """Targets that answer and show nothing that can be counted; having no target is one."""

    @property
    def retry_after(self) -> float:
        """Seconds after which it makes sense to ask again while not ready."""

    @property
    def budgets(self) -> Mapping[str, BudgetReport] | None:
        """How the shared budgets stand, by name; None until there was a step."""

    def now(self) -> float:
        """Return the Unix time by the clock that overrides are held against."""

    async def nudge(self, session_id: str) -> NudgeOutcome:
        """Read and judge one run now; publish its verdict before returning."""

    async def hook_seen(
        self, session_id: str, *, state: str | None, tokens: int | None, preset: str, peer: str
    ) -> None:
        """Take in what a hook of a coding agent tells of a run; published before returning.

        state: one of ``semconv.SESSION_STATES`` for a start or an end, None for neither. A run that
        nothing is known of is not made known by it. tokens: what a model call just used, None if
        the hook does not say; taken where there is a receiver. preset: of the agent. peer: address
        that the hook came from.
        """

    @property
    def receiver(self) -> ReceiverInfo | None:
        """Where programs push by OTLP; None if this sidecar receives nothing."""

    @property
    def details(self) -> Details:
        """What of runs is read."""

    async def hand_over(
        self, runs: Sequence[RunObservation], dropped: Mapping[str, int]
    ) -> list[HandoverOutcome]:
        """Judge and store the last state of runs; return what became of each.

        dropped: reason to samples of theirs that were refused.
        """

    async def apply_override(
        self, session_id: str, override: Override, client: str
    ) -> tuple[Verdict, Effect]:
        """Override a run's policy; return the verdict that follows and what changed, once both are
        stored.

        client: address it came from. Raises OverrideRefusedError.
        """

    async def closed_windows(
        self, budget: str, groups: Sequence[Group], most: int
    ) -> Sequence[ClosedWindow]:
        """Return windows of a budget's groups that are over, the newest first. Raises
        StorageError.
        """

    async def use_by(self, label: str) -> Sequence[OwnerUse]:
        """Return what the runs of each value of a label used, the most first."""

    async def top_up(self, asked: TopUpRequest, client: str) -> TopUp:
        """Add to a shared budget; return what was given, with this key, once it is stored.

        client: address it came from. Raises TopUpRefusedError, and InvalidValueError for an end at
        the reset of a window that has none.
        """

    @property
    def held(self) -> Mapping[BudgetKey, Mapping[str, Number]]:
        """What is reserved of each group of a budget of which something is."""

    async def reserve(self, order: Order) -> Reserved:
        """Do an order on a reservation; return how it stands, once that is stored.

        Raises ReservationRefusedError.
        """

    async def overrides_of(
        self, session_id: str, limit: int
    ) -> tuple[Overrides, Sequence[Override]]:
        """Return what is in force for a run, and its newest overrides, up to ``limit``.

        Raises OverrideRefusedError.
        """

    async def audit_log(self, query: AuditQuery) -> AuditPage:
        """Return entries of the audit log. Raises StorageError."""

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return the sidecar's own metrics for an Accept header: body and content type."""
