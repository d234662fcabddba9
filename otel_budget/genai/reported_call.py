"""The seam for adapters: calls that a framework tells of itself, instead of by spans."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.extras import extras_of
from otel_budget.core.reasons import Reason
from otel_budget.genai import attribute_names, attribution
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.expected import Expected, text_size
from otel_budget.genai.span_reader import NOT_A_CALL, NOTHING_REPORTED, ToolReport, read
from otel_budget.genai.span_tree import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextvars import Token

    from otel_budget.genai.call import Hold, UsageSink
    from otel_budget.genai.span_reader import CallReport
    from otel_budget.genai.span_tree import Node

__all__ = (
    "Expected", "HasUsageSink", "ReportedCall", "ReportedTool", "report_of", "sink_of", "text_size",
)  # fmt: skip

_OTHER_PARTS: Final = {
    "operation": attribute_names.OPERATION,
    "model": attribute_names.MODEL[0],
    "provider": attribute_names.PROVIDER[0],
    "response_id": attribute_names.RESPONSE_ID[0],
    "charge": attribute_names.CHARGE[0],
    "estimate": attribute_names.ESTIMATE[0],
    "service_tier": attribute_names.SERVICE_TIER[0],
}


#: Why a call is refused though its run may go on.
_FOR_NOW: Final = frozenset({Reason.BUDGET_BUSY, Reason.WRAP_UP})


class HasUsageSink(Protocol):
    """A monitor, as an adapter needs it."""

    @property
    def usage_sink(self) -> UsageSink:
        """Where the calls of its run are counted."""


def report_of(scope: str, *, extras: Mapping[str, int] | None = None, **said: Any) -> CallReport:
    """Return what a framework said of a call, by the same rules as for spans.

    extras: what is billed beside plain tokens, by ``core.extras.NAMES``. said: ``input``,
    ``output``, ``cached``, ``cache_write``, ``reasoning`` (tokens), ``operation`` (default
    ``chat``), ``model``, ``provider``, ``response_id``, ``service_tier``, ``charge`` and
    ``estimate`` (US dollars, as in ``costs``); None for what it does not say.
    """
    seen: dict[str, object] = {attribute_names.OPERATION: "chat"}
    for part, value in said.items():
        if value is not None:
            seen[_OTHER_PARTS[part] if part in _OTHER_PARTS else attribute_names.USAGE[part][0]] = (
                value
            )
    report = read("chat", scope, seen)
    return report._replace(extras=extras_of(extras, said.get("service_tier"))) if extras else report


class ReportedCall:
    """One call of a framework: checked before, counted after. Close it once."""

    def __init__(
        self,
        scope: str,
        monitor: HasUsageSink | None,
        *,
        sink: UsageSink | None = None,
        expected: Expected | None = None,
        **said: Any,
    ) -> None:
        """Begin a call. Raises BudgetExceeded, and begins none, if the run must stop.

        It takes what the call may use off the room of the run until it is over; where calls under
        way hold the room it waits for a while, but not in an event loop: use ``begin`` there.

        monitor: of the run; by default the run is that of the context, or that of the sink handed
        on from there. expected: a guess by the request's text (``text_size``), used while the size
        of the run's calls is unknown. said: what is known of the call already, as in ``report_of``;
        for a call that ends without an answer it is all there is.
        """
        sink = sink if sink is not None and monitor is None else sink_of(monitor)
        hold = None
        if sink is not None:
            with _noting_refusals():
                hold = sink.hold(expected, said)
        self._begin(scope, sink, hold, said)

    @classmethod
    async def begin(
        cls,
        scope: str,
        monitor: HasUsageSink | None,
        *,
        sink: UsageSink | None = None,
        expected: Expected | None = None,
        **said: Any,
    ) -> Self:
        """Begin a call, and wait for room without blocking the event loop. As the constructor."""
        sink = sink if sink is not None and monitor is None else sink_of(monitor)
        hold = None
        if sink is not None:
            with _noting_refusals():
                hold = await sink.hold_async(expected, said)
        call = cls.__new__(cls)
        call._begin(scope, sink, hold, said)  # noqa: SLF001 - its own class
        return call

    def _begin(
        self, scope: str, sink: UsageSink | None, hold: Hold | None, said: dict[str, Any]
    ) -> None:
        self._scope, self._said, self._sink, self._hold = scope, said, sink, hold
        self._node = CALL_TRACKER.open_call(scope, sink=sink, hold=hold)
        self._token: Token[Node | None] | None = None

    def __del__(self) -> None:
        """Give back what it held if it was dropped: its stream, say, was never read to its end."""
        hold = self.__dict__.get("_hold")
        if hold is not None:
            hold.end()

    @contextmanager
    def around(self) -> Iterator[None]:
        """Take what is reported in this context for other records of this call."""
        self.enclose()
        try:
            yield
        finally:
            self.release()

    def enclose(self) -> None:
        """Do as ``around`` does until ``release``, for callbacks."""
        self._token = attribution.ENCLOSING.set(self._node)

    def release(self, *, everywhere: bool = False) -> None:
        """Take what is reported from now on for separate calls.

        everywhere: in contexts that were copied, or are no longer at hand, too.
        """
        if everywhere and self._node is not None:
            self._node.encloses = False
        token, self._token = self._token, None
        if token is not None:
            with suppress(ValueError):  # left in another context, as async generators may be
                attribution.ENCLOSING.reset(token)

    def refusal_inside(self) -> BudgetExceeded | None:
        """Return why a call inside this one was refused, if one was and the run must still stop.

        For frameworks that turn it into an error of theirs.
        """
        refused = self._node is not None and self._node.refused
        if refused and self._sink is not None:
            try:
                self._sink.check()
            except BudgetExceeded as exc:
                return exc
            if isinstance(refused, BudgetExceeded) and refused.verdict.reason in _FOR_NOW:
                return refused  # for want of room: the run itself may go on
        return None

    def cancel(self) -> None:
        """Count nothing: it was no call after all."""
        self._close(NOT_A_CALL, failed=False)

    def close(self, *, failed: bool = False, **said: Any) -> None:
        """Count the call with what the framework said of it, as in ``report_of``. Never raises."""
        if self._is_reported_inside():
            self.cancel()
            return
        known = {name: value for name, value in said.items() if value is not None}
        try:
            report = report_of(self._scope, **{**self._said, **known})
        except Exception:  # noqa: BLE001 - a defect here must not end the user's model call
            CALL_TRACKER.broken("ends")
            report = NOTHING_REPORTED
        self._close(report, failed=failed)

    def _is_reported_inside(self) -> bool:
        """Tell whether the framework made its call by another one of its functions."""
        node = self._node
        return node is not None and any(
            inner.scope == node.scope and inner.usage_known for inner in node.below
        )

    def _close(self, report: CallReport, *, failed: bool) -> None:
        self.release()
        node, self._node = self._node, None
        hold, self._hold = self._hold, None
        CALL_TRACKER.close_call(node, report, failed=failed)
        if hold is not None and (node is None or node.state is not State.HELD):
            hold.end()  # if that did not come to its end


class ReportedTool:
    """One call of a tool: counted after it, whether it succeeded or not. Close it once."""

    def __init__(
        self,
        scope: str,
        monitor: HasUsageSink | None,
        name: object,
        *,
        sink: UsageSink | None = None,
        call_id: object = None,
    ) -> None:
        """Begin a call. monitor, sink: as for ReportedCall. call_id: as the model gave it."""
        sink = sink if sink is not None and monitor is None else sink_of(monitor)
        self._tool = ToolReport(
            name if isinstance(name, str) else "", call_id if isinstance(call_id, str) else None
        )
        self._node = CALL_TRACKER.open_tool(scope, sink=sink)

    def close(self) -> None:
        """Count it. Never raises."""
        node, self._node = self._node, None
        CALL_TRACKER.close_call(node, NOT_A_CALL._replace(tool=self._tool))


@contextmanager
def _noting_refusals() -> Iterator[None]:
    """Take note of a call that is refused."""
    try:
        yield
    except BudgetExceeded as exc:
        CALL_TRACKER.refuse(exc)
        raise


def sink_of(monitor: HasUsageSink | None) -> UsageSink | None:
    """Return the sink of a run: of the given one, else of that of the context."""
    return attribution.current() if monitor is None else monitor.usage_sink
