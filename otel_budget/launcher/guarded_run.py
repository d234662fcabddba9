"""One run from its order to its exit status: a sidecar, the program, its end, the summary."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.agents.launching import Launch
from otel_budget.agents.recognition import recognise
from otel_budget.core.reasons import Action
from otel_budget.launcher import environment, summary
from otel_budget.launcher.ending import (
    GRACE_OF_AGENT,
    GRACE_OF_PROGRAM,
    GRACE_WITH_HOOKS,
    Ending,
    Hold,
)
from otel_budget.launcher.following import Following
from otel_budget.launcher.outcome import EXIT_UNGUARDED, EndedBy, Outcome
from otel_budget.launcher.program import CannotStartError, Program
from otel_budget.launcher.screen import Screen, is_terminal
from otel_budget.launcher.sidecars import FoundSidecar, OwnSidecar, SidecarError
from otel_budget.launcher.signals import SignalInbox
from otel_budget.launcher.supervision import Supervision

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.agents.recognition import Recognised
    from otel_budget.core.verdict import Verdict
    from otel_budget.launcher.order import Order
    from otel_budget.launcher.sidecars import Sidecar

_WATCHDOG: Final = Path(__file__).with_name("watchdog.py")


@dataclass(frozen=True, slots=True)
class _Start:
    """What is started."""

    command: tuple[str, ...]
    launch: Launch
    agent: Recognised | None


def run(order: Order) -> int:
    """Run a program; return the exit status.

    Raises InvalidValueError, before anything was started, for what cannot be done.
    """
    agent = recognise(order.command, order.agent)
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="otel-budget-run-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        screen = Screen(live=False)
        if not order.limits and not _is_limited(order, screen):
            return EXIT_UNGUARDED
        watchdog = stack.enter_context(_watchdog(folder))
        sidecar = _sidecar(order, folder, screen, stack, watchdog)
        if sidecar is None:
            return EXIT_UNGUARDED
        start = _start_of(order, agent, sidecar)
        for note in start.launch.notes:
            screen.say(note)
        try:
            outcome = _supervised(order, start, sidecar, watchdog)
        except CannotStartError as exc:
            screen.alarm(str(exc))
            return exc.status
        return _said(order, outcome, screen)


def _is_limited(order: Order, screen: Screen) -> bool:
    """Say that there is no limit; tell whether it is run all the same."""
    where = " of its own" if not order.sidecar else f" but what the sidecar {order.sidecar} has"
    screen.alarm(
        f"no limit{where}: this run is counted and not held; give for example --max-cost-usd 5"
    )
    return not order.strict


def _sidecar(
    order: Order, folder: Path, screen: Screen, stack: contextlib.ExitStack, watchdog: _Watchdog
) -> Sidecar | None:
    """Return a sidecar with a receiver; None, after saying so, if there is none to be had."""
    if order.sidecar:
        try:
            return FoundSidecar.at(order.sidecar)
        except SidecarError as exc:
            screen.alarm(
                f"{exc}; {'--strict: nothing is run' if order.strict else 'one is started'}"
            )
            if order.strict:
                return None
    own = OwnSidecar(folder, order.storage or folder / "ledger.db", order.ceilings)
    stack.callback(own.stop)
    try:
        own.start()
    except SidecarError as exc:
        screen.alarm(str(exc))
        return None
    watchdog.tell(f"sidecar {own.pid}")
    return own


def _start_of(order: Order, agent: Recognised | None, sidecar: Sidecar) -> _Start:
    common = environment.of_run(order, sidecar)
    if agent is None:
        variables = common | environment.of_program(order, sidecar)
        launch = Launch(
            arguments=order.command[1:], environment=variables,
            notes=environment.notes(), shows_reason=False,
        )  # fmt: skip
        return _Start(order.command, launch, None)
    before = order.command[: agent.at]
    request = environment.request(order, agent, sidecar)
    launch = agent.launcher.launch(request)
    return _Start((*before, *launch.arguments), launch, agent)


def _supervised(order: Order, start: _Start, sidecar: Sidecar, watchdog: _Watchdog) -> Outcome:
    """Run the program to its end."""
    launch, on_terminal = start.launch, is_terminal(0)
    following = Following(sidecar.asker, order.run)
    variables = environment.of_process(order, sidecar, launch.environment)
    # What may read from the terminal stays in its foreground: it gets its keys by itself.
    leads_group = not on_terminal
    screen = Screen(live=not launch.interactive)
    with SignalInbox(job_control=leads_group) as inbox, screen:
        program = Program.start(start.command, variables, leads_group=leads_group)
        watchdog.tell(f"program {program.pid} {'group' if leads_group else 'one'}")
        following.start()
        supervision = Supervision(
            program, sidecar, following, Ending(_hold(order, start)), screen, inbox,
            strict=order.strict, waits_for_user=launch.interactive,
        )  # fmt: skip
        returncode = supervision.run()
        ended_at = time.monotonic()
        following.stop()
    if supervision.ending.sent:
        screen.restore()
    return _outcome(order, start, supervision, returncode, ended_at)


def _hold(order: Order, start: _Start) -> Hold:
    launch = start.launch
    grace = GRACE_OF_PROGRAM
    if launch.hooks:
        grace = GRACE_WITH_HOOKS
    elif start.agent is not None and not launch.interactive:
        grace = GRACE_OF_AGENT
    return Hold(
        grace if order.grace is None else order.grace,
        launch.hooks, launch.hooks_end, launch.interactive, launch.lag,
    )  # fmt: skip


def _outcome(
    order: Order, start: _Start, supervision: Supervision, returncode: int, ended_at: float
) -> Outcome:
    following, stopped_at = supervision.following, supervision.stopped_at
    verdict = following.ask_again()
    others = following.others() if isinstance(supervision.sidecar, OwnSidecar) else ()
    ended_by = supervision.ended_by
    if ended_by is EndedBy.ITSELF:
        ended_by = _ended_by(verdict, others)
    return Outcome(
        run=order.run,
        program=start.agent.launcher.TITLE if start.agent else Path(order.command[0]).name,
        returncode=returncode,
        ended_by=ended_by,
        seconds=ended_at - supervision.began_at,
        verdict=verdict,
        others=others,
        stopped_after=None if stopped_at is None else ended_at - stopped_at,
        signals=tuple(supervision.ending.sent or ()),
        problem=supervision.problem,
        shows_reason=start.launch.shows_reason,
    )


def _ended_by(verdict: Verdict | None, others: tuple[Verdict, ...]) -> EndedBy:
    """Return what ended a program that was sent no signal."""
    if any(
        found.action is Action.STOP and found.run_state == semconv.STOPPED
        for found in (verdict, *others)
        if found is not None
    ):
        return EndedBy.OWN_GUARD
    return EndedBy.ITSELF


def _said(order: Order, outcome: Outcome, screen: Screen) -> int:
    """Say the summary; return the exit status."""
    screen.print(f"\n{summary.in_words(outcome, colour=screen.colour)}")
    if order.summary_json is not None:
        try:
            order.summary_json.write_text(summary.as_json(outcome) + "\n", encoding="utf-8")
        except OSError as exc:
            screen.alarm(f"--summary-json {order.summary_json}: {exc.strerror}")
    counted = outcome.verdict is not None or bool(outcome.others)
    if order.strict and not counted:
        return EXIT_UNGUARDED
    return outcome.exit_status


class _Watchdog:
    """The process that ends what was started, should this one be gone."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, line: str) -> None:
        """Tell it of something."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it was ended by force: there is no other
                self._process.stdin.write(f"{line}\n")
                self._process.stdin.flush()

    def end(self) -> None:
        """Have it do nothing."""
        self.tell("bye")
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=5)


@contextlib.contextmanager
def _watchdog(folder: Path) -> Iterator[_Watchdog]:
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-I", "-S", str(_WATCHDOG)], stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL, start_new_session=True, text=True,
    )  # fmt: skip
    watchdog = _Watchdog(process)
    watchdog.tell(f"folder {folder}")
    try:
        yield watchdog
    finally:
        watchdog.end()
