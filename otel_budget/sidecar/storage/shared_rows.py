"""What is stored of shared budgets beside their books: grants, reservations, who was told to go on.

One JSON text each, sealed as those in records.py.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from otel_budget.core.budget import TopUp
from otel_budget.core.quantities import as_json
from otel_budget.ledger.holds import Claim, Hold, HoldState
from otel_budget.policy.finish_most import Choice
from otel_budget.sidecar.storage.records import sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.budget import Group
    from otel_budget.core.quantities import Number

_TOP_UP, _CHOICE, _HOLD = "top_up", "choice", "hold"
_COMPACT: Final = (",", ":")


def top_up_body(given: TopUp) -> str:
    """Return the text of a grant's row."""
    body = {
        "top_up": given.key,
        **given._asdict(),
        "amounts": {name: as_json(amount) for name, amount in given.amounts.items()},
        "window_start": given.window_start if math.isfinite(given.window_start) else None,
    }
    del body["key"]
    return sealed(json.dumps(body, separators=_COMPACT), _TOP_UP)


def top_up_of(body: bytes) -> TopUp:
    """Return the grant in a row. Raises one of UNREADABLE_ROW, as the one below."""
    data = json.loads(unsealed(body, _TOP_UP))
    start = data.pop("window_start")
    return TopUp(
        key=str(data.pop("top_up")),
        group=_group(data.pop("group")),
        amounts=_amounts(data.pop("amounts")),
        window_start=-math.inf if start is None else float(start),
        **{name: data[name] for name in ("budget", "reason", "by", "given_at", "until", "asked")},
    )


def choice_body(choice: Choice) -> str:
    """Return the text of the row of a run that was told to go on."""
    return sealed(json.dumps(choice._asdict(), separators=_COMPACT), _CHOICE)


def choice_of(body: bytes) -> Choice:
    """Return the run in a row."""
    data = json.loads(unsealed(body, _CHOICE))
    expected = {str(name): float(amount) for name, amount in data["expected"].items()}
    start = data["started_at"]
    return Choice(
        str(data["budget"]), _group(data["group"]), str(data["session_id"]),
        None if start is None else float(start), expected,
    )  # fmt: skip


def choice_place(budget: str, group: Group, session_id: str) -> str:
    """Return what a run that was told to go on is known by."""
    return json.dumps([budget, group, session_id], separators=_COMPACT)


def hold_body(hold: Hold) -> str:
    """Return the text of a reservation's row."""
    body = {
        "hold": hold.id,
        "key": hold.key,
        "asked": hold.asked,
        "session_id": hold.session_id,
        "started_at": hold.started_at,
        "amounts": _as_json(hold.amounts),
        "claims": [
            [*claim[:3], claim.until if math.isfinite(claim.until) else None, claim.weight]
            for claim in hold.claims
        ],
        "lease_seconds": hold.lease_seconds,
        "until": hold.until,
        "state": str(hold.state),
        "used": _as_json(hold.used),
        "recorded_at": hold.recorded_at,
    }
    return sealed(json.dumps(body, separators=_COMPACT), _HOLD)


def hold_of(body: bytes) -> Hold:
    """Return the reservation in a row."""
    data = json.loads(unsealed(body, _HOLD))
    start = data["started_at"]
    return Hold(
        id=str(data["hold"]), key=str(data["key"]), asked=str(data["asked"]),
        session_id=str(data["session_id"]), started_at=None if start is None else float(start),
        amounts=_amounts(data["amounts"]), claims=tuple(map(_claim, data["claims"])),
        lease_seconds=float(data["lease_seconds"]), until=float(data["until"]),
        state=HoldState(data["state"]), used=_amounts(data["used"]),
        recorded_at=float(data["recorded_at"]),
    )  # fmt: skip


def _claim(data: Any) -> Claim:
    budget, group, run, until, weight = data
    end = math.inf if until is None else float(until)
    return Claim(str(budget), _group(group), str(run), end, int(weight))


def _as_json(amounts: Mapping[str, Number]) -> dict[str, Any]:
    return {name: as_json(amount) for name, amount in amounts.items()}


def _group(value: Any) -> Group:
    return None if value is None else tuple(map(str, value))


def _amounts(data: Mapping[str, Any]) -> dict[str, Number]:
    return {
        str(name): Decimal(amount) if isinstance(amount, str) else amount
        for name, amount in data.items()
    }
