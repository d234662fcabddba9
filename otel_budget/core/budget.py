"""Budgets that many runs share: what one is, and over which window.

A budget is limits on what all runs that match it use together in a window, by group if it says
``per``. What was used is in the ledger's books; how it is judged is policy's, how it stands is in
verdicts.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from otel_budget.core.limits import DEFAULT_THRESHOLD
from otel_budget.core.quantities import Number
from otel_budget.core.token_kinds import TOKEN_KINDS as TOKEN_KINDS  # noqa: PLC0414 - who weighs them takes it from here
from otel_budget.core.token_kinds import WHOLE_WEIGHT as WHOLE_WEIGHT  # noqa: PLC0414 - as above

#: In ``Budget.match``: any value, as long as there is one.
PRESENT: Final = "*"
#: As people, metrics and queries name the group of all that are too many for one of their own.
OTHER: Final = "other"
#: How a value of a group that is not there is shown.
NONE: Final = "(none)"
DEFAULT_GROUPS_MAX: Final = 1000

Group = tuple[str, ...] | None
"""The values of a budget's ``per``, in its order; empty where a run has none, and for a budget
without ``per``. None: the group of all that are past ``groups_max``."""
BudgetKey = tuple[str, Group]
"""Name and group."""


class WhenLow(StrEnum):
    """What happens from the warning line of a budget on."""

    STOP = "stop"
    """Each run as by a limit of its own that is near."""
    FINISH_MOST = "finish_most"
    """Those go on that can still finish within what is left, the others stop."""


class Mode(StrEnum):
    """Whether a budget is enforced."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    """It is judged and shown, and stops nobody."""


class WindowKind(StrEnum):
    """How the windows of a budget follow one another."""

    RUN = "run"
    """Each run by itself."""
    TOTAL = "total"
    ROLLING = "rolling"
    CALENDAR = "calendar"
    FIRST_USE = "first_use"
    """One opens at the first use of its group, the next at the first use after its end."""


@dataclass(frozen=True, slots=True)
class Window:
    """Over what time a budget adds up."""

    kind: WindowKind
    seconds: float = 0.0
    """How long it is: of ROLLING and FIRST_USE."""
    every: str = ""
    """Of CALENDAR: hour, day, week, month, quarter or year."""
    zone: str = "UTC"
    """Of CALENDAR: name of ``tz``."""
    tz: dt.tzinfo = field(default=dt.UTC, compare=False, repr=False)
    at: dt.time = dt.time(0)
    """Of CALENDAR: local time at which a window begins."""
    day: int = 1
    """Of CALENDAR: ISO weekday (Monday is 1) of a week; day of the month, of the first one of a
    quarter or year, where the last stands for those that it does not have."""


class WindowSpan(NamedTuple):
    """One window, in Unix time."""

    start: float
    """Inclusive; of a total the moment it was counted from."""
    end: float = math.inf
    """Exclusive; infinite where it has none, and of a rolling one now."""
    resets_at: float | None = None
    """When all that was used is forgotten at once; None where that never happens."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits on what matching runs use together in a window, as configured."""

    name: str
    """``[a-z0-9][a-z0-9-]{0,62}``: what it is known by."""
    window: Window
    limits: Mapping[str, Number]
    """Per counted resource; at least one."""
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Label to the values of which a run must have one; ``PRESENT`` is any. Empty: every run."""
    per: tuple[str, ...] = ()
    """Labels; one budget for each combination of their values."""
    title: str = ""
    warning_threshold: float = DEFAULT_THRESHOLD
    weights: Mapping[str, int] = field(default_factory=dict)
    """Of ``TOKEN_KINDS``, how much a token counts towards the tokens, in thousandths; absent is
    ``WHOLE_WEIGHT``."""
    when_low: WhenLow = WhenLow.STOP
    mode: Mode = Mode.ENFORCE
    carry_over: float = 0.0
    """Share of a limit that unused allowance may add to the next window."""
    carry_overrun: bool = False
    groups_max: int = DEFAULT_GROUPS_MAX
    backfill: bool = False

    @property
    def books_key(self) -> str:
        """What the books depend on: with another one they begin anew."""
        match = sorted((label, sorted(values)) for label, values in self.match.items())
        return repr((match, self.per, self.window, sorted(self.weights.items())))

    def group_labels(self, group: Group) -> dict[str, str]:
        """Return the labels of a group; ``{"other": "true"}`` of the one past ``groups_max``."""
        return {OTHER: "true"} if group is None else dict(zip(self.per, group, strict=True))

    def group_text(self, group: Group) -> str:
        """Return a group in words, as ``user=ann,team=core``: for metrics, queries and people.

        Values are percent-encoded where they hold one of ``,{}%=``.
        """
        if group is None:
            return OTHER
        return ",".join(f"{k}={encoded(v)}" for k, v in zip(self.per, group, strict=True))

    def origin(self, group: Group) -> str:
        """Return ``limit_from`` of what this budget binds: ``budget:NAME`` or with its group."""
        text = self.group_text(group)
        return f"budget:{self.name}{{{text}}}" if text else f"budget:{self.name}"


def encoded(value: str) -> str:
    """Return a label's value with ``,{}%=`` percent-encoded, and nothing else."""
    return "".join(f"%{ord(char):02X}" if char in ",{}%=" else char for char in value)


class TopUp(NamedTuple):
    """A grant beside the limits of a budget; it never changes."""

    key: str
    """Names it: given by whoever asked, or made up."""
    budget: str
    group: Group
    amounts: Mapping[str, Number]
    """Per resource, above 0."""
    reason: str
    by: str
    given_at: float
    """Unix time."""
    until: float | None
    """Unix time at which it ends; None: at the end of ``window_start``'s window."""
    window_start: float
    """Start of the window in which it was given."""
    asked: str = ""
    """All that was asked for, always spelled the same: what is asked for again with the same key
    must be the same."""
