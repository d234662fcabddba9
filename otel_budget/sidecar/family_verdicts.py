"""Verdicts in families: parents are judged before their children, which hear of it in that step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.policy.families import NOTHING_ABOVE, Above, above_children

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.families import Families
    from otel_budget.ledger.run import RunTotals
    from otel_budget.sidecar.verdict_cache import CachedVerdict


class FamilyVerdicts:
    """What the verdicts on runs mean for those below them. Nothing, as long as there are none."""

    def __init__(self, families: Families) -> None:
        """families: of the ledger, up to date whenever runs are judged."""
        self._families = families
        self._for_children: dict[str, Above] = {}
        """Session id of a run to what its newest verdict means for its children."""

    @property
    def are_there(self) -> bool:
        """True if any run is in a family."""
        return bool(self._families.members)

    def in_order(self, runs: Collection[tuple[str, RunTotals]]) -> Iterable[tuple[str, RunTotals]]:
        """Return runs with parents before their children, by session id."""
        members = self._families.members
        if not members:
            return runs
        related = {session_id: run for session_id, run in runs if session_id in members}
        order = (each for each in self._families.in_order() if each in related)
        alone = [(session_id, run) for session_id, run in runs if session_id not in members]
        return [*alone, *((session_id, related[session_id]) for session_id in order)]

    def with_relatives(self, session_ids: Iterable[str]) -> tuple[str, ...]:
        """Return runs together with all that belong to their families, each once."""
        found: dict[str, None] = {}
        for session_id in session_ids:
            if session_id not in found:
                found[session_id] = None
                found.update(dict.fromkeys(self._families.family_of(session_id)))
        return tuple(found)

    def above(self, session_id: str) -> Above:
        """Return what holds for a run because of those above it, as they were judged last."""
        member = self._families.members.get(session_id)
        if member is None or member.parent is None:
            return NOTHING_ABOVE
        return self._for_children.get(member.parent.session_id, NOTHING_ABOVE)

    def concerns(self, session_id: str, above: Above, before: CachedVerdict | None) -> bool:
        """Tell whether a run must be judged again, though nothing of its own changed.

        above: what holds for it now. before: its last verdict.
        """
        return session_id in self._families.moved or (
            before is not None and before.stopped_above != above.stopped_by
        )

    def note(self, verdict: Verdict, above: Above) -> None:
        """Take note of the verdict that a run has as of this step. above: what it was judged by."""
        member = self._families.members.get(verdict.session_id)
        if member is not None and member.children:
            self._for_children[verdict.session_id] = above_children(verdict, above)
        elif self._for_children:
            self._for_children.pop(verdict.session_id, None)

    def published(self, session_ids: Iterable[str], gone: Iterable[str]) -> None:
        """Take note that verdicts are out. gone: runs that are not known any more."""
        if self._families.moved:
            self._families.moved.difference_update(session_ids)
        for session_id in gone:
            self._for_children.pop(session_id, None)
