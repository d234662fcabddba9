"""What is done about a program while it runs, second by second, without a clock."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest

from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict
from otel_budget.launcher.ending import Ending, Hold
from otel_budget.launcher.outcome import EndedBy
from otel_budget.launcher.sidecars import FoundSidecar, OwnSidecar, SidecarError
from otel_budget.launcher.signals import Taken
from otel_budget.launcher.supervision import Supervision

if TYPE_CHECKING:
    from pathlib import Path

    from otel_budget.launcher.following import Following
    from otel_budget.launcher.program import Program
    from otel_budget.launcher.screen import Screen
    from otel_budget.launcher.signals import SignalInbox


@dataclass
class World:
    """All that a supervision sees, at a time that the test moves."""

    lasts: float
    """Seconds after which the program ends by itself."""
    now: float = 0.0
    verdict: Verdict | None = None
    pushed: bool = False
    unreached_from: float = 1e9
    leads_group: bool = True
    signals: dict[float, Taken] = field(default_factory=dict)
    sent: list[tuple[int, int]] = field(default_factory=list)
    """Second and signal that the program was sent."""
    said: list[str] = field(default_factory=list)
    obeys: bool = True

    # the program
    def poll(self) -> int | None:
        if self.obeys and any(number == signal.SIGINT for _, number in self.sent):
            return -2
        return 0 if self.now >= self.lasts else None

    def send(self, number: int) -> None:
        self.sent.append((round(self.now), number))

    kill = property(lambda self: lambda: self.send(signal.SIGKILL))

    # the inbox, which is where time passes
    def take(self, _timeout: float) -> Taken | None:
        self.now += 1.0
        return self.signals.get(self.now)

    # what follows the verdict
    @property
    def latest(self) -> Verdict | None:
        return self.verdict

    @property
    def unreached_for(self) -> float:
        return max(0.0, self.now - self.unreached_from)

    def is_pushed_to(self) -> bool:
        return self.pushed

    def others(self) -> tuple[Verdict, ...]:
        return ()

    # the screen
    def show(self, _verdict: Verdict | None) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)

    alarm = say

    def supervise(
        self, sidecar: Any, hold: Hold, *, strict: bool = False, seconds: float | None = None
    ) -> Supervision:
        """Supervise the program to its end."""
        supervision = Supervision(
            cast("Program", self), sidecar, cast("Following", self), Ending(hold),
            cast("Screen", self), cast("SignalInbox", self), strict=strict, waits_for_user=False,
            seconds=seconds, clock=lambda: self.now,
        )  # fmt: skip
        supervision.run()
        return supervision


class Dies(OwnSidecar):
    """One that has ended, once or for good."""

    def __init__(self, folder: Path, *, again: bool = False) -> None:
        super().__init__(folder, folder / "x.db", {})
        self.dead, self.starts, self.again = True, 0, again

    def ended(self) -> bool:
        return self.dead

    def start(self) -> None:
        self.starts += 1
        if self.again:
            raise SidecarError("no")
        self.dead = False


def own(tmp_path: Path) -> OwnSidecar:
    """Return a sidecar of its own that lives."""
    return OwnSidecar(tmp_path, tmp_path / "x.db", {})


def found() -> FoundSidecar:
    """Return one of somebody else's."""
    return FoundSidecar("http://127.0.0.1:9465", "http://127.0.0.1:4318", cast("Any", None))


def verdict(action: Action, *, used: int = 10, limit: int | None = 10) -> Verdict:
    """Return a verdict by the numbers."""
    status = LimitStatus.EXCEEDED if action is Action.STOP else LimitStatus.OK
    reason = Reason.LIMIT_EXCEEDED if action is Action.STOP else Reason.WITHIN_LIMITS
    tokens = ResourceState(used, limit, None, None if limit is None else used / limit, status)
    cost = ResourceState(Decimal(0), None, None, None, LimitStatus.OK)
    return Verdict("r", action, status, reason, "m", {"tokens": tokens, "cost": cost}, 1.0)


@pytest.mark.parametrize("said", [None, Action.CONTINUE, Action.STOP])
def test_time_is_up_by_the_launchers_own_clock_whatever_the_sidecar_has_heard(
    tmp_path: Path, said: Action | None
) -> None:
    world = World(lasts=100, verdict=None if said is None else verdict(said, used=1, limit=100))
    supervision = world.supervise(own(tmp_path), Hold(3), seconds=20)
    stopped = 1 if said is Action.STOP else 20
    assert (world.sent, supervision.stopped_at) == ([(stopped + 3, signal.SIGINT)], stopped)
    assert supervision.ended_by is EndedBy.SIGNAL
    assert supervision.overdue == (
        "" if said is Action.STOP else "duration: its time is up (20.0 s)"
    )


def test_a_program_that_pushes_nothing_is_said_to_be_uncounted_after_30_seconds(
    tmp_path: Path,
) -> None:
    world = World(lasts=100)
    supervision = world.supervise(own(tmp_path), Hold(10))
    assert [said for said in world.said if "nothing was counted in 30 s" in said]
    assert len(world.said) == 1
    assert supervision.ended_by is EndedBy.ITSELF


def test_strict_ends_a_program_that_pushes_nothing(tmp_path: Path) -> None:
    world = World(lasts=100)
    supervision = world.supervise(own(tmp_path), Hold(10, hooks=True), strict=True)
    assert world.sent == [(30, signal.SIGINT)]
    assert supervision.ended_by is EndedBy.STRICT


@pytest.mark.parametrize("sidecar", ["own", "found"])
def test_a_program_that_pushes_has_longer_for_its_first_call(tmp_path: Path, sidecar: str) -> None:
    world = World(lasts=400, pushed=True)
    world.supervise(own(tmp_path) if sidecar == "own" else found(), Hold(10), strict=True)
    assert world.sent == [(300, signal.SIGINT)]


def test_a_run_that_nothing_limits_is_said_where_it_counts_on_ceilings() -> None:
    world = World(lasts=5, verdict=verdict(Action.CONTINUE, limit=None))
    world.supervise(found(), Hold(10))
    assert world.said == ["no limit holds this run: neither its own nor a ceiling of the sidecar"]


@pytest.mark.parametrize("strict", [True, False])
def test_a_limit_that_nobody_can_judge_is_said_and_ends_the_program_with_strict(
    tmp_path: Path, *, strict: bool
) -> None:
    unjudged = replace(verdict(Action.CONTINUE), unjudged=("cost",))
    world = World(lasts=30, verdict=unjudged)
    supervision = world.supervise(own(tmp_path), Hold(10), strict=strict)
    assert "cost: limited, and nothing tells" in world.said[0]
    assert supervision.refused is strict
    assert world.sent == ([(16, signal.SIGINT)] if strict else [])


def test_a_verdict_to_stop_is_followed_and_one_to_go_on_is_none() -> None:
    world = World(lasts=50, verdict=verdict(Action.CONTINUE))
    world.supervise(found(), Hold(0))
    assert world.sent == []
    world = World(lasts=50, verdict=verdict(Action.STOP), obeys=False)
    supervision = world.supervise(found(), Hold(10))
    assert world.sent == [(11, signal.SIGINT), (16, signal.SIGTERM), (21, signal.SIGKILL)]
    assert supervision.ended_by is EndedBy.SIGNAL
    assert supervision.stopped_at == 1


def test_a_sidecar_of_its_own_is_started_again_once(tmp_path: Path) -> None:
    world, sidecar = World(lasts=20, verdict=verdict(Action.CONTINUE)), Dies(tmp_path)
    supervision = world.supervise(sidecar, Hold(0), strict=True)
    assert sidecar.starts == 1
    assert not supervision.problem
    assert world.sent == []


def test_one_that_cannot_be_started_again_is_said_once_and_ends_the_program_with_strict(
    tmp_path: Path,
) -> None:
    world, sidecar = World(lasts=20), Dies(tmp_path, again=True)
    assert world.supervise(sidecar, Hold(0)).problem
    assert (sidecar.starts, world.sent) == (1, [])
    world, sidecar = World(lasts=20), Dies(tmp_path, again=True)
    assert world.supervise(sidecar, Hold(0), strict=True).ended_by is EndedBy.STRICT
    assert world.sent == [(1, signal.SIGINT)]


def test_a_sidecar_of_somebody_elses_that_does_not_answer_is_said() -> None:
    world = World(lasts=30, verdict=verdict(Action.CONTINUE), unreached_from=5)
    world.supervise(found(), Hold(0))
    assert ["has not answered for 10 s" in said for said in world.said] == [True]


@pytest.mark.parametrize(
    ("leads_group", "from_terminal", "is_sent"),
    [(True, True, True), (True, False, True), (False, True, False), (False, False, True)],
)
def test_a_signal_is_passed_on_unless_the_terminal_has_sent_it_already(
    *, leads_group: bool, from_terminal: bool, is_sent: bool
) -> None:
    taken = {3.0: Taken(signal.SIGTERM, from_terminal)}
    world = World(5, verdict=verdict(Action.CONTINUE), signals=taken, leads_group=leads_group)
    supervision = world.supervise(found(), Hold(0))
    assert world.sent == ([(3, signal.SIGTERM)] if is_sent else [])
    assert supervision.ended_by is EndedBy.USER
