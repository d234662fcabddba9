"""An account as JSON types and back, for the store: exact, so that nothing moves by a restart."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from otel_budget.ledger.account import Account, Incarnation
from otel_budget.ledger.counter import CounterState
from otel_budget.model.reading import SessionFacts

if TYPE_CHECKING:
    from otel_budget.model.usage import Number

#: Version of this format. A reader refuses a newer one.
FORMAT = 1


def dump(account: Account) -> dict[str, Any]:
    """Return the account as JSON types; money is a tagged string."""
    return {
        "format": FORMAT,
        "session_id": account.session_id,
        "started_at": account.started_at,
        "first_seen_at": account.first_seen_at,
        "began_at": account.began_at,
        "sampled_at": account.sampled_at,
        "implausible_since": account.implausible_since,
        "ended_at": account.ended_at,
        "resets": account.resets,
        "gaps": list(account.gaps),
        "facts": _dump_facts(account.facts),
        "incarnations": [
            {
                "key": key,
                "started_at": inc.started_at,
                "carried_over": _dump_numbers(inc.carried_over),
                "targets": {
                    target: [
                        [resource, labels, _dump_number(s.total), _dump_number(s.last)]
                        for (resource, labels), s in series.items()
                    ]
                    for target, series in inc.targets.items()
                },
            }
            for key, inc in account.incarnations.items()
        ],
    }


def load(data: dict[str, Any]) -> Account:
    """Return the account that ``dump`` wrote. Raises ValueError for a format it does not know."""
    if data.get("format") != FORMAT:
        raise ValueError(f"account format {data.get('format')!r}: this version reads {FORMAT}")
    account = Account(data["session_id"], data["started_at"], data["first_seen_at"])
    account.began_at = data["began_at"]
    account.sampled_at = data["sampled_at"]
    account.implausible_since = data["implausible_since"]
    account.ended_at = data["ended_at"]
    account.resets = data["resets"]
    account.gaps.extend(data["gaps"])
    account.facts = _load_facts(data["facts"])
    for saved in data["incarnations"]:
        inc = Incarnation(saved["started_at"])
        inc.carried_over = _load_numbers(saved["carried_over"])
        for target, rows in saved["targets"].items():
            account.targets.add(target)
            inc.targets[target] = {
                (resource, labels): CounterState(_load_number(total), _load_number(last))
                for resource, labels, total, last in rows
            }
        account.incarnations[saved["key"]] = inc
    return account


def _dump_facts(facts: SessionFacts) -> dict[str, Any]:
    return {
        "started_at": facts.started_at,
        "incarnation_at": facts.incarnation_at,
        "carried_over": _dump_numbers(facts.carried_over),
        "limits": _dump_numbers(facts.limits),
        "thresholds": dict(facts.thresholds),
        "completion_threshold": facts.completion_threshold,
        "progress": facts.progress,
        "duration": facts.duration,
        "state": facts.state,
    }


def _load_facts(data: dict[str, Any]) -> SessionFacts:
    return replace(
        SessionFacts(**data),
        carried_over=_load_numbers(data["carried_over"]),
        limits=_load_numbers(data["limits"]),
    )


def _dump_number(value: Number) -> int | float | str:
    return str(value) if isinstance(value, Decimal) else value


def _load_number(value: float | str) -> Number:
    return Decimal(value) if isinstance(value, str) else value


def _dump_numbers(values: Any) -> dict[str, int | float | str]:
    return {key: _dump_number(value) for key, value in values.items()}


def _load_numbers(values: dict[str, Any]) -> dict[str, Number]:
    return {key: _load_number(value) for key, value in values.items()}
