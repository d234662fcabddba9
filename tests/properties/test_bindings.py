"""Whatever others say of a run that is bound, it is judged as if they had said nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.bindings import ANY_END, Bindings, is_covered
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.storage import codec
from tests.properties.histories import RUN
from tests.properties.strategies import session_ids
from tests.properties.test_ledger_properties import T0, sessions

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict

BOUND = Bindings({RUN: ["a"], "other.*": ["b"]})
#: Its own target, and those of others; one has labels that were added on the way.
OWN, STRANGERS = ("a", 'a{zone="x"}'), ("b", "c", 'b{zone="x"}')


@st.composite
def told(draw: st.DrawFn) -> list[tuple[list[RunObservation], list[RunObservation], bool]]:
    """Return readings: what the run's own target shows, what others do, whether we restart."""
    steps = []
    for step in range(draw(st.integers(1, 8))):
        at = T0 + step * draw(st.sampled_from([0.5, 1.0, 40.0]))

        def seen(targets: tuple[str, ...], at: float = at) -> list[RunObservation]:
            found = draw(st.lists(sessions(), max_size=3))
            return [s._replace(target=draw(st.sampled_from(targets)), sampled_at=at) for s in found]

        steps.append((seen(OWN), seen(STRANGERS), draw(st.booleans())))
    return steps


def judged(
    steps: list[tuple[list[RunObservation], list[RunObservation], bool]], *, disturbed: bool
) -> list[tuple[Verdict, dict[str, Number], RunAttributes] | None]:
    """Return what comes of each step."""
    ledger = Ledger()
    found: list[tuple[Verdict, dict[str, Number], RunAttributes] | None] = []
    for number, (own, others, restart) in enumerate(steps):
        now = max([T0 + number, *(s.sampled_at for s in (*own, *others))])
        if restart:
            fresh = Ledger()
            for known in ledger.runs.values():
                fresh.adopt(codec.from_json(codec.to_json(known)), now)
            ledger = fresh
        seen = (*others, *own) if disturbed else tuple(own)
        ledger.apply(Observation("scrape", now, seen, bindings=BOUND))
        account = ledger.runs.get(RUN)
        if account is None:
            found.append(None)
            continue
        snapshot = ledger.snapshot(account, now, [semconv.ACTIVE_DURATION])
        verdict = verdict_from_snapshot(snapshot, Rules(), now)
        found.append((verdict, dict(account.totals()), account.attributes))
    return found


@given(told())
def test_nothing_that_strangers_say_of_a_bound_run_changes_anything(
    steps: list[tuple[list[RunObservation], list[RunObservation], bool]],
) -> None:
    """Neither its verdict nor what it used nor what is known of it, whoever comes first."""
    assert judged(steps, disturbed=True) == judged(steps, disturbed=False)


@given(st.lists(session_ids, min_size=1, max_size=5), session_ids, st.data())
@example(["a.b"], "a", None)
def test_the_most_specific_pattern_that_matches_binds(
    ids: list[str], session_id: str, data: st.DataObject | None
) -> None:
    """It itself, or the longest beginning; and of two patterns the wider one covers the other."""
    patterns = [*ids, *(each[: len(each) // 2] + ANY_END for each in ids), session_id[:3] + ANY_END]
    if data is not None:
        session_id = data.draw(st.sampled_from([session_id, *ids]))
    found = Bindings(dict.fromkeys(patterns, ("a",))).pattern_of(session_id)
    matching = [p for p in patterns if is_covered(session_id, [p])]
    assert (found is None) == (not matching)
    if found is not None:
        assert found == session_id or session_id not in patterns
        assert len(found) == max(map(len, matching)) or found == session_id
        assert all(is_covered(found, [p]) for p in matching if p.endswith(ANY_END))
