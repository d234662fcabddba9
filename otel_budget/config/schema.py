"""The sidecar's configuration: every key and its default (design, section 6).

Of its larger sections each has a module of its own: sources.py, otlp.py, listen.py, budgets.py.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    model_validator,
)

from otel_budget.config import budgets, values
from otel_budget.config.budgets import Budgets, ScopeLabels
from otel_budget.config.ceilings import CeilingsConfig
from otel_budget.config.from_outside import FromOutside
from otel_budget.config.listen import ListenConfig
from otel_budget.config.section import Section, Strict
from otel_budget.config.sources import SourceConfig
from otel_budget.config.values import (
    FilePath,
    OwnPresets,
    Seconds,
    SecondsOrAuto,
    Size,
)
from otel_budget.core.budget import Budget
from otel_budget.core.budget_text import window_json
from otel_budget.core.reasons import Action
from otel_budget.errors import InvalidValueError

DEFAULT_STORAGE: Final = "otel-budget.db"
_REVISION_DIGITS: Final = 12
#: In the context of a validation: nothing is read from the source.
NO_SOURCE: Final = "no_source"


def _action(value: object) -> Action:
    try:
        return Action(value)  # type: ignore[arg-type] # whatever is no action is refused
    except ValueError as exc:
        raise InvalidValueError("", value, " or ".join(Action)) from exc


class VerdictsConfig(Section):
    """How long a verdict holds, and what is decided without data. Seconds throughout."""

    lease: Seconds = 15.0
    stale_after: SecondsOrAuto = None
    """None is auto: three times the usual spacing of the samples, at least 3 s."""
    hold: Seconds = 300.0
    on_no_data: Annotated[Action, BeforeValidator(_action)] = Action.STOP
    forget_after: Seconds = 3600.0
    """At least as long as ``stale_after`` and ``hold``: not before ``on_no_data`` was decided."""


class StorageConfig(Section):
    """Where the ledger is kept."""

    path: Annotated[FilePath, AfterValidator(values.storage)] = Path(DEFAULT_STORAGE)
    archive_size: Size = 256_000_000
    """Bytes for forgotten runs, which are kept for 30 days; a sixteenth of it for one target's."""
    audit_size: Size = 256_000_000
    """Bytes for the audit log, of which the oldest entries go first: some 200,000 entries."""
    audit_keep: Seconds = 90 * 86_400.0
    """How long its entries are kept."""


class AuditConfig(Section):
    """Where the audit log is written besides the storage."""

    file: Annotated[Path | None, BeforeValidator(values.path_or_dash)] = None
    """JSON lines, appended; ``-`` is standard output."""


class SidecarConfig(Strict):
    """The whole configuration."""

    presets: OwnPresets = Field(default={})
    """First, because the source may name them."""
    source: SourceConfig
    resource_limits: CeilingsConfig = Field(default_factory=CeilingsConfig)
    verdicts: VerdictsConfig = Field(default_factory=VerdictsConfig)
    listen: ListenConfig = Field(default_factory=ListenConfig)
    storage: StorageConfig = Field(default={}, validate_default=True)
    audit: AuditConfig = Field(default_factory=AuditConfig)
    limits_from_outside: FromOutside = False
    """Runs whose own limits an operator may replace: all of them, or those of some workflows."""
    scope_labels: ScopeLabels = Field(default=(), validate_default=True)
    """Before the budgets, which may name them."""
    budgets: Budgets = ()

    @model_validator(mode="after")
    def _budgets_fit_the_source(self, info: ValidationInfo) -> SidecarConfig:
        if not (info.context or {}).get(NO_SOURCE):
            refusal = budgets.unfit_for(self.budgets, self.source)
            if refusal is not None:
                raise refusal
        return self

    @property
    def shared_budgets(self) -> tuple[Budget, ...]:
        """What ``budgets`` describe, by name: their order says nothing."""
        return tuple(sorted((each.budget for each in self.budgets), key=lambda each: each.name))

    @property
    def policy_text(self) -> str:
        """The policy in JSON: the ceilings, the budgets, and how verdicts are made."""
        policy: dict[str, object] = {
            "resource_limits": self.resource_limits.model_dump(),
            "verdicts": self.verdicts.model_dump(),
        }
        if self.limits_from_outside:
            policy["limits_from_outside"] = self.limits_from_outside
        if self.budgets:
            policy["budgets"] = {
                each.name: {
                    **each.model_dump(exclude={"title", "window"}),
                    "window": window_json(each.window),
                }
                for each in self.budgets
            }
            policy["scope_labels"] = sorted(self.scope_labels)
        return json.dumps(policy, sort_keys=True, default=_plain)

    @property
    def revision(self) -> str:
        """12 hex digits that name the policy."""
        return hashlib.sha256(self.policy_text.encode()).hexdigest()[:_REVISION_DIGITS]


def _plain(value: object) -> str:
    if isinstance(value, Decimal):  # 5 and 5.0 are the same ceiling
        return f"{value.normalize():f}"
    raise TypeError(f"{value!r} is not part of a policy")
