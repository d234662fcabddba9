"""Random histories of runs that share budgets: no token is lost in the books, and none is twice.

The model is the contract's invariant: in the books of a budget, over all windows, there is what the
runs that matched used since the budget is counted, in the group of the labels that they had then,
their own or those of the runs above them, each token as it is weighed.
What a run used the ledger says, and which runs are above it; that is tested elsewhere.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otel_budget import semconv
from otel_budget.core.budget import Budget, Group, Window, WindowKind
from otel_budget.core.observation import Observation, RunAttributes, RunObservation, shared_labels
from otel_budget.core.quantities import Number
from otel_budget.core.token_kinds import KIND_COUNTERS, with_parts
from otel_budget.ledger.book_values import ClosedWindow
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.storage import book_rows
from otel_budget.sidecar.storage.base import StorageError
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.figures import length

START = 1_782_820_000.0  # some minutes before the end of a month
IDS, TEAMS = ("one", "two", "three"), ("core", "base", "")
WINDOWS = {
    "total": Window(WindowKind.TOTAL),
    "hour": Window(WindowKind.CALENDAR, every="hour"),
    "month": Window(WindowKind.CALENDAR, every="month"),
    "rolling": Window(WindowKind.ROLLING, 3600.0),
    "first": Window(WindowKind.FIRST_USE, 1800.0),
}
WINDOWS |= {
    "weighed": WINDOWS["rolling"],
    "cached": WINDOWS["hour"],
    "family": WINDOWS["first"],
    "members": WINDOWS["hour"],
}
WEIGHTS = {
    "weighed": {"cache_read": 100, "output": 4000, "input": 333},
    "cached": {"cache_read": 0},
    "members": {"output": 2500},
}
#: Of those that are for one team: its runs, and all below them.
MATCHES: dict[str, dict[str, tuple[str, ...]]] = {
    "family": {"team": ("core",)},
    "members": {"team": ("core", "base")},
}
PER = {name: () if name == "family" else ("team",) for name in WINDOWS}
FOREVER = 1e9
#: Seconds after which a run that ended is forgotten.
FORGOTTEN = 3700


def budget(name: str, limit: int = 100) -> Budget:
    """Return a budget with one of the windows."""
    return Budget(
        name, WINDOWS[name], {semconv.TOKENS: limit}, match=MATCHES.get(name, {}), per=PER[name],
        weights=WEIGHTS.get(name, {}),
    )  # fmt: skip


def thousandths(name: str, tokens: int, kinds: Counter[str]) -> int:
    """Return what tokens count in a budget: those of a kind as it says, all others whole.

    Should there be more of the kinds than tokens, the dearest are taken.
    """
    weights = WEIGHTS.get(name, {})
    each = sorted((weights.get(kind, 1000) for kind in kinds.elements()), reverse=True)[:tokens]
    return sum(each) + (tokens - len(each)) * 1000


class Program:
    """A process that carries a run, as its page shows it."""

    def __init__(self, started_at: float, carried: int = 0) -> None:
        self.started_at = self.incarnation_at = started_at
        self.used, self.carried, self.team = 0, carried, "core"
        self.kinds: Counter[str] = Counter()
        self.parent: str | None = None
        self.state = "running"

    def use(self, tokens: int, share: int) -> None:
        """Use so many tokens. share: percent that came from the cache; a fifth is output."""
        cached, written = tokens * share // 100, tokens // 5
        written = min(written, tokens - cached)
        self.used += tokens
        self.kinds.update(
            {"input": tokens - cached - written, "cache_read": cached, "output": written}
        )

    def begin(self) -> None:
        """Count from 0."""
        self.used, self.kinds = 0, Counter()


class BooksMachine(RuleBasedStateMachine):
    """Programs, a sidecar with a storage that is killed, and edits of its budgets."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now, self.boot = START, START
        self.budgets: tuple[Budget, ...] = ()
        self.programs: dict[str, Program] = {}
        self.past: dict[str, Program] = {}
        self.before: dict[str, dict[float, Counter[str]]] = {}
        """Session id to what each of its runs had used, by start, as the ledger said last: in all
        under no name, and of each kind."""
        self.booked: Counter[tuple[str, float, tuple[str, ...]]] = Counter()
        """Name, since when it is counted, and group, to the thousandths that are to be there."""
        self.since: dict[str, float] = {}
        self.failing = False
        self.open()

    def open(self) -> None:
        """Begin with what is stored."""
        self.storage, restored = open_sqlite(str(Path(self.folder.name) / "db"), lambda: self.now)
        self.evaluator = Evaluator(self.storage, restored, self.now)
        forget = self.ledger.forget

        def noted(*arguments: Any, **others: Any) -> Any:
            self.note_use()  # one that is brought back may be let go in the same step
            return forget(*arguments, **others)

        self.ledger.forget = noted
        self.keep()

    def keep(self) -> None:
        """Take note that all of the model is stored."""
        before = {session_id: dict(runs) for session_id, runs in self.before.items()}
        self.kept = Counter(self.booked), before, dict(self.since)

    def teardown(self) -> None:
        """Leave nothing open."""
        self.storage.close()
        self.folder.cleanup()

    @property
    def ledger(self) -> Any:
        """The ledger of the present process."""
        return self.evaluator._ledger

    def tick(self, *samples: RunObservation) -> None:
        """Do one step, and write into the model what the ledger noticed in it."""
        rules = Rules(budgets=self.budgets)
        self.ledger.use_budgets(self.budgets, self.now)
        self.ledger.books.advance(self.now)
        for each in self.budgets:
            self.since.setdefault(each.name, self.now)
        if self.failing:
            self.evaluator._storage = _Full(self.storage)
            self.evaluator._disk._storage = self.evaluator._storage
        try:
            self.evaluator.tick(Observation("scrape", self.now, samples), rules, FOREVER, self.now)
        except StorageError:
            assert self.failing
        finally:
            self.evaluator._storage = self.evaluator._disk._storage = self.storage
        self.note_use()
        if not self.failing:
            self.keep()

    def note_use(self) -> None:
        """Write into the model what the ledger noticed since the last time."""
        for session_id, run in self.ledger.runs.items():
            known = self.before.setdefault(session_id, {})
            starts = (run.started_at, *run.also)
            used = Counter({"": int(run.totals().get(semconv.TOKENS, 0)), **run.token_kinds()})
            more = Counter(used)
            for start in starts:
                more.subtract(known.get(start, Counter()))
                known[start] = Counter()
            tokens = more.pop("")
            if not tokens:  # what is learnt of kinds alone counts with the next tokens
                used = Counter({"": used[""]}) + Counter(run.token_kinds())
                used.subtract(more)
            known[run.started_at] = used
            teams = self.teams_of(run)
            for each in self.budgets:
                matching = [t for t in teams if not each.match or t in each.match["team"]]
                if matching:
                    group = (matching[0],) if each.per else ()
                    counted = thousandths(each.name, tokens, more)
                    self.booked[each.name, self.since[each.name], group] += counted

    def teams_of(self, run: Any) -> list[str]:
        """Return the team of a run and of each above it, each as it is or as it is inherited."""
        teams, inherited = [], ""
        for one in reversed((run, *self.ledger.families.ancestors(run.session_id))):
            inherited = (one.attributes.labels or {}).get("team", "") or inherited
            teams.append(inherited)
        return teams[::-1]

    @initialize(names=st.sets(st.sampled_from(sorted(WINDOWS)), min_size=1))
    def configure(self, names: set[str]) -> None:
        """Begin with some budgets."""
        self.budgets = tuple(budget(name) for name in sorted(names))
        self.tick()

    @rule(
        session_id=st.sampled_from(IDS), tokens=st.integers(0, 50),
        share=st.sampled_from([0, 33, 90]), late=st.sampled_from([0, 0, 40]),
    )  # fmt: skip
    def use(self, session_id: str, tokens: int, share: int, late: int) -> None:
        """Let a program use something, and its page be read, perhaps a while after it was made."""
        program = self.programs.setdefault(session_id, Program(self.now - 1))
        program.use(tokens, share)
        self.tick(self.shown(session_id, program, late))

    def shown(self, session_id: str, program: Program, late: float = 0) -> RunObservation:
        """Return what a page shows."""
        attributes = RunAttributes(
            started_at=program.started_at,
            incarnation_at=program.incarnation_at,
            carried_over={semconv.TOKENS: program.carried},
            state=program.state,
            parent=program.parent,
            labels=shared_labels({"team": program.team} if program.team else {}),
        )
        shown = with_parts(program.kinds) if program.kinds else {}
        counters: dict[tuple[str, str], Number] = {
            (KIND_COUNTERS[kind], ""): shown.get(kind, 0) for kind in shown
        }
        counters[semconv.TOKENS, ""] = program.used
        at = max(self.now - late, program.started_at)
        return RunObservation(session_id, session_id, at, counters, attributes)

    @rule(tokens=st.integers(0, 50))
    def unseen(self, tokens: int) -> None:
        """Let all programs use something that nobody reads yet."""
        for program in self.programs.values():
            program.use(tokens, 50)

    @rule(session_id=st.sampled_from(IDS), parent=st.sampled_from([*IDS, "nobody", None]))
    def name_parent(self, session_id: str, parent: str | None) -> None:
        """Let a run name another parent, which may be itself, below it, or nobody."""
        if session_id in self.programs:
            self.programs[session_id].parent = parent

    @rule(session_id=st.sampled_from(IDS), long=st.booleans())
    def end(self, session_id: str, *, long: bool) -> None:
        """Let a run end; after a long time it is forgotten, if nothing below it is alive."""
        program = self.programs.get(session_id)
        if program is not None:
            program.state = semconv.COMPLETED
            self.tick(self.shown(session_id, program))
            if long:
                self.wait(FORGOTTEN)

    @rule(session_id=st.sampled_from(IDS), team=st.sampled_from(TEAMS))
    def move(self, session_id: str, team: str) -> None:
        """Let a run change its labels."""
        if session_id in self.programs:
            self.programs[session_id].team = team

    @rule(session_id=st.sampled_from(IDS))
    def reset(self, session_id: str) -> None:
        """Let a counter begin at 0 again."""
        if session_id in self.programs:
            self.programs[session_id].begin()

    @rule(session_id=st.sampled_from(IDS))
    def resume(self, session_id: str) -> None:
        """Let another process go on with a run, from a checkpoint of the present moment."""
        program = self.programs.get(session_id)
        if program is not None:
            program.carried += program.used
            program.begin()
            program.incarnation_at, program.state = self.now, semconv.RUNNING

    @rule(session_id=st.sampled_from(IDS))
    def begin_again(self, session_id: str) -> None:
        """Let another run begin under an id."""
        if session_id in self.programs:
            self.past[session_id] = self.programs[session_id]
            self.programs[session_id] = Program(self.now)

    @rule(session_id=st.sampled_from(IDS), tokens=st.integers(1, 50))
    def come_back(self, session_id: str, tokens: int) -> None:
        """Let the run before the present one under an id go on, long after it was seen."""
        if session_id in self.past:
            self.programs[session_id] = self.past.pop(session_id)
            for _ in range(3):
                self.now += 300
                self.tick()
                self.programs[session_id].use(tokens, 10)
                self.tick(self.shown(session_id, self.programs[session_id]))

    @rule(session_id=st.sampled_from(IDS), tokens=st.integers(1, 50))
    def both_go_on(self, session_id: str, tokens: int) -> None:
        """Let the run before the present one under an id go on beside it: they count together."""
        if session_id in self.past:
            for _ in range(3):
                for program in (self.past[session_id], self.programs[session_id]):
                    self.now += 5
                    program.use(tokens, 10)
                    self.tick(self.shown(session_id, program))

    @rule(seconds=st.sampled_from([1, 30, 61, 900, 3700, 8000, 86_400]))
    def wait(self, seconds: float) -> None:
        """Let time pass, and nothing else."""
        self.now += seconds
        self.tick()

    @rule(away=st.sampled_from([0, 5, 4000]))
    def kill(self, away: float) -> None:
        """End the process; the next one begins with what it stored."""
        self.storage.close()
        self.booked, self.before, self.since = self.kept
        self.now += away
        self.open()
        self.tick()

    @rule(full=st.booleans())
    def fill_disk(self, *, full: bool) -> None:
        """Let the storage fail from now on, or work again."""
        self.failing = full

    @rule(name=st.sampled_from(sorted(WINDOWS)), limit=st.integers(0, 300))
    def edit(self, name: str, limit: int) -> None:
        """Configure another limit."""
        self.budgets = tuple(budget(b.name, limit) if b.name == name else b for b in self.budgets)
        self.tick()

    @rule(name=st.sampled_from(sorted(WINDOWS)))
    def take_out_or_in(self, name: str) -> None:
        """Configure a budget, or none of a name any more."""
        if any(b.name == name for b in self.budgets):
            self.budgets = tuple(b for b in self.budgets if b.name != name)
        else:
            self.budgets = (*self.budgets, budget(name))
        self.tick()

    @invariant()
    def nothing_is_lost_or_twice(self) -> None:
        """In the books there is what was used, over all windows and in each group."""
        found: Counter[tuple[str, float, tuple[str, ...]]] = Counter()
        books = self.ledger.books
        for name, book in books._books.items():
            for group, one in book.groups.items():
                for cell in one.cells.values():
                    if not cell.closed:
                        tokens = int(cell.used.get(semconv.TOKENS, 0))
                        found[name, book.counted_from, group] += tokens
        for window in books.unstored().closings:
            tokens = int(window.used[semconv.TOKENS]) if window.used else 0
            found[window.budget, window.counted_from, window.group or ()] += tokens
        for name in WINDOWS:
            for group in [(team,) for team in TEAMS] if PER[name] else [()]:
                for window in self.closed(name, group):
                    tokens = int(window.used.get(semconv.TOKENS, 0))
                    found[name, window.counted_from, group] += tokens
        assert {k: n for k, n in found.items() if n} == {k: n for k, n in self.booked.items() if n}

    def closed(self, name: str, group: Group) -> list[ClosedWindow]:
        """Return the windows that are over as they are stored, with tokens in thousandths."""
        rows = self.storage._db.execute(
            "SELECT CAST(body AS BLOB) FROM budget_window WHERE budget = ? AND group_key = ?",
            (name, book_rows.group_key(group)),
        )
        return [book_rows.window_of(body) for (body,) in rows]

    @invariant()
    def the_present_window_is_the_sum_of_its_cells(self) -> None:
        """No sum runs away from what it is of."""
        for book in self.ledger.books._books.values():
            for one in book.groups.values():
                if book._rolls:
                    cells = sum(int(c.used.get(semconv.TOKENS, 0)) for c in one.cells.values())
                    assert int(one.total.get(semconv.TOKENS, 0)) == cells
                assert all(int(n) >= 0 for c in one.cells.values() for n in c.used.values())


class _Full:
    """A storage whose disk is full."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def commit(self, _changes: object) -> None:
        """Fail."""
        raise StorageError("disk is full")


def test_a_run_that_comes_back_long_after_another_took_its_place_is_booked_once() -> None:
    """It is not watched any more by then: what it used before is in the archive, and booked."""
    machine = BooksMachine()
    try:
        machine.configure({"month", "rolling", "weighed"})
        machine.use("one", 42, 0, 0)
        machine.begin_again("one")
        machine.use("one", 50, 90, 0)
        machine.wait(8000)
        machine.come_back("one", 36)
        machine.nothing_is_lost_or_twice()
    finally:
        machine.teardown()


TestBooks = BooksMachine.TestCase
TestBooks.settings = settings(max_examples=length(40, 1000), stateful_step_count=40, deadline=None)
