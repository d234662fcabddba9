"""Random histories of a run against a simple model: nothing lost, nothing twice, never less."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otel_budget import semconv
from otel_budget.core.observation import RunObservation
from otel_budget.core.quantities import Number
from otel_budget.ledger.ledger import Ledger
from tests.properties.histories import RUN, Process, money, reading, restarted, shown, total
from tests.support.figures import length, note

PLACES = st.sampled_from(["a", "b", "c"])
AMOUNTS = st.integers(0, 50)


class History(RuleBasedStateMachine):
    """A run, its processes, its checkpoints, and a sidecar that comes and goes."""

    def __init__(self) -> None:
        """Begin before anything was seen."""
        super().__init__()
        self.ledger = Ledger()
        self.now = 1000.0
        self.run = 1000.0
        self.processes: list[Process] = []
        self.checkpoints = [0]
        self.old: list[RunObservation] = []
        self.before: dict[str, Number] = {}

    @initialize(place=PLACES)
    def begin(self, place: str) -> None:
        """The run begins in its first process."""
        self.processes = [Process(self.now, 0, place)]

    @rule(seconds=st.sampled_from([0.5, 1.0, 30.0, 500.0]))
    def time_passes(self, seconds: float) -> None:
        """Nobody looks for a while."""
        self.now += seconds

    @rule(data=st.data(), tokens=AMOUNTS)
    def use(self, data: Any, tokens: int) -> None:
        """A live process uses something."""
        for process in self._one_alive(data):
            process.used += tokens

    @rule(data=st.data())
    def save(self, data: Any) -> None:
        """A live process writes a checkpoint."""
        for process in self._one_alive(data):
            self.checkpoints.append(process.carried_over + process.used)

    @rule(data=st.data(), place=PLACES, kill=st.booleans())
    def resume(self, data: Any, place: str, *, kill: bool) -> None:
        """A new process takes the run up from some checkpoint; the old ones may live on."""
        carried_over = data.draw(st.sampled_from(self.checkpoints))
        self.now += 0.25
        for process in self.processes:
            process.alive &= not (kill or process.target == place)
        self.processes.append(Process(self.now, carried_over, place))

    @rule(data=st.data())
    def die(self, data: Any) -> None:
        """A process is killed."""
        for process in self._one_alive(data):
            process.alive = False

    @rule(data=st.data(), tokens=AMOUNTS)
    def reset(self, data: Any, tokens: int) -> None:
        """A counter begins anew without a new process."""
        for process in self._one_alive(data):
            process.used = tokens

    @rule(data=st.data(), partial=st.booleans(), twice=st.booleans())
    def look(self, data: Any, *, partial: bool, twice: bool) -> None:
        """Some of what lives is seen, in any order, perhaps through a second target as well."""
        self.now += 0.25
        alive = [p for p in self.processes if p.alive]
        some = data.draw(st.lists(st.sampled_from(alive), unique_by=id)) if alive else []
        sessions = []
        for process in some:
            targets = [process.target, f"{process.target}-twin"] if twice else [process.target]
            for target in targets:
                process.seen.setdefault(target, []).append(process.used)
                sessions.append(shown(process, self.now, run=self.run, target=target))
        self.ledger.apply(reading(self.now, sessions, partial=partial))
        self.old += sessions

    @rule(data=st.data())
    def look_without_a_name(self, data: Any) -> None:
        """A partial reading has lost the start time of a process that was seen there last."""
        for process in self._one_alive(data):
            later = [p for p in self.processes if p.target == process.target and p.seen]
            if process.target in process.seen and later[-1] is process:
                self.now += 0.25
                process.seen[process.target].append(process.used)
                session = shown(process, self.now, run=self.run, named=False)
                self.ledger.apply(reading(self.now, [session], partial=True))

    @rule(data=st.data())
    def hear_late(self, data: Any) -> None:
        """A reading arrives for a second time, after newer ones: it says nothing new."""
        if self.old:
            late = data.draw(st.sampled_from(self.old))
            self.ledger.apply(reading(self.now, [late]))

    @rule()
    def see_nothing(self) -> None:
        """An empty reading is not a reading of 0."""
        self.ledger.apply(reading(self.now, []))

    @rule()
    def restart(self) -> None:
        """The sidecar is killed and reads its storage."""
        self.ledger = restarted(self.ledger, self.now)

    @precondition(lambda self: len({p.target for p in self.processes if p.seen}) == 1)
    @rule()
    def begin_anew(self) -> None:
        """A new run at the same target begins at 0, whatever is left of the old one.

        Not while another target carries that: it may be alive there.
        """
        self.now += 0.25
        place = next(p.target for p in self.processes if p.seen)
        leftovers, self.run = self.old, self.now
        self.processes, self.checkpoints = [Process(self.now, 0, place)], [0]
        self.old, self.before = [], {}
        self.look_at_first()
        if leftovers:
            self.ledger.apply(reading(self.now, leftovers[-1:]))

    def look_at_first(self) -> None:
        """See the first process of the run."""
        (process,) = self.processes
        process.seen[process.target] = [process.used]
        self.ledger.apply(reading(self.now, [shown(process, self.now, run=self.run)]))

    @invariant()
    def the_total_is_that_of_the_model(self) -> None:
        """In tokens and in money; what was never exported stays unknown."""
        if not any(process.seen for process in self.processes):
            return
        used = self.ledger.snapshot(self.ledger.runs[RUN], self.now).used
        expected = total(self.processes)
        assert (used[semconv.TOKENS], used[semconv.COST]) == (expected, money(expected))
        assert semconv.API_CALLS not in used

    @invariant()
    def nothing_ever_goes_down(self) -> None:
        """Neither use nor time, nor is a limit forgotten."""
        account = self.ledger.runs.get(RUN)
        if account is None:
            return
        used = self.ledger.snapshot(account, self.now).used
        assert all(used[name] >= value for name, value in self.before.items())
        assert account.attributes.limits == {semconv.TOKENS: 10}
        self.before = dict(used)

    def _one_alive(self, data: Any) -> list[Process]:
        alive = [process for process in self.processes if process.alive]
        return [data.draw(st.sampled_from(alive))] if alive else []


HISTORIES, STEPS = length(120, 2000), 40


class TestHistory(History.TestCase):  # type: ignore[misc, valid-type] # made by hypothesis
    """Tries it."""

    settings = settings(max_examples=HISTORIES, stateful_step_count=STEPS)

    def runTest(self) -> None:  # noqa: N802 - unittest's name
        """Try it, and write the figure down."""
        super().runTest()
        note(
            "Tried by machines",
            f"hypothesis: {HISTORIES:,} random histories of up to {STEPS} steps: processes, "
            "checkpoints, resets, late and partial readings, restarts of the sidecar",
            "the ledger's totals are those of the model, and nothing ever goes down",
        )
