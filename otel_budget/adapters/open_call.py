"""A call of an application that ends its own loop: asked for, as it is or as its run's last one.

What agents run in ends them by itself; LiteLLM and the plain SDKs' clients have only calls. So at a
graceful stop the first call goes out all the same, as the last one, and the next one is refused.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from otel_budget.adapters import progress as progresses
from otel_budget.adapters.ending import MARK
from otel_budget.adapters.request_shapes import expected_of
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai import attribution
from otel_budget.genai.reported_call import ReportedCall
from otel_budget.genai.values import field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from otel_budget.adapters.ending import CutShort, Ending
    from otel_budget.adapters.request_shapes import Shape
    from otel_budget.genai.call import UsageSink

    Progress = Callable[[Mapping[str, Any]], float | None]


class _Ended:
    """Runs that had their last call: the next one is refused, unless the run may go on again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: weakref.WeakSet[UsageSink] = weakref.WeakSet()

    def take(self, sink: UsageSink) -> bool:
        """Return whether a run may still have its last call; it has had it then."""
        with self._lock:
            is_first = sink not in self._runs
            self._runs.add(sink)
            return is_first

    def forget(self, sink: UsageSink) -> None:
        """Take in that a run may go on."""
        if self._runs:
            with self._lock:
                self._runs.discard(sink)


_ENDED: Final = _Ended()


class OpenCall:
    """A call that may be made: closed once, whatever of its answer ends first."""

    def __init__(
        self,
        reported: ReportedCall,
        body: Mapping[str, Any],
        *,
        mark: CutShort | None = None,
        last_call: ExitStack | None = None,
    ) -> None:
        """Begin. body: what is to be sent. mark, last_call: of a run's last call, and what is open
        until it is over.
        """
        self.reported, self.body = reported, body
        self._mark, self._last_call, self._is_open = mark, last_call, True

    @property
    def is_last(self) -> bool:
        """Whether it is its run's last call."""
        return self._mark is not None

    def mark(self, answer: Any) -> Any:
        """Return an answer, or a piece of one, that says whether it was cut short."""
        if self._mark is not None and answer is not None:
            with suppress(Exception):  # one that takes no attributes is none of the libraries' own
                setattr(answer, MARK, self._mark.to_dict())
        return answer

    def mark_piece(self, piece: Any) -> None:
        """Mark what a stream gives: helpers put the whole answer together from the inner parts."""
        if self._mark is not None:
            for part in (piece, field(piece, "message"), field(piece, "response")):
                self.mark(part)

    def close(self, *, failed: bool = False, **said: Any) -> None:
        """Count it with what is known of it. Never raises."""
        if self._is_open:
            self._is_open = False
            self.reported.close(failed=failed, **said)
            self._leave()

    def cancel(self) -> None:
        """Count nothing: it was no call after all."""
        if self._is_open:
            self._is_open = False
            self.reported.cancel()
            self._leave()

    def fail(self, exc: BaseException, **said: Any) -> None:
        """Count it without a whole answer. One that was cancelled may be answered all the same."""
        if self._is_open:
            self._is_open = False
            self.reported.close(failed=isinstance(exc, Exception), **said)
            self._leave(type(exc), exc, exc.__traceback__)

    def _leave(self, *raised: Any) -> None:
        """Close what was open for a last call; told of an exception it raises that again."""
        if self._last_call is not None:
            with suppress(BaseException):  # left in another context, as async generators may be
                self._last_call.__exit__(*(raised or (None, None, None)))


@dataclass(frozen=True, slots=True)
class Asking:
    """One request that is asked for before it goes out."""

    scope: str
    sink: UsageSink | None
    ending: Ending
    shape: Shape | None
    """How a text is put into it; None: it takes none, and is never a last one."""
    body: Mapping[str, Any]
    said: Mapping[str, Any]
    """What is known of it, as ``ReportedCall`` takes it."""
    progress: Progress | None = None
    """Of the request: how far the run is, 0 to 1; None: it is not known."""

    def begin(self) -> OpenCall:
        """Begin. Raises BudgetExceeded, ``finished``: the conversation that was to be sent."""
        with self._refusing():
            try:
                return self._ordinary(ReportedCall(self.scope, None, **self._known()))
            except BudgetExceeded as stop:
                with self._last_call(stop) as (mark, block):
                    return self._last(ReportedCall(self.scope, None, **self._known()), mark, block)

    async def begin_async(self) -> OpenCall:
        """Do as ``begin``, and wait for room without blocking the event loop."""
        with self._refusing():
            try:
                return self._ordinary(await ReportedCall.begin(self.scope, None, **self._known()))
            except BudgetExceeded as stop:
                with self._last_call(stop) as (mark, block):
                    reported = await ReportedCall.begin(self.scope, None, **self._known())
                    return self._last(reported, mark, block)

    def _known(self) -> dict[str, Any]:
        answers = self.said.get("operation") != "embeddings"
        expected = expected_of(self.body, answers=answers)
        return {"sink": self.sink, "expected": expected, **self.said}

    def _ordinary(self, reported: ReportedCall) -> OpenCall:
        body = self.body
        if attribution.scope_around() == self.scope:  # that call said it, and may be the last one
            return OpenCall(reported, body)
        if self.sink is not None:
            _ENDED.forget(self.sink)
        if self.shape is not None:
            text = self.ending.briefing(self.sink)
            body = self.shape.briefed(body, text) if text else body
        return OpenCall(reported, body)

    @contextmanager
    def _last_call(self, stop: BudgetExceeded) -> Iterator[tuple[CutShort, ExitStack]]:
        """Allow the last call to begin, or raise the stop. Yields its mark, and what is open."""
        if self.shape is None or self.sink is None or self.ending.on_stop == "raise":
            raise stop
        if stop.verdict.wrap_up is None or not _ENDED.take(self.sink):
            raise stop
        with ExitStack() as block:
            yield block.enter_context(self.ending.last_call(self.sink, stop)), block

    def _last(self, reported: ReportedCall, mark: CutShort, block: ExitStack) -> OpenCall:
        assert self.shape is not None  # noqa: S101 - as _last_call has seen to
        body = self.shape.last(self.body, self.ending.instruction)
        return OpenCall(reported, body, mark=mark, last_call=block.pop_all())

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Tell the run how far it is; have a refusal say what was finished."""
        if self.progress is not None:
            progresses.report(self.sink, self.progress(self.body))
        try:
            yield
        except BudgetExceeded as stop:
            if stop.finished is None:
                stop.finished = field(self.body, "messages", "input")
            raise
