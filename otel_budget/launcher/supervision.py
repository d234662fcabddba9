"""While the program runs: signals are passed on, the verdict is followed, what is due is done.

One thread, a look every few hundredths of a second, and at once at a signal.
"""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.budget import Mode
from otel_budget.launcher.following import says_stop, used_of
from otel_budget.launcher.outcome import EndedBy
from otel_budget.launcher.sidecars import OwnSidecar, SidecarError
from otel_budget.launcher.signals import SignalInbox
from otel_budget.policy.format import amount

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.core.verdict import Verdict
    from otel_budget.launcher.ending import Ending
    from otel_budget.launcher.following import Following
    from otel_budget.launcher.program import Program
    from otel_budget.launcher.screen import Screen
    from otel_budget.launcher.sidecars import Sidecar

LOOK_EVERY: Final = 0.05
#: Seconds after which a program that has pushed nothing at all is one that is not counted; and one
#: that pushes, or may do so: its first call may be a long one.
FIRST_PUSH, FIRST_USE = 30.0, 300.0
#: Seconds within which a program has told all that it tells of a call.
ALL_TOLD: Final = 15.0
#: Seconds for which a sidecar of somebody else's may not answer.
LOST_AFTER: Final = 10.0
#: Signals by which a user ends a program.
_OF_USER: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(slots=True)
class Supervision:
    """One program while it runs."""

    program: Program
    sidecar: Sidecar
    following: Following
    ending: Ending
    screen: Screen
    inbox: SignalInbox
    strict: bool
    waits_for_user: bool
    """It may well use nothing for as long as its user likes."""
    seconds: float | None = None
    """It may last: the limit of its run, which has lasted for at least as long as its process."""
    clock: Callable[[], float] = time.monotonic
    began_at: float = field(init=False)
    stopped_at: float | None = None
    """When the verdict came that it is to stop."""
    interrupted: bool = False
    overdue: str = ""
    """That its time is up, by the clock of this process."""
    problem: str = ""
    """Why it is not guarded, or was not."""
    refused: bool = False
    """``--strict`` ended it."""
    _warned: bool = False
    """It was said that nothing is counted, or limited, or that a limit cannot be judged."""
    _unjudged_at: float | None = None
    _restarted: bool = False
    _patience: float = FIRST_PUSH

    def __post_init__(self) -> None:
        """Begin now."""
        self.began_at = self.clock()

    def run(self) -> int:
        """Supervise the program to its end; return how it ended, below 0 for a signal."""
        while True:
            returncode = self.program.poll()
            if returncode is not None:
                return returncode
            self._pass_on()
            self._look_at_sidecar()
            self._look_at_verdict()
            self._end_if_due()

    @property
    def ended_by(self) -> EndedBy:
        """What ended it, as far as is known here."""
        if self.refused:
            return EndedBy.STRICT
        if self.ending.sent:
            return EndedBy.SIGNAL
        return EndedBy.USER if self.interrupted else EndedBy.ITSELF

    def _pass_on(self) -> None:
        taken = self.inbox.take(LOOK_EVERY)
        if taken is None or taken.number == signal.SIGCHLD:
            return
        if taken.number in _OF_USER:
            self.interrupted = True
        if taken.number == signal.SIGTSTP:
            self.program.send(signal.SIGSTOP)
            signal.raise_signal(signal.SIGSTOP)
        elif not taken.from_terminal or self.program.leads_group:
            self.program.send(taken.number)  # else the terminal has sent it already

    def _look_at_verdict(self) -> None:
        now, verdict = self.clock(), self.following.latest
        self.screen.show(verdict)
        if self.seconds is not None and now - self.began_at >= self.seconds:
            self._look_at_time(now, self.seconds, verdict)
        elif verdict is None:
            self._look_at_silence(now)
        elif not self._warned and self._is_unlimited(verdict):
            self._warned = True
            self._unguarded("no limit holds this run: neither its own nor a ceiling of the sidecar")
        elif self._stays_unjudged(verdict, now):
            self._warned = True
            limited = ", ".join(verdict.unjudged)
            self._unguarded(f"{limited}: limited, and nothing tells what this program uses of it")
        elif says_stop(verdict):
            self._stop(now, verdict)
        else:
            self.stopped_at = None if self.ending.sent is None else self.stopped_at
            self.ending.release()

    def _look_at_time(self, now: float, seconds: float, verdict: Verdict | None) -> None:
        """Stop a program whose time is up, also one of which nothing was ever heard."""
        if not self.overdue:
            shown = amount(semconv.DURATION, seconds)
            self.overdue = f"{semconv.DURATION}: its time is up ({shown})"
        self._stop(now, verdict)

    def _stop(self, now: float, verdict: Verdict | None) -> None:
        if self.ending.since is None:
            self.stopped_at = now
        self.ending.stop(now, None if verdict is None else used_of(verdict))

    def _look_at_silence(self, now: float) -> None:
        """Say once that nothing is counted, if it should have been by now."""
        if self._warned or self.waits_for_user or now - self.began_at < self._patience:
            return
        if self._patience == FIRST_PUSH and self._may_be_pushing():
            self._patience = FIRST_USE
            return
        if isinstance(self.sidecar, OwnSidecar) and self.following.others():
            self._patience = math.inf  # it names its runs itself
            return
        self._warned = True
        self._unguarded(
            f"nothing was counted in {self._patience:.0f} s: nothing keeps this program in its "
            "budget"
        )

    def _is_unlimited(self, verdict: Verdict) -> bool:
        """Tell whether nothing limits a run that counts on the ceilings of somebody's sidecar."""
        if isinstance(self.sidecar, OwnSidecar) or verdict.unjudged:
            return False  # of one's own it was said before
        if any(budget.mode is Mode.ENFORCE for budget in verdict.budgets):
            return False
        return all(state.limit is None for state in verdict.resources.values())

    def _stays_unjudged(self, verdict: Verdict, now: float) -> bool:
        """Tell whether a limit cannot be judged: not for a moment, as one signal comes first."""
        if not verdict.unjudged or self._warned:
            self._unjudged_at = None
            return False
        self._unjudged_at = now if self._unjudged_at is None else self._unjudged_at
        return now - self._unjudged_at >= ALL_TOLD

    def _may_be_pushing(self) -> bool:
        return not isinstance(self.sidecar, OwnSidecar) or self.following.is_pushed_to()

    def _look_at_sidecar(self) -> None:
        if self.refused:
            return
        if self.sidecar.ended():
            self._restart()
        elif self.following.unreached_for > LOST_AFTER and not self.problem:
            self._unguarded(
                f"the sidecar at {self.sidecar.url} has not answered for {LOST_AFTER:.0f} s"
            )

    def _restart(self) -> None:
        """Start a sidecar of its own once more, where it was and with what it had stored."""
        if self._restarted or not isinstance(self.sidecar, OwnSidecar):
            if not self.problem:
                self._unguarded("the sidecar has ended, and nothing is counted any more")
            return
        self._restarted = True
        self.screen.say("the sidecar has ended in the middle of the run; it is started again")
        try:
            self.sidecar.start()
        except SidecarError as exc:
            self._unguarded(f"the sidecar has ended and could not be started again: {exc}")

    def _unguarded(self, problem: str) -> None:
        self.problem = problem
        self.screen.alarm(problem)
        if self.strict:
            self.screen.alarm("--strict: it is ended")
            self.refused = True
            self.ending.force(self.clock())

    def _end_if_due(self) -> None:
        number = self.ending.due(self.clock())
        if number is None:
            return
        self.screen.say(f"{number.name} to the program")
        if number == signal.SIGKILL:
            self.program.kill()
        else:
            self.program.send(number)
