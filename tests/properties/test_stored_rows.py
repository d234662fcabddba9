"""A stored row with damage: it is read exactly, or refused; never believed, and never a trap."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.override import Override, OverrideKind, Overrides
from otel_budget.core.quantities import Number
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.run import RunTotals
from otel_budget.policy.verdicts import verdict_from_snapshot
from otel_budget.sidecar.storage import codec
from otel_budget.sidecar.storage.records import UNREADABLE_ROW, sealed, unsealed
from tests.support.sidecar_fixtures import START, ceilings, session

RULES = ceilings(tokens=1000)
ODD: tuple[Any, ...] = (
    None, True, "x", "", "NaN", "1e999", "-1", -1, -0.5, 0, 1.5, 5e-324, 1e-59, 1e59, 1e308, -1e308,
    2**64, 10**400, float("inf"), float("nan"), [], {}, ["a"], {"a": 1}, [[]], [[1, 2], 3],
)  # fmt: skip


def account() -> RunTotals:
    """Return an account with something in most of its fields."""
    made = RunTotals("run-1", START - 10, START)
    carried: dict[str, Number] = {semconv.TOKENS: 3, semconv.COST: Decimal("1.5")}
    for n in range(2):
        shown = session(tokens=7 * n, at=START + n, limits={semconv.TOKENS: 500})
        attributes = shown.attributes._replace(
            carried_over=carried, incarnation_at=START + n, progress=0.5
        )
        counters = {**shown.counters, (semconv.COST, ""): Decimal("0.25")}
        made.observe(shown._replace(attributes=attributes, counters=counters), confirmed=True)
    made.overrides = Overrides(Override(OverrideKind.STOP, "because", at=START))
    made.superseded, made.floor = (START - 99,), {semconv.TOKENS: 1}
    return made


TEXT = codec.to_json(account())
STORED = sealed(TEXT, "account").encode()


@given(st.integers(0, 8 * len(STORED) - 1))
def test_a_flipped_bit_is_never_believed(bit: int) -> None:
    """Whatever can still be read is what was written."""
    damaged = bytearray(STORED)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        read = codec.from_json(unsealed(bytes(damaged), "account"))
    except UNREADABLE_ROW:
        return
    assert codec.to_json(read) == TEXT


@given(st.binary(max_size=60), st.integers(0, len(STORED)), st.integers(0, 60))
def test_a_torn_or_overwritten_row_is_never_believed(junk: bytes, at: int, gone: int) -> None:
    damaged = STORED[:at] + junk + STORED[at + gone :]
    try:
        read = codec.from_json(unsealed(damaged, "account"))
    except UNREADABLE_ROW:
        return
    assert codec.to_json(read) == TEXT


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in some JSON."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    return [path, *(p for key in keys for p in places(value[key], (*path, key)))]


PLACES = places(json.loads(TEXT))[1:]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
def test_an_odd_value_in_a_row_without_a_digest_is_refused_or_can_be_judged(odd: object) -> None:
    """A version of before wrote it, or a hand: no value, wherever it stands, may end a later tick.

    Every place is tried with every value: damage that is drawn by chance is found by chance.
    """
    read_rows = 0
    for place in PLACES:
        data = json.loads(TEXT)
        inner = data
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = odd
        try:
            read = codec.from_json(json.dumps(data))
        except UNREADABLE_ROW:
            continue
        read_rows += 1
        try:
            live_on(read)
        except Exception as exc:
            raise AssertionError(f"{odd!r} at {place}") from exc
    assert read_rows, "some places take anything"


def live_on(read: RunTotals) -> None:
    """Judge an account, let its run make some more calls, and store it again."""
    ledger = Ledger()
    ledger.adopt(read, START + 5)
    for made in range(6):
        at = START + 5 + made
        if made:
            shown = session(tokens=50 * made, at=at)
            counters = {**shown.counters, (semconv.API_CALLS, ""): made}
            read.observe(shown._replace(counters=counters), confirmed=True, read_at=at)
        verdict_from_snapshot(ledger.snapshot(read, at), RULES, at)
    codec.to_json(read)
