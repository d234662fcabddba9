"""Runs that belong together: which run is below which, and what all below one have used.

The rules:
- A run names its parent by session id. The link is made once the parent is known, and holds until
  the run names another one. It is not made, and that is said once, where the parent is unknown, was
  over before the run began, is the run's own descendant, or the chain would get too long.
- A parent that is over goes on to hold for those that began before its end, and is not forgotten
  while one of them is known: what it forbids would be forgotten with it.
- What a run used counts once at every run above it. What of it left the ledger, or was used under
  another parent, is kept with the run that it was below at that time (``RunTotals.bequeathed``) and
  is no longer counted with the run itself (``RunTotals.disowned``).

A run that changed costs as many steps as there are runs above it; one that did not costs none, and
without families there is nothing to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.core.resources import COUNTED
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.ledger.findings import Finding, FindingKind
from otel_budget.ledger.process import UNSURE
from otel_budget.ledger.snapshot import NO_PACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.ledger.run import RunTotals
    from otel_budget.ledger.snapshot import RunSnapshot

#: Runs one below the other, at most: what is deeper has no parent.
DEPTH_MOST: Final = 100
#: Seconds after which a parent that nobody has shown is said to be unknown: it may be shown next.
UNKNOWN_AFTER: Final = 30.0

Amounts = dict[str, "Number"]
"""Resources, and kinds of calls that are not sure (``UNSURE``), to how much of them."""


class Member:
    """A run with a parent, or with children; or what is known of one that nobody showed yet."""

    __slots__ = (
        "at_report", "below", "children", "claimed", "given", "parent", "report", "run", "said",
        "session_id", "stopped_by", "unknown_since",
    )  # fmt: skip

    def __init__(self, session_id: str) -> None:
        """Begin without a link."""
        self.session_id = session_id
        self.run: RunTotals | None = None
        """None: nobody shows it."""
        self.claimed: str | None = None
        """The parent that it names."""
        self.parent: Member | None = None
        """The one that holds for it."""
        self.children: dict[str, Member] = {}
        """Those for which it holds."""
        self.below: Amounts = {}
        """What its descendants used."""
        self.given: Amounts = {}
        """What of its own, and of its descendants, counts at its parent."""
        self.report: tuple[object, ...] = ()
        """The report of its progress that ``at_report`` belongs to."""
        self.at_report: Amounts = {}
        """What was used below it when it reported its progress."""
        self.said: set[tuple[FindingKind, str]] = set()
        self.unknown_since: float | None = None
        self.stopped_by: str | None = None
        """The run above it that stops it, by its last verdict; policy's."""

    @property
    def is_held(self) -> bool:
        """True if the parent that it names held for it before, maybe in another process."""
        return (
            self.run is not None and self.claimed is not None and (self.run.held_by == self.claimed)
        )

    def above(self) -> Iterator[Member]:
        """Yield those above it, the nearest first."""
        member = self.parent
        while member is not None:
            yield member
            member = member.parent

    def with_below(self) -> Amounts:
        """Return what was used below it, also by runs that are not known any more."""
        return _sum(self.below, {} if self.run is None else self.run.bequeathed)

    def gives(self) -> Amounts:
        """Return what counts at its parent: all that it, and those below it, used under it."""
        run = self.run
        if run is None:
            return {}
        total = _sum(own_amounts(run), self.with_below())
        less = run.disowned
        return _less(total, less) if less else total


_NOBODY: Final = Member("")


class Families:
    """Who is below whom among the runs of a ledger."""

    def __init__(self, findings: list[Finding]) -> None:
        """Know of none. findings: what is strange is added."""
        self.members: dict[str, Member] = {}
        self.moved: set[str] = set()
        """Session ids of runs below which something was used, or came or went, since it was
        taken."""
        self._findings = findings
        self._claims: dict[str, set[str]] = {}
        """Session id to those who name it as their parent."""
        self._changed: set[str] = set()
        self._loose: set[str] = set()
        """Those that name a parent that does not hold for them."""
        self._in_order: list[str] | None = None
        self._numbers: dict[str, int] = {}
        """Session id to how many runs are below it, of those that were asked for."""

    def note(self, run: RunTotals) -> None:
        """Take note that something of a run may have changed."""
        if run.attributes.parent is not None or (
            self._claims and (run.session_id in self._claims or run.session_id in self.members)
        ):
            self._changed.add(run.session_id)

    def settle(self, runs: Mapping[str, RunTotals]) -> None:
        """Bring links and sums up to date with those runs of the ledger that were noted."""
        if not self._changed:
            return
        waiting, self._changed = sorted(self._changed, reverse=True), set()
        again: set[str] = set()
        taken = []
        while waiting:
            run = runs.get(waiting.pop())
            if run is None:
                continue
            taken.append(run)
            again |= self._take(run)
            parent = run.attributes.parent
            if (
                parent is not None
                and parent in runs
                and (self.members.get(parent) or _NOBODY).run is None
            ):
                waiting.append(parent)  # it was there before anybody named it
        names = again | (self._loose if again else set())
        open_links = [self.members[name] for name in names if name in self.members]
        for member in sorted(open_links, key=lambda one: (not one.is_held, one.session_id)):
            self._try_link(member)
        for run in taken:
            self._note_report(run)

    def ancestors(self, session_id: str) -> tuple[RunTotals, ...]:
        """Return the runs above one, the nearest first."""
        member = self.members.get(session_id)
        if member is None or member.parent is None:
            return ()
        return tuple(above.run for above in member.above() if above.run is not None)

    def labels_above(self, run: RunTotals) -> tuple[Mapping[str, str], ...]:
        """Return what the runs above a run say of whose they are, the nearest first."""
        return tuple(above.attributes.labels or {} for above in self.ancestors(run.session_id))

    def descendants(self, session_id: str) -> Iterator[str]:
        """Yield the session ids of those below a run, parents before their children."""
        member = self.members.get(session_id)
        waiting = [] if member is None else [*member.children.values()]
        while waiting:
            waiting, row = [], waiting
            for each in row:
                yield each.session_id
                waiting += each.children.values()

    def family_of(self, session_id: str) -> Iterator[str]:
        """Yield the session ids of all that a run belongs together with, parents first."""
        member = self.members.get(session_id)
        if member is not None:
            *_, root = member, *member.above()
            yield root.session_id
            yield from self.descendants(root.session_id)

    def in_order(self) -> list[str]:
        """Return the session ids of all members that are known, parents before their children."""
        if self._in_order is None:
            roots = [i for i, m in self.members.items() if m.parent is None]
            self._in_order = [
                each
                for root in roots
                for each in (root, *self.descendants(root))
                if self.members[each].run is not None
            ]
        return self._in_order

    def keeps(self, run: RunTotals) -> bool:
        """Tell whether a run must not be forgotten: it holds for others that are known."""
        member = self.members.get(run.session_id)
        return member is not None and member.run is run and bool(member.children)

    def together(self, snapshot: RunSnapshot, run: RunTotals) -> RunSnapshot:
        """Return the snapshot of a run with what all below it used in it; its times are its own.

        What its calls are like says nothing of those of others: of the sum nothing is foretold.
        """
        member = self.members.get(run.session_id)
        if member is None or member.run is not run:
            member = None
        more = run.bequeathed if member is None else member.with_below()
        if not more:
            return snapshot
        resources = {name: number for name, number in more.items() if name in COUNTED}
        at_report = resources if member is None else member.at_report
        then = snapshot.used_at_progress
        return snapshot._replace(
            used=_sum(snapshot.used, resources),
            used_at_progress={name: n + at_report.get(name, 0) for name, n in then.items()},  # type: ignore[operator] # both are of one resource
            uncertainty=_unsure_together(snapshot.uncertainty, more),
            rates={},
            pace=NO_PACE,
            descendants=0 if member is None else self._number_below(run.session_id),
        )

    def _number_below(self, session_id: str) -> int:
        number = self._numbers.get(session_id)
        if number is None:
            number = self._numbers[session_id] = sum(1 for _ in self.descendants(session_id))
        return number

    def _restructured(self) -> None:
        """Take note that another run is in a family, or another link, than before."""
        self._in_order = None
        self._numbers.clear()

    def forget(self, run: RunTotals) -> None:
        """Take note that a run is not in the ledger any more: what it used stays above it."""
        member = self.members.get(run.session_id)
        if member is None or member.run is not run:
            return
        self._unlink(member)
        self._claim(member, None)
        member.run = None
        self._loose.discard(run.session_id)
        self._changed.discard(run.session_id)
        self.moved.discard(run.session_id)
        self._drop_if_alone(member)
        self._restructured()

    # --- one run -----------------------------------------------------------------------------
    def _take(self, run: RunTotals) -> set[str]:
        """Take a run as it is now; return those whose link is to be looked at."""
        session_id = run.session_id
        member = self.members.get(session_id)
        if member is None:
            member = self.members[session_id] = Member(session_id)
            self._restructured()
        again: set[str] = set()
        if member.run is not run:
            self._replace(member, run)
            again |= self._claims.get(session_id, set())
        elif session_id in self._claims:
            again |= self._claims[session_id] & self._loose  # it may be over, or not any more
        self._pass_on(member)
        if run.attributes.parent != member.claimed:
            self._unlink(member)
            self._claim(member, run.attributes.parent)
            again.add(session_id)
            self._pass_on(member)
        if self._drop_if_alone(member):
            again.discard(session_id)
        return again

    def _replace(self, member: Member, run: RunTotals) -> None:
        """Take another run in the place of one of the same id; what that used stays above it."""
        before, parent = member.run, member.parent
        if before is not None and parent is not None and parent.run is not None:
            _add(parent.below, member.given, -1)
            parent.run.bequeath(member.given)
            run.disown(member.below)  # those below it are in what is left there
            member.given = {}
        if parent is not None:
            run.hold_by(parent.session_id)
        member.run = run
        member.said.clear()
        self._restructured()

    def _claim(self, member: Member, parent: str | None) -> None:
        """Take note of which parent a run names."""
        if member.claimed is not None:
            claims = self._claims.get(member.claimed, set())
            claims.discard(member.session_id)
            if not claims:
                self._claims.pop(member.claimed, None)
                above = self.members.get(member.claimed)
                member.claimed = None
                if above is not None:
                    self._drop_if_alone(above)
        member.claimed, member.unknown_since = parent, None
        if parent is not None:
            self._claims.setdefault(parent, set()).add(member.session_id)

    def _drop_if_alone(self, member: Member) -> bool:
        """Forget a member that has no part in any family; tell whether it is gone."""
        if member.claimed is not None or member.session_id in self._claims:
            return False
        self._loose.discard(member.session_id)
        self.members.pop(member.session_id, None)
        self._restructured()
        return True

    def _pass_on(self, member: Member) -> None:
        """Have those above a run count what it and those below it give by now."""
        child: Member | None = member
        while child is not None:
            gives = child.gives()
            if gives == child.given:
                return
            parent = child.parent
            if parent is not None:
                _add(parent.below, gives)
                _add(parent.below, child.given, -1)
                self.moved.add(parent.session_id)
            child.given, child = gives, parent

    def _note_report(self, run: RunTotals) -> None:
        """Take note of what was used below a run when it reported its progress."""
        member, said = self.members.get(run.session_id), run.attributes
        if member is None:
            return
        report = (
            said.progress, said.progress_tokens, said.progress_api_calls, said.progress_cost,
            said.progress_further,
        )  # fmt: skip
        if report != member.report:
            member.report, member.at_report = report, member.with_below()

    # --- links -------------------------------------------------------------------------------
    def _try_link(self, member: Member) -> None:
        """Link a run with the parent that it names, if that can be."""
        if member.parent is not None or member.run is None or member.claimed is None:
            self._loose.discard(member.session_id)
            return
        self._loose.add(member.session_id)
        if member.claimed == member.session_id:
            self._say(member, FindingKind.OWN_DESCENDANT)
            return
        parent = self.members.get(member.claimed)
        if parent is None or parent.run is None:
            return  # said later, if it stays so
        member.unknown_since = None
        chain = [parent, *parent.above()]
        if member in chain:
            self._say(member, FindingKind.OWN_DESCENDANT)
        elif not member.is_held and was_over(parent.run, member.run):
            self._say(member, FindingKind.PARENT_OVER)
        elif len(chain) + _height(member, DEPTH_MOST) > DEPTH_MOST:
            self._say(member, FindingKind.FAMILY_DEEP)
        else:
            self._loose.discard(member.session_id)
            member.run.hold_by(parent.session_id)
            member.parent = parent
            parent.children[member.session_id] = member
            _add(parent.below, member.given)
            self.moved |= {parent.session_id, member.session_id}
            self._restructured()
            self._pass_on(parent)

    def _unlink(self, member: Member) -> None:
        """Let a run go from below its parent; what it used until now stays with that."""
        parent, run = member.parent, member.run
        if parent is None:
            return
        member.parent = None
        parent.children.pop(member.session_id, None)
        _add(parent.below, member.given, -1)
        if parent.run is not None:
            parent.run.bequeath(member.given)
        if run is not None:
            run.hold_by(None)
            run.disown(_sum(own_amounts(run), member.with_below()))
        member.given = {}
        self.moved |= {parent.session_id, member.session_id}
        self._restructured()

    # --- what is said ------------------------------------------------------------------------
    def say_unknown(self, now: float) -> None:
        """Say of which runs the parent has not been seen for a while. Call it at every step."""
        for session_id in sorted(self._loose):
            member = self.members[session_id]
            parent = self.members.get(member.claimed or "")
            if (parent is not None and parent.run is not None) or member.claimed == session_id:
                continue
            if member.unknown_since is None:
                member.unknown_since = now
            elif now - member.unknown_since >= UNKNOWN_AFTER:
                self._say(member, FindingKind.PARENT_UNKNOWN)

    def _say(self, member: Member, kind: FindingKind) -> None:
        """Say what is wrong with a parent, once for each that is named."""
        parent = member.claimed or ""
        if (kind, parent) not in member.said:
            member.said.add((kind, parent))
            self._findings.append(Finding(kind, member.session_id, said=parent))


def was_over(parent: RunTotals, child: RunTotals) -> bool:
    """Tell whether a run was over before another one began, as far as that is known."""
    ended_at = parent.vanished_at if parent.ended_at is None else parent.ended_at
    if ended_at is None:
        return False
    lasted = parent.attributes.duration
    if parent.ended_at is not None and lasted is not None:
        ended_at = min(ended_at, parent.began_at + lasted)  # it was seen a while after
    return child.began_at > ended_at


def own_amounts(run: RunTotals) -> Amounts:
    """Return what a run used itself, and how many calls of it are not sure."""
    amounts: Amounts = dict(run.totals())
    unsure = run.uncertainty
    for name in UNSURE:
        calls = getattr(unsure, name)
        if calls:
            amounts[name] = calls
    return amounts


def _unsure_together(one: UsageUncertainty, more: Mapping[str, Number]) -> UsageUncertainty:
    calls = {name: getattr(one, name) + int(more.get(name, 0)) for name in UNSURE}
    return UsageUncertainty(**calls, alternating=one.alternating)


def _height(member: Member, most: int) -> int:
    """Return how many generations there are from a run on, at most one more than ``most``."""
    row, height = [member], 0
    while row and height <= most:
        height += 1
        row = [child for each in row for child in each.children.values()]
    return height


def _sum(one: Mapping[str, Number], other: Mapping[str, Number]) -> Amounts:
    total = dict(one)
    _add(total, other)
    return total


def _less(total: Amounts, less: Mapping[str, Number]) -> Amounts:
    rest = dict(total)
    _add(rest, less, -1)
    return {name: number for name, number in rest.items() if number > 0}


def _add(to: Amounts, more: Mapping[str, Number], sign: int = 1) -> None:
    for name, number in more.items():
        to[name] = to.get(name, 0) + sign * number  # type: ignore[operator] # both are of one resource
