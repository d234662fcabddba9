"""One run from its order to its exit status: a sidecar, the program, its end, the summary."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.agents.launching import Launch
from otel_budget.agents.recognition import recognise
from otel_budget.core.reasons import Action
from otel_budget.launcher import environment, summary
from otel_budget.launcher.announcing import announce
from otel_budget.launcher.ending import (
    GRACE_OF_AGENT,
    GRACE_OF_PROGRAM,
    GRACE_WITH_HOOKS,
    Ending,
    Hold,
)
from otel_budget.launcher.following import Following
from otel_budget.launcher.outcome import EXIT_UNGUARDED, EndedBy, Outcome
from otel_budget.launcher.program import CannotStartError, Program, check_found
from otel_budget.launcher.screen import Screen, has_terminal
from otel_budget.launcher.sidecars import FoundSidecar, OwnSidecar, SidecarError
from otel_budget.launcher.signals import SignalInbox
from otel_budget.launcher.supervision import Supervision
from otel_budget.launcher.watch import watched
from otel_budget.launcher.watchdog import RUN_FOLDER

if TYPE_CHECKING:
    from otel_budget.agents.recognition import Recognised
    from otel_budget.core.verdict import Verdict
    from otel_budget.launcher.order import Order
    from otel_budget.launcher.sidecars import Sidecar
    from otel_budget.launcher.watch import Watch


def run(order: Order) -> int:
    """Run a program; return the exit status.

    Raises InvalidValueError, before anything was started, for what cannot be done.
    """
    agent = recognise(order.command, order.agent)
    screen = Screen(live=False)
    try:
        check_found(order.command[0])
    except CannotStartError as exc:
        screen.alarm(str(exc))
        return exc.status
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="otel-budget-run-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        watch = stack.enter_context(watched())
        watch.tell(f"folder {folder}")
        return _Run(order, agent, folder, watch, stack, screen).run()


@dataclass(frozen=True, slots=True)
class _Start:
    """What is started."""

    command: tuple[str, ...]
    launch: Launch


@dataclass(frozen=True, slots=True)
class _Run:
    """One run."""

    order: Order
    agent: Recognised | None
    folder: Path
    watch: Watch
    stack: contextlib.ExitStack
    screen: Screen

    def run(self) -> int:
        """Do it, and return the exit status."""
        sidecar = self._sidecar()
        if sidecar is None:
            return EXIT_UNGUARDED
        if not self.order.limits and isinstance(sidecar, OwnSidecar):
            self.screen.alarm(
                "no limit: this run is counted and not held; give one, such as --max-cost-usd 5"
            )
            if self.order.strict:
                return EXIT_UNGUARDED
        start = self._start(sidecar)
        for note in start.launch.notes:
            self.screen.say(note)
        try:
            outcome = self._supervised(start, sidecar)
        except CannotStartError as exc:
            self.screen.alarm(str(exc))
            return exc.status
        return self._said(outcome)

    def _sidecar(self) -> Sidecar | None:
        """Return a sidecar with a receiver; None, after saying so, if there is none to be had."""
        order = self.order
        if order.sidecar:
            try:
                return FoundSidecar.at(order.sidecar)
            except SidecarError as exc:
                then = "--strict: nothing is run" if order.strict else "another one is started"
                self.screen.alarm(f"{exc}; {then}")
                if order.strict:
                    return None
        # An agent's resource carries the limits of its run. Another program may name runs itself.
        ceilings = order.ceilings if self.agent is None else {}
        own = OwnSidecar(self.folder, order.storage or self.folder / "ledger.db", ceilings)
        self.stack.callback(own.stop, in_order=order.storage is not None)
        try:
            own.start()
        except SidecarError as exc:
            self.screen.alarm(str(exc))
            return None
        self.watch.tell(f"sidecar {own.pid}")
        return own

    def _start(self, sidecar: Sidecar) -> _Start:
        """Return what is started instead of what was ordered."""
        order, agent = self.order, self.agent
        if agent is not None:
            launch = agent.launcher.launch(environment.request(order, agent, sidecar))
            return _Start((*order.command[: agent.at], *launch.arguments), launch)
        launch = Launch(
            arguments=order.command[1:],
            environment=environment.of_program(order, sidecar),
            notes=environment.notes(),
            shows_reason=False,
        )
        return _Start(order.command, launch)

    def _supervised(self, start: _Start, sidecar: Sidecar) -> Outcome:
        """Run the program to its end."""
        launch, order = start.launch, self.order
        following = Following(sidecar.asker, order.run)
        if following.is_known or launch.hooks_count:
            announce(sidecar.receiver, order.attributes, environment.otlp_headers())
            following.tell(semconv.RUNNING)
            following.begin_anew()
            if following.is_used_up:
                return self._not_started(launch, following)
        variables = environment.of_process(order, sidecar, launch.environment)
        variables[RUN_FOLDER] = str(self.folder)
        # On a terminal it stays in the foreground, and gets what its keys send by itself.
        leads_group = not has_terminal()
        screen = Screen(live=not launch.interactive)
        with SignalInbox(job_control=leads_group) as inbox, screen:
            program = Program.start(
                start.command, variables, leads_group=leads_group, alone=launch.interactive
            )
            self.watch.tell(f"program {program.pid} {'group' if leads_group else 'one'}")
            following.start()
            supervision = Supervision(
                program, sidecar, following, Ending(self._hold(launch)), screen, inbox,
                strict=order.strict, waits_for_user=launch.interactive, seconds=order.seconds,
            )  # fmt: skip
            returncode = supervision.run()
            ended_at = time.monotonic()
            following.stop()
            if supervision.ending.sent:
                program.sweep()
        if supervision.ending.sent:
            screen.restore()
        return self._outcome(launch, supervision, returncode, ended_at)

    def _hold(self, launch: Launch) -> Hold:
        grace = GRACE_OF_PROGRAM
        if launch.hooks:
            grace = GRACE_WITH_HOOKS
        elif self.agent is not None and not launch.interactive:
            grace = GRACE_OF_AGENT
        if self.order.grace is not None:
            grace = self.order.grace
        return Hold(grace, launch.hooks, launch.hooks_end, launch.interactive, launch.lag)

    def _outcome(
        self, launch: Launch, supervision: Supervision, returncode: int, ended_at: float
    ) -> Outcome:
        following, stopped_at = supervision.following, supervision.stopped_at
        _tell_end(supervision, returncode)
        verdict = following.ask_again()
        others = following.others() if isinstance(supervision.sidecar, OwnSidecar) else ()
        ended_by = supervision.ended_by
        # Of a program that its hooks had stopped the user may well take leave by Ctrl-C.
        left = ended_by is EndedBy.USER and launch.hooks
        if (ended_by is EndedBy.ITSELF or left) and _was_stopped(verdict, *others):
            ended_by = EndedBy.HOOKS if launch.hooks else EndedBy.OWN_GUARD
        return Outcome(
            run=self.order.run,
            program=self._title,
            returncode=returncode,
            ended_by=ended_by,
            seconds=ended_at - supervision.began_at,
            verdict=verdict,
            counted=following.is_used(verdict) or bool(others),
            others=others,
            # Stopped, a program on the terminal stays there for as long as its user likes.
            stopped_after=None
            if stopped_at is None or (launch.interactive and not supervision.ending.sent)
            else ended_at - stopped_at,
            signals=tuple(supervision.ending.sent or ()),
            overdue=supervision.overdue,
            problem=supervision.problem,
            strict=self.order.strict,
            shows_reason=launch.shows_reason,
            resume=self._resume(launch),
        )

    def _not_started(self, launch: Launch, following: Following) -> Outcome:
        """Return the outcome of a run that had used what it may before its program was started."""
        return Outcome(
            run=self.order.run,
            program=self._title,
            returncode=0,
            ended_by=EndedBy.NOT_STARTED,
            seconds=0.0,
            verdict=following.ask_again(),
            resume=self._resume(launch),
        )

    @property
    def _title(self) -> str:
        return self.agent.launcher.TITLE if self.agent else Path(self.order.command[0]).name

    def _resume(self, launch: Launch) -> str:
        """Return the command line that goes on with the program: with the ledger, if it is kept."""
        if not launch.resume:
            return ""
        resume = shlex.join(launch.resume)
        if self.order.storage is None:
            return resume
        kept = shlex.join(["--run", self.order.run, "--storage", str(self.order.storage)])
        return f"otel-budget run {kept} --max-… -- {resume}"

    def _said(self, outcome: Outcome) -> int:
        """Say the summary; return the exit status."""
        order, screen = self.order, self.screen
        screen.print(f"\n{summary.in_words(outcome, colour=screen.colour)}")
        if order.summary_json is not None:
            try:
                order.summary_json.write_text(summary.as_json(outcome) + "\n", encoding="utf-8")
            except OSError as exc:
                screen.alarm(f"--summary-json {order.summary_json}: {exc.strerror}")
        return outcome.exit_status


def _tell_end(supervision: Supervision, returncode: int) -> None:
    """Tell the sidecar how the program ended, unless the program or its hooks have done so."""
    following, ended_by = supervision.following, supervision.ended_by
    said = following.ask_again()
    if said is None or said.run_state in semconv.ENDED_STATES:
        return
    stopped = ended_by in (EndedBy.SIGNAL, EndedBy.STRICT)
    ended = semconv.COMPLETED if returncode == 0 else semconv.FAILED
    following.tell(semconv.STOPPED if stopped else ended)


def _was_stopped(*verdicts: Verdict | None) -> bool:
    """Tell whether a run told that its verdict ended it: itself, or its hooks for it."""
    return any(
        verdict.action is Action.STOP and verdict.run_state == semconv.STOPPED
        for verdict in verdicts
        if verdict is not None
    )
