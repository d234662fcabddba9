"""What an override changes, in words for the operator. One that changes nothing says so.

It is kept all the same: a ceiling above a run's own limit holds once the run's code raises that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core.override import OverrideKind
from otel_budget.core.verdict import LimitStatus
from otel_budget.policy.bounds import OWN, bounds_from
from otel_budget.policy.format import amount
from otel_budget.policy.overrides import said
from otel_budget.policy.verdicts import bounds_of_run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from otel_budget.core.override import Override, Overrides
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.snapshot import RunSnapshot
    from otel_budget.policy.bounds import Bound, Bounds
    from otel_budget.policy.verdicts import Rules

_OWN = (
    "only the run's code can raise its own limit, by update_limits or by resuming with a higher "
    "one, unless it lets limits come from outside: ResourceMonitor(limits_from_outside=True), or "
    "limits_from_outside in the sidecar's file"
)


class Effect(NamedTuple):
    """What came of an override."""

    changes: bool = True
    """False if the run may use as much, and as long, as before."""
    notes: tuple[str, ...] = ()
    """What its operator should know."""


#: Of a tick without an override.
NO_EFFECT = Effect()


def effect_of(
    override: Override, before: Overrides, snapshot: RunSnapshot, verdict: Verdict, rules: Rules
) -> Effect:
    """Return the effect of an override.

    before: what held for the run until then. balance, verdict: of the run since.
    """
    if override.kind is OverrideKind.LIMITS:
        changes, notes = _of_limits(override, before.limits, snapshot, rules, verdict.unjudged)
    elif override.kind is OverrideKind.STOP:
        changes, notes = _of_stop(override, before.stop, refuses=verdict.waiting_since is not None)
    else:
        changes = before.stop is not None
        notes = [] if changes else ["no operator has stopped the run"]
    if override.kind is not OverrideKind.STOP and not verdict.should_continue:
        notes.append(f"the run must still stop: {verdict.message}")
    unseen = verdict.status is LimitStatus.INCONCLUSIVE or verdict.run_state == semconv.VANISHED
    if unseen:
        silent_for = snapshot.silent_for
        if snapshot.sampled_at is not None:  # of one that is not waited for there is no silence
            silent_for = max(silent_for, verdict.evaluated_at - snapshot.sampled_at)
        age = amount(semconv.DURATION, silent_for)
        notes.append(f"the run may never receive it: it was last seen {age} ago")
    return Effect(changes, tuple(notes))


def _of_stop(override: Override, held: Override | None, *, refuses: bool) -> tuple[bool, list[str]]:
    """Return whether a stop changes anything, and notes. refuses: True if the run waits for more.

    It is the same stop again only to a run that does not wait: to one that does it is an answer.
    """
    notes = ["the run waits until it may go on: it is refused"] if refuses else []
    if held is None:
        return True, notes
    changes = (held.until, held.now) != (override.until, override.now)
    return changes or refuses, [f"the run was {said(held)}", *notes]


def _of_limits(
    override: Override,
    held: Override | None,
    snapshot: RunSnapshot,
    rules: Rules,
    unjudged: Collection[str],
) -> tuple[bool, list[str]]:
    """Return whether new ceilings change anything, and notes. unjudged: as in the verdict since."""
    attributes = snapshot.attributes
    own = bounds_from(attributes.limits, attributes.thresholds, OWN)
    was = bounds_of_run(attributes, rules, held)
    now = bounds_of_run(attributes, rules, override if override.limits else None)
    if not override.limits and held is None:
        return False, ["only the configured ceilings were in force"]
    kept = [name for name in override.limits if _same(was.get(name), now.get(name))]
    judged = (was.keys() | now.keys()).difference(unjudged)
    changed = any(not _same(was.get(name), now.get(name)) for name in judged)
    longer = held is not None and any(
        bound.origin == "operator" and held.until != override.until for bound in now.values()
    )
    notes = [] if longer else list(_kept(kept, override, own, now))
    idle = [
        name
        for name, ceiling in override.limits.items()
        if ceiling is not None and name in unjudged
    ]
    notes += [f"the ceiling on {name} is not judged, as nothing exports that" for name in idle]
    return changed or longer, notes


def _kept(names: list[str], override: Override, own: Bounds, now: Bounds) -> Iterator[str]:
    """Say why a ceiling makes no difference, and once what would."""
    stricter_than = [n for n in names if n in own and now[n].origin == "session"]
    for name in names:
        ceiling = override.limits[name]
        asked = "no ceiling" if ceiling is None else amount(name, ceiling)
        if name in stricter_than:
            limit = amount(name, own[name].limit)
            yield f"the run's own limit on {name}, {limit}, is stricter than {asked}"
        elif name in now:
            yield f"the ceiling on {name} was already {amount(name, now[name].limit)}"
        else:
            yield f"{name} had no ceiling"
    if stricter_than:
        yield _OWN


def _same(one: Bound | None, other: Bound | None) -> bool:
    """Tell whether two bounds are alike, wherever they come from."""
    if one is None or other is None:
        return one is other
    return (one.limit, one.warning_at) == (other.limit, other.warning_at)
