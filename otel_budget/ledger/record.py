"""An account as JSON and back, for the store: exact, so that nothing moves by a restart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any

from otel_budget import semconv
from otel_budget.ledger.account import Account
from otel_budget.ledger.counter import CounterState
from otel_budget.ledger.incarnation import Incarnation, View
from otel_budget.model.order import NO_ORDERS, Order, OrderKind, Orders
from otel_budget.model.reading import SessionFacts

if TYPE_CHECKING:
    from otel_budget.model.usage import Number

#: Version of this format. A reader refuses a newer one. 2 has orders; 1 is read, too.
FORMAT = 2
_UNSURE = {semconv.COST: "unpriced_calls", semconv.TOKENS: "unknown_usage_calls"}


def to_json(account: Account) -> str:
    """Return the account as JSON; money is a string."""
    return _ENCODE(_dump(account))


def from_json(text: str) -> Account:
    """Return the account that ``to_json`` wrote.

    Raises ValueError for a format it does not know; of any other text, whatever comes of it.
    """
    return _load(json.loads(text))


def _dump(account: Account) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "session_id": account.session_id,
        "started_at": account.started_at,
        "first_seen_at": account.first_seen_at,
        "superseded": account.superseded,
        "at_least": sorted(account.doubt.at_least),
        "sampled_at": account.sampled_at,
        "ended_at": account.ended_at,
        "resets": account.resets,
        "gaps": list(account.gaps),
        "facts": account.facts._asdict(),
        "orders": [dump_order(o) for o in (account.orders.stop, account.orders.limits) if o],
        "incarnations": [
            {"key": key, **_dump_incarnation(incarnation, account.facts)}
            for key, incarnation in account.incarnations.items()
        ],
    }


def _load(data: dict[str, Any]) -> Account:
    if data.get("format") not in (1, FORMAT):
        raise ValueError(
            f"account format {data.get('format')!r}: this version reads 1 and {FORMAT}"
        )
    account = Account(data["session_id"], data["started_at"], data["first_seen_at"])
    account.superseded = tuple(data.get("superseded", ()))
    # Written before calls were counted; since then it is for the readers of that version.
    stored = data.get("at_least", ())
    account.unsure = {name: 1 for resource, name in _UNSURE.items() if resource in stored}
    account.sampled_at = data["sampled_at"]
    account.ended_at = data["ended_at"]
    account.resets = data["resets"]
    account.gaps.extend(data["gaps"])
    account.facts = _load_facts(data["facts"])
    account.orders = reduce(Orders.after, map(load_order, data.get("orders", ())), NO_ORDERS)
    for saved in data["incarnations"]:
        # Written before incarnations kept it: the account's is as good.
        saved.setdefault("began_at", data.get("began_at"))
        account.incarnations[saved["key"]] = _load_incarnation(saved, account.facts)
    return account


def dump_order(order: Order) -> dict[str, Any]:
    """Return an operator's order as JSON types."""
    limits = {
        key: None if limit is None else _dump_number(limit) for key, limit in order.limits.items()
    }
    return {
        "kind": str(order.kind),
        "reason": order.reason,
        "by": order.by,
        "at": order.at,
        "until": order.until,
        "limits": limits,
    }


def load_order(data: dict[str, Any]) -> Order:
    """Return the order that ``dump_order`` wrote."""
    limits = {
        key: None if limit is None else _load_number(limit) for key, limit in data["limits"].items()
    }
    return Order(**{**data, "kind": OrderKind(data["kind"]), "limits": limits})


def _dump_incarnation(incarnation: Incarnation, facts: SessionFacts) -> dict[str, Any]:
    """Return it as JSON types. facts: the account's; they are not written a second time."""
    return {
        "started_at": incarnation.started_at,
        "carried_over": incarnation.carried_over,
        "facts": None if incarnation.facts is facts else incarnation.facts._asdict(),
        "facts_at": incarnation.facts_at,
        "began_at": incarnation.began_at,
        "timed": incarnation.timed,
        "unsure": incarnation.unsure,
        "views": {target: _dump_view(view) for target, view in incarnation.views.items()},
    }


def _load_incarnation(data: dict[str, Any], facts: SessionFacts) -> Incarnation:
    incarnation = Incarnation(data["started_at"])
    incarnation.carried_over = _load_numbers(data["carried_over"])
    incarnation.facts = facts if data["facts"] is None else _load_facts(data["facts"])
    incarnation.facts_at = data["facts_at"]
    incarnation.began_at = data["began_at"]
    incarnation.timed = data.get("timed", True)
    incarnation.unsure = dict(data.get("unsure", {}))
    incarnation.views = {target: _load_view(saved) for target, saved in data["views"].items()}
    return incarnation


def _dump_view(view: View) -> dict[str, Any]:
    return {
        "seen_at": view.seen_at,
        "seen_before": view.seen_before,
        "implausible_since": view.implausible_since,
        "series": [
            (resource, labels, state.total, state.last)
            for (resource, labels), state in view.series.items()
        ],
        "folded": view.folded,
    }


def _load_view(data: dict[str, Any]) -> View:
    view = View(data["seen_at"])
    view.seen_before = data["seen_before"]
    view.implausible_since = data["implausible_since"]
    view.series = {
        (resource, labels): CounterState(_load_number(total), _load_number(last))
        for resource, labels, total, last in data["series"]
    }
    view.shown_at = dict.fromkeys(view.series, view.seen_at)
    view.folded = _load_numbers(data.get("folded", {}))
    view.sum_up()
    return view


def _load_facts(data: dict[str, Any]) -> SessionFacts:
    return SessionFacts(**data)._replace(
        carried_over=_load_numbers(data["carried_over"]),
        limits=_load_numbers(data["limits"]),
    )


def _dump_number(value: Number) -> int | float | str:
    return str(value) if isinstance(value, Decimal) else value


def _load_number(value: float | str) -> Number:
    return Decimal(value) if isinstance(value, str) else value


def _load_numbers(values: dict[str, Any]) -> dict[str, Number]:
    return {key: _load_number(value) for key, value in values.items()}


def _encoded(value: object) -> object:
    """Return what the encoder itself has no way to write."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"an account holds a {type(value).__name__}: {value!r}")


_ENCODE = json.JSONEncoder(separators=(",", ":"), default=_encoded).encode
