"""What the properties are tried on."""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes
from otel_budget.core.quantities import COUNT, MONEY, SECONDS, Number, Quantity
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.resources import RESOURCES
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.policy.bounds import Bounds, bounds_from
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import Rules

NOW = 1_767_268_800.0

counts = st.integers(0, 2**53)
seconds = st.floats(0, 2**53)
money = st.decimals(0, 10**9, places=9) | st.decimals(0, 10, places=2)
thresholds = st.floats(0, 1, exclude_min=True) | st.sampled_from([0.55, 0.07, 0.29, 0.8, 1.0])
shares = st.floats(0, 1)
progress = st.none() | shares
session_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}", fullmatch=True)

_ANY: dict[Quantity, st.SearchStrategy[Number]] = {COUNT: counts, SECONDS: seconds, MONEY: money}
_NEAR: dict[Quantity, st.SearchStrategy[Number]] = {
    COUNT: st.integers(0, 12),
    SECONDS: st.integers(0, 12).map(float),
    MONEY: st.integers(0, 120).map(lambda tenths: Decimal(tenths) / 10),
}
AMOUNTS: dict[str, st.SearchStrategy[Number]] = {
    row.name: _ANY[row.quantity] for row in RESOURCES.values()
}
#: Small and crowded, so that lines are met and crossed.
NEAR: dict[str, st.SearchStrategy[Number]] = {
    row.name: _NEAR[row.quantity] for row in RESOURCES.values()
}

used = st.fixed_dictionaries(NEAR)
doubts = st.builds(UsageUncertainty, *[st.integers(0, 2)] * 3)
on_unknown = st.builds(
    OnUnknown, st.sampled_from(["ignore", "stop"]), st.sampled_from(["ignore", "estimate", "stop"])
)
limits = st.fixed_dictionaries({}, optional=NEAR)
thresholds_by_resource = st.fixed_dictionaries({}, optional=dict.fromkeys(NEAR, thresholds))


def exact(value: Number) -> Fraction:
    """Return the number as it was written: 0.3 is 3/10."""
    return Fraction(value) if isinstance(value, Decimal) else Fraction(repr(value))


@st.composite
def all_bounds(draw: st.DrawFn) -> Bounds:
    """Return bounds of some resources."""
    return bounds_from(draw(limits), draw(thresholds_by_resource), "session")


@st.composite
def snapshots(draw: st.DrawFn) -> RunSnapshot:
    """Return what a ledger may know of a run."""
    attributes = RunAttributes(
        limits=draw(limits),
        thresholds=draw(thresholds_by_resource),
        completion_threshold=draw(st.none() | thresholds),
        progress=draw(progress),
    )
    amounts = draw(used)
    active: Any = amounts.pop(semconv.ACTIVE_DURATION)
    active = draw(st.sampled_from([active, None]))
    return RunSnapshot(
        session_id="run",
        started_at=draw(st.none() | st.just(NOW - 60)),
        used=amounts,
        active=active,
        active_when_shown=active,
        attributes=attributes,
        rates=draw(st.fixed_dictionaries({}, optional=dict.fromkeys(NEAR, st.floats(0, 1e9)))),
        sampled_at=draw(st.none() | st.just(NOW - 1)),
        silent_for=draw(st.sampled_from([0.0, 2.0, 5.0, 200.0, 400.0])),
        gap=draw(st.sampled_from([0.2, 1.0, 60.0])),
        trouble=draw(st.sampled_from([None, Reason.SOURCE_ERROR, Reason.PARTIAL_DATA])),
        implausible_for=draw(st.sampled_from([None, 0.0, 400.0])),
        ended=draw(st.booleans()),
        watched_for=draw(st.sampled_from([math.inf, 0.0, 100.0])),
        uncertainty=draw(doubts),
    )


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    """Return rules a sidecar may judge by."""
    return Rules(
        ceilings=bounds_from(draw(limits), draw(thresholds_by_resource), "sidecar"),
        completion_threshold=draw(st.none() | thresholds),
        stale_after=draw(st.sampled_from([None, 1.0])),
        hold=draw(st.sampled_from([0.0, 300.0])),
        on_no_data=draw(st.sampled_from(Action)),
        on_unknown=draw(on_unknown),
        revision=draw(st.sampled_from(["", "r1"])),
    )
