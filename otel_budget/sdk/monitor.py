"""The monitor: what a run counts with, and asks whether it may go on.

Everything it answers comes from exact counts in memory; nothing here waits for a network.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from otel_budget import semconv
from otel_budget.core import validation
from otel_budget.core.limits import LIMIT_KEYS, ResourceLimits
from otel_budget.core.resources import TIMES
from otel_budget.errors import InvalidValueError
from otel_budget.logs.logger import logger
from otel_budget.runtime.environment import setting
from otel_budget.sdk import asking, family, wait
from otel_budget.sdk import summary as report
from otel_budget.sdk.checkpoints import resuming
from otel_budget.sdk.checkpoints.store import folder_or_none
from otel_budget.sdk.clock import SYSTEM_CLOCK, Clock
from otel_budget.sdk.engagement import first_verdict_seconds
from otel_budget.sdk.lifecycle import forked_run
from otel_budget.sdk.lifecycle.run_controller import RunController
from otel_budget.sdk.metrics.label_cap import ENV_SCOPE, run_labels
from otel_budget.sdk.outcome import Outcome, run_until_stopped
from otel_budget.sdk.phase_counters import NOTHING_FURTHER
from otel_budget.sdk.pricing.prices import Prices, prices_of
from otel_budget.sdk.reservations import NEXT_CALL
from otel_budget.sdk.reserving import ReserveBlock, checked_timeout, request_of
from otel_budget.sdk.run_context import RunContext
from otel_budget.sdk.run_name import (
    ENV_PARENT,
    ENV_SIDECAR,
    child_environment,
    new_session_id,
    parent_of,
)
from otel_budget.sdk.run_record import RunRecord
from otel_budget.sdk.usage_arguments import further_of, named, operation_usage
from otel_budget.sdk.wrapping_up import WrapUpBlock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager
    from os import PathLike
    from pathlib import Path

    from otel_budget.core.forecast import Forecast
    from otel_budget.core.quantities import Number
    from otel_budget.core.usage import ResourceUsage
    from otel_budget.core.verdict import LimitCheckResult, Verdict
    from otel_budget.genai.attribution import Activation
    from otel_budget.policy.briefing import Briefing
    from otel_budget.sdk.operation import Operation
    from otel_budget.sdk.usage_sinks import RunSink

T = TypeVar("T")


class ResourceMonitor:
    """Count what one run uses, tell it whether to go on, and keep its checkpoints."""

    def __init__(
        self,
        limits: ResourceLimits | None = None,
        session_id: str | None = None,
        project_root: str | PathLike[str] | None = None,
        *,
        workflow: str | None = None,
        scope: Mapping[str, str] | None = None,
        parent: ResourceMonitor | str | None = None,
        sidecar: str | None = None,
        on_sidecar_loss: Literal["local", "stop"] = "local",
        first_verdict_timeout: float | None = None,
        on_verdict: Callable[[Verdict], None] | None = None,
        prices: Prices | str | PathLike[str] | None = None,
        limits_from_outside: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        _carried: ResourceUsage | None = None,
    ) -> None:
        """Begin to count. Opens and writes nothing, and starts no thread.

        limits: by default ``ResourceLimits()``: an hour, 1,000,000 tokens, 1,000 API calls.
        session_id: by default ``OTEL_BUDGET_SESSION_ID`` for the first run of the process, else one
        is made up.
        project_root: where checkpoints go; need not exist; None means no checkpoints.
        workflow, scope (``team``, ``project``, ``user``, ``agent``, and labels of your own that a
        sidecar's ``scope_labels`` name): whom the use is counted for. What is not in ``scope`` is
        taken from ``OTEL_BUDGET_SCOPE``, such as ``team=a,user=ann``.
        parent: the run that started this one, or its session id: its limits hold for both together.
        By default ``OTEL_BUDGET_PARENT_SESSION_ID``, for child processes (``child_environment``).
        sidecar: its URL, by default ``OTEL_BUDGET_SIDECAR_URL``; on_sidecar_loss: ``local`` goes on
        under the run's own limits once the lease of the last verdict has run out, ``stop`` stops.
        first_verdict_timeout: seconds (by default ``OTEL_BUDGET_FIRST_VERDICT_TIMEOUT``, else 90)
        that a sidecar which answers has for a first verdict; then the run is one without a sidecar.
        on_verdict: called from a separate thread with each verdict whose action or reason
        changed; what it raises is logged. prices: of models, or a YAML file with some, by default
        ``OTEL_BUDGET_PRICES``. limits_from_outside: let limits that an operator gives the run by
        its sidecar take the place of its own, for as long as they hold; else they only tighten.

        Raises InvalidValueError naming the argument, the value and what is allowed.
        """
        _check_limits(limits)
        if on_sidecar_loss not in ("local", "stop"):
            raise InvalidValueError("on_sidecar_loss", on_sidecar_loss, "'local' or 'stop'")
        if on_verdict is not None and not callable(on_verdict):
            raise InvalidValueError("on_verdict", on_verdict, "a function of a verdict, or None")
        if not isinstance(limits_from_outside, bool):
            raise InvalidValueError("limits_from_outside", limits_from_outside, "True or False")
        found = prices_of(prices)
        name = new_session_id() if session_id is None else session_id
        record = RunRecord(
            validation.session_id(name),
            limits or ResourceLimits(),
            clock,
            labels=run_labels(workflow, scope, setting(ENV_SCOPE) or ""),
            carried=_carried,
            parent=parent_of(
                name, parent.session_id if isinstance(parent, ResourceMonitor) else parent
            ),
        )
        record.limits_from_outside = limits_from_outside
        run = RunController(
            record,
            folder_or_none(project_root),
            sidecar=sidecar or setting(ENV_SIDECAR) or None,
            stop_without_sidecar=on_sidecar_loss == "stop",
            first_verdict_timeout=first_verdict_seconds(first_verdict_timeout),
            on_verdict=on_verdict,
        )
        self._run, self._record, self._guard = run, record, run.guard
        self._recorder = family.join(run, record.parent)(run, found, self)
        self._context = RunContext(self._recorder.sink)
        self._monotonic = clock.monotonic  # bound once: should_continue is asked at every operation
        forked_run.watch(self)
        weakref.finalize(self, run.dropped).atexit = False  # a run whose monitor is gone is closed

    @classmethod
    def resume(
        cls,
        session_id: str,
        project_root: str | PathLike[str],
        limits: ResourceLimits | None = None,
        *,
        checkpoint: str | PathLike[str] | None = None,
        completed: bool = False,
        **options: Any,
    ) -> Self:
        """Take up a run where its newest checkpoint left it: usage, start time, limits, state.

        limits: instead of the checkpoint's. The duration counts downtime, too: to limit the time
        the run works, give ``max_duration_seconds=None`` and ``max_active_seconds``. checkpoint: a
        path, instead of the newest. completed: take up a run that completed, too. options: as for
        the constructor.

        Raises NoCheckpointError if there is no run to take up (RunCompletedError if it completed),
        CheckpointError for a checkpoint that cannot be trusted; it names the previous one.
        """
        saved = resuming.found(session_id, project_root, checkpoint, completed=completed)
        labels = dict(saved.labels)
        saved_parent = labels.pop(semconv.PARENT_SESSION_ID, None)
        if not setting(ENV_PARENT):
            options.setdefault("parent", saved_parent)
        options.setdefault("workflow", labels.pop(semconv.WORKFLOW, None))
        options.setdefault("scope", labels)
        chosen = saved.limits if limits is None else limits
        monitor = cls(chosen, session_id, project_root, _carried=saved.usage, **options)
        monitor._guard.resume_from(saved.progress)
        monitor._run.checkpoints.state = saved.state
        duration = monitor._guard.check().resources[semconv.DURATION]
        resuming.warn_of_downtime(monitor._record, saved, duration)
        return monitor

    def record_operation(
        self,
        tokens: int | None = 0,
        api_call: bool = False,  # noqa: FBT001, FBT002 - the public contract
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        model: str | None = None,
        provider: str | None = None,
        cost_usd: Number | None = None,
        outcome: str = "ok",
        extras: Mapping[str, int] | None = None,
        service_tier: str | None = None,
        tool_calls: int | None = None,
    ) -> None:
        """Count one operation, atomically.

        tokens: all of them, or None for used but unknown; with input and output tokens given it may
        be left out. Cached tokens are part of the input, reasoning tokens part of the output.
        api_call: a call to a model's API, failed ones included (outcome ``error``). cost_usd: US
        dollars; without it the price of model and provider counts (docs/money.md), and without one
        the call is unpriced. model is also a label, capped. extras: what is billed beside plain
        tokens, as ``{"web_searches": 2}``. service_tier: as ``flex`` or ``batch``. tool_calls:
        calls of tools, failed ones included.

        Raises InvalidValueError and counts nothing if a value is not allowed.
        """
        # The common case first and by itself: one number of tokens, a call that succeeded. It takes
        # a fifth of the general way (benchmarks/record.py).
        if (
            type(tokens) is int
            and tokens >= 0
            and (api_call is True or api_call is False)
            and input_tokens is None
            and output_tokens is None
            and cache_read_tokens is None
            and cache_write_tokens is None
            and reasoning_tokens is None
            and model is None
            and provider is None
            and cost_usd is None
            and outcome == "ok"
            and extras is None
            and service_tier is None
            and tool_calls is None
        ):
            self._recorder.add_tokens(tokens, api_call)
            return
        if model is not None:
            named("model", model)
        if provider is not None:
            named("provider", provider)
        usage = operation_usage(
            tokens,
            api_call,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read_tokens,
            cache_write_tokens=cache_write_tokens,
            reasoning_tokens=reasoning_tokens,
            cost_usd=cost_usd,
            outcome=outcome,
            extras=extras,
            service_tier=service_tier,
            further=NOTHING_FURTHER if tool_calls is None else further_of(tool_calls=tool_calls),
        )
        self._recorder.add(usage, model, provider)

    def should_continue(self, progress_estimate: float | None = None) -> bool:
        """Tell whether the run may go on: the stricter of its own limits and the sidecar's verdict.

        progress_estimate: 0 to 1, None for unknown (also for those who wait, from now on);
        anything else is refused.
        """
        guard, record = self._guard, self._record
        # The common case first and by itself, like that of record_operation.
        if (
            progress_estimate.__class__ is float
            and progress_estimate >= guard.unchanged_from
            and progress_estimate <= 1.0
        ):
            record.report = progress_estimate, record.tokens, record.api_calls, record.cost_usd
            if self._monotonic() < guard.unchanged_until:
                return True
            return self._ask(progress_estimate).should_continue
        if progress_estimate is not None:
            progress = validation.progress(progress_estimate) or 0.0  # None is not among them here
            record.report = progress, record.tokens, record.api_calls, record.cost_usd
            if progress >= guard.unchanged_from and self._monotonic() < guard.unchanged_until:
                return True
            return self._ask(progress).should_continue
        guard.withdrawn = record.report
        if guard.unchanged_if_unknown and self._monotonic() < guard.unchanged_until:
            return True
        return self._ask(None).should_continue

    def raise_if_stopped(self, progress_estimate: float | None = None) -> None:
        """Raise BudgetExceeded, with the verdict, if the run must stop."""
        if self.should_continue(progress_estimate):
            return
        verdict = self._ask(progress_estimate)
        if not verdict.should_continue:
            raise self._guard.refusal(verdict)

    def _ask(self, progress: float | None) -> Verdict:
        self._run.begin()
        return self._guard.answered(self._guard.reconsider(progress))

    def operation(
        self,
        name: str = "model_call",
        *,
        api_call: bool = True,
        model: str | None = None,
        provider: str | None = None,
    ) -> AbstractContextManager[Operation]:
        """Open a span for one operation; it is counted once, when the block ends.

        ``operation.record(...)`` says what was used. An exception makes it a failed call.
        """
        return self._recorder.operation(name, api_call=api_call, model=model, provider=provider)

    def phase(self, name: str) -> AbstractContextManager[None]:
        """Enter a named phase: what is recorded inside belongs to it. Opens a span."""
        return self._recorder.phase(name)

    def attach(self) -> Activation:
        """Return a context manager inside which the calls that are seen are this run's.

        It neither begins nor ends the run. For code that was handed the monitor and not its
        context: a thread of your own, an endpoint whose dependency opened the run.
        """
        return self._context.attach()

    def bind(self, target: T) -> T:
        """Return the same thing, whose calls are this run's wherever and whenever it runs.

        target: a function (also a coroutine or generator function), or an iterator, an asynchronous
        iterator or an awaitable. An iterator has the run around each of its values. Raises
        InvalidValueError for anything else.
        """
        return self._context.bind(target)

    @property
    def usage_sink(self) -> RunSink:
        """Where adapters report the calls of this run."""
        return self._recorder.sink

    def leave_to_parent(self) -> None:
        """Take no part in the run any more: this is a forked child."""
        run = self._run
        run.__class__ = forked_run.InheritedRun
        if isinstance(run, forked_run.InheritedRun):
            run.cut_off()
        self._guard = run.guard
        self._recorder.use_guard(run.guard)

    def check_limits(self) -> LimitCheckResult:
        """Return every resource against the run's own limits."""
        self._run.begin()
        self._guard.reconsider(self._guard.progress)
        return self._guard.check()

    @property
    def verdict(self) -> Verdict:
        """The verdict as of now, with the progress reported since the last change of a status."""
        return self._guard.foreseen(self._guard.verdict(self._guard.progress))

    def wait_for_stop(self, timeout: float | None = None) -> Verdict | None:
        """Block until the run must stop; return the verdict, or None at the timeout (seconds) or
        when the run ends first.
        """
        self._run.begin()
        return wait.wait_for_stop(self._guard, self._record, timeout)

    async def wait_for_stop_async(self, timeout: float | None = None) -> Verdict | None:  # noqa: ASYNC109 - the twin of the above
        """Do the same without blocking the event loop."""
        self._run.begin()
        return await wait.wait_for_stop_async(self._guard, self._record, timeout)

    async def run(self, work: Awaitable[T], *, cancel_after: float | None = 0.0) -> Outcome[T]:
        """Wait for a coroutine; cancel it when the run is told to stop. Return what came of it.

        Its calls are this run's. cancel_after: seconds that it has to end by itself once the run is
        told to stop, as an adapter does that makes a last call; None: it is not cancelled. Raises
        what the coroutine raises, but for BudgetExceeded. It does not end the run. For asyncio.
        """
        self._run.begin()
        with self.attach():
            return await run_until_stopped(self, work, cancel_after)

    def wait_until_allowed(self, timeout: float | None = None) -> Verdict | None:
        """Block until a run that was told to stop may go on; return the verdict, or None if not.

        At once where it may. Meanwhile its state is ``waiting`` and its active time stands still.
        None comes at the timeout (seconds), and when the run is closed. Raises BudgetExceeded, with
        the operator's stop, when it is refused: an operator stops it while it waits.
        """
        self._run.begin()
        return asking.wait_until_allowed(self._run, timeout)

    async def wait_until_allowed_async(self, timeout: float | None = None) -> Verdict | None:  # noqa: ASYNC109 - the twin of the above
        """Do the same without blocking the event loop."""
        self._run.begin()
        return await asking.wait_until_allowed_async(self._run, timeout)

    def get_estimated_completion_possible(self, progress_estimate: float | None) -> bool | None:
        """Tell whether the rest fits in every limit.

        progress_estimate: the share of the run's calls that is done. As many more calls as are
        missing are held against those left until each limit (``forecast``); of a run without API
        calls its rate so far counts. None when that cannot be told: no progress yet, or unknown.
        """
        return self._guard.local.completion_possible(validation.progress(progress_estimate))

    def forecast(self) -> dict[str, Forecast]:
        """Return per limited resource how many calls and seconds are left until its limit.

        By the run's own counts, each with a range that holds in four of five cases; None is what
        cannot be told, as before the first call and after the end. Seconds are of active time: a
        pause comes on top. The limit is the stricter of the run's own and the sidecar's ceiling,
        once a verdict names one.
        """
        return self._guard.forecast()

    @property
    def session_id(self) -> str:
        """Names the run."""
        return self._record.session_id

    @property
    def limits(self) -> ResourceLimits:
        """The run's own limits."""
        return self._record.limits

    @property
    def state(self) -> Any:
        """The caller's state of the newest checkpoint, also of the one resumed from; or None."""
        return self._run.checkpoints.state

    def get_usage_report(self) -> ResourceUsage:
        """Return all the run used, over all its incarnations."""
        return self._record.usage()

    def get_usage_summary(self) -> dict[str, dict[str, Any]]:
        """Return per resource what is used, of what, and what remains; and the checkpoints."""
        return report.summary(self._guard.check_with_forecast(), self._record.usage())

    def get_time_remaining(self) -> float | None:
        """Return seconds left, never below 0; None when unlimited.

        Of the duration or, where that is limited too and ends earlier, of the active time.
        """
        resources = self._guard.check().resources
        rests = [resources[name].remaining for name in TIMES if name in resources]
        return min((float(left) for left in rests if left is not None), default=None)

    def get_tokens_remaining(self) -> int | None:
        """Return tokens left, never below 0; None when unlimited."""
        left: int | None = self._remaining(semconv.TOKENS)
        return left

    def get_api_calls_remaining(self) -> int | None:
        """Return API calls left, never below 0; None when unlimited."""
        left: int | None = self._remaining(semconv.API_CALLS)
        return left

    def get_tool_calls_remaining(self) -> int | None:
        """Return calls of tools left, never below 0; None when unlimited."""
        left: int | None = self._remaining(semconv.TOOL_CALLS)
        return left

    def _remaining(self, resource: str) -> Any:
        state = self._guard.check().resources.get(resource)
        return None if state is None else state.remaining

    def log_status(self) -> None:
        """Log where the run stands, at INFO, to the logger ``otel_budget``."""
        engagement = self._run.engagement
        unjudged = "" if engagement is None else engagement.problem()
        for line in report.lines(self._guard.check_with_forecast(), self.verdict, unjudged):
            logger.info("run %r: %s", self.session_id, line)

    def checkpoint(self, state: Any = None) -> Path | None:
        """Write a checkpoint and return its path; None, loudly, if it could not be written.

        state: the caller's own, JSON types; kept for the automatic checkpoints.
        """
        return self._run.checkpoints.checkpoint(state)

    def keep_state(self, state: Any) -> None:
        """Hand over the state that the automatic and the last checkpoint carry. Writes nothing."""
        self._run.checkpoints.keep_state(state)

    def pause(self) -> None:
        """Stop the active time. The duration goes on: it is wall-clock time."""
        self._record.pause()

    def unpause(self) -> None:
        """Let the active time go on."""
        self._record.unpause()
        self._guard.unpaused()

    def update_limits(self, limits: ResourceLimits | None = None, **changes: Any) -> None:
        """Judge by other limits from now on: all of them, or single fields by name.

        A sidecar's ceilings, and an operator's stop, hold all the same; that is said.
        """
        _check_limits(limits)
        base = self._record.limits if limits is None else limits
        values = {key: getattr(base, key) for key in LIMIT_KEYS} | changes
        self._guard.update_limits(ResourceLimits.from_mapping(values))
        self._run.checkpoints.schedule()
        verdict = self.verdict
        if verdict.lease_seconds is not None and not verdict.should_continue:
            logger.warning(
                "run %r: its own limits have changed, but the sidecar still says stop (%s): "
                "%s", self.session_id, verdict.reason, verdict.message,
            )  # fmt: skip

    def wrap_up(self) -> WrapUpBlock:
        """Return a context in which a run that is stopped in time may make its last calls.

        ``with`` and ``async with`` both do. What is allowed is ``verdict.wrap_up``, counted from
        there, for all threads and tasks together, but for calls that others have under way then; a
        second block has what the first one left. It is given to ``as``: None of a run that may go
        on, for which nothing changes. Entering raises BudgetExceeded where nothing is left, and
        inside another such block of the run.
        """
        self._run.begin()
        return WrapUpBlock(self._recorder, self._guard, self._record)

    def reserve(
        self,
        tokens: int | None = None,
        api_calls: int = 1,
        cost_usd: Number | None = None,
        *,
        timeout: float | None = 0,
    ) -> ReserveBlock:
        """Return a context that holds what calls inside may use, so that others do not use it too.

        By default what the next calls are forecast to use. What is recorded inside reduces it, and
        what is left goes back at the end. Also an asynchronous context. timeout: seconds to wait
        for what others hold, first come first served; None: for ever; in an event loop only with
        ``async with``.

        Raises BudgetExceeded in ``with``: reason ``budget_busy`` where others hold the room, else
        ``wrap_up`` or ``limit_exceeded``. Raises InvalidValueError here.
        """
        request, wait = NEXT_CALL, timeout
        if tokens is not None or cost_usd is not None or api_calls != 1:
            request = request_of(tokens, api_calls, cost_usd)
        if wait:
            wait = checked_timeout(wait)
        return ReserveBlock(self._recorder, request, wait)

    def briefing(self) -> Briefing:
        """Return what a model is to know of the run's budget: ``str`` of it is a sentence or two.

        It changes with every call: put it last, so that a provider's cache of the prompt holds.
        """
        return self._guard.briefing()

    def child_environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment for a process whose runs are this one's descendants.

        For ``subprocess``: ``env=monitor.child_environment()``. base: by default that of this
        process. Its runs get ids of their own, and the sidecar of this one.
        """
        return child_environment(self.session_id, self._run.sidecar, base)

    def __repr__(self) -> str:
        """Say which run it is, how it is and what it is limited to."""
        record = self._record
        limited = report.limited(record.limits)
        return f"<ResourceMonitor {record.session_id!r}, {record.state}, limited to {limited}>"

    def close(self, outcome: str | None = None, timeout: float = 0.0) -> None:
        """End the run: write a last checkpoint, show the final state until it has been scraped.

        outcome: ``completed``, ``stopped`` or ``failed``; by default stopped if the run was last
        told to stop, else completed. timeout: seconds to wait here until the sidecar has looked,
        and for scrapes that are due by then; without it the end of the process does, once for all
        its runs (see ``serve_metrics``). Closing twice is fine; the first outcome stays.
        """
        if outcome is not None and outcome not in semconv.ENDED_STATES:
            raise InvalidValueError("outcome", outcome, ", ".join(semconv.ENDED_STATES))
        self._run.close(outcome or self._run.outcome(), timeout)

    def __enter__(self) -> Self:
        """Open the run's span; close the run at the end of the block."""
        self._run.enter()
        return self

    def __exit__(self, _kind: object, exc: BaseException | None, _trace: object) -> None:
        """Close the run: failed by an exception, stopped if it was told to, else completed."""
        try:
            self._run.end(exc)
        finally:
            self._run.leave(exc)

    async def __aenter__(self) -> Self:
        """Do the same in a coroutine."""
        return self.__enter__()

    async def __aexit__(self, _kind: object, exc: BaseException | None, _trace: object) -> None:
        """Do the same in a coroutine: writing the last checkpoint does not block asyncio's loop."""
        try:
            await self._run.end_in_thread(exc)
        finally:
            self._run.leave(exc)


def _check_limits(limits: object) -> None:
    if limits is not None and not isinstance(limits, ResourceLimits):
        raise InvalidValueError("limits", limits, "a ResourceLimits or None")
