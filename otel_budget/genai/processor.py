"""The span processor: reads every span, and reports it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import StatusCode

from otel_budget.genai import attribute_names
from otel_budget.genai.call_tracker import CALL_TRACKER, CallTracker
from otel_budget.genai.span_reader import NOT_A_CALL, CallReport, Kind, read, written_by_litellm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from otel_budget.genai.span_calls import SpanCalls
    from otel_budget.genai.span_tree import Node


_NOTHING: Final[Mapping[str, object]] = {}
#: Attributes up to which looking at each is quicker than finding those that are wanted first.
_FEW: Final = 32


class BudgetSpanProcessor(SpanProcessor):
    """Counts every model call that a span reports, in the run it belongs to.

    Never raises into the code that makes spans.
    """

    def __init__(
        self, tracker: CallTracker = CALL_TRACKER, *, ignore_scopes: Sequence[str] = ()
    ) -> None:
        """Start nothing.

        ignore_scopes: beginnings of the names of instrumentation scopes whose calls are not
        counted. tracker: for tests and replays.
        """
        self._tracker, self._ignored = tracker, tuple(ignore_scopes)
        tracker.in_use = tracker.spans = True

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note whose span it is, and what may be evicted from it."""
        try:
            start = self._start(span, parent_context)
            if start is not None:
                self._tracker.decide(start, "begins")
        except Exception:  # noqa: BLE001 - a defect here must not end the user's model call
            self._tracker.broken("begins")

    def on_end(self, span: ReadableSpan) -> None:
        """Count the call that the span reports, if it is one."""
        try:
            self._end(span)
        except Exception:  # noqa: BLE001 - as above; here it would throw away a paid answer
            self._tracker.broken("ends")

    def shutdown(self) -> None:
        """Count everything that is held."""
        self._tracker.settle()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Count everything that is held."""
        self._tracker.settle()
        return True

    def _start(
        self, span: ReadableSpan, parent_context: Context | None
    ) -> Callable[[SpanCalls], Node | None] | None:
        context, scope = span.get_span_context(), _scope(span)
        if context is None:
            return None
        return self._tracker.starting(
            context.span_id,
            None if span.parent is None else span.parent.span_id,
            scope,
            _attributes(span),
            name=span.name,
            kind=Kind.OTHER if self._ignores(scope) else None,
            parent_context=parent_context,
            started_ns=span.start_time,
        )

    def _end(self, span: ReadableSpan) -> None:
        tracker, context, scope = self._tracker, span.get_span_context(), _scope(span)
        if context is None:
            return
        seen = _wanted(_attributes(span))
        failed = span.status.status_code is StatusCode.ERROR
        found: list[CallReport] = []

        def end(calls: SpanCalls) -> None:
            node = calls.tree.find(context.span_id, span.start_time)
            if node is None:  # some libraries hide the start of their spans
                start = self._start(span, None)
                node = None if start is None else start(calls)
                if node is None:
                    return
                node.begun_late = True
            report = self._read(span, scope, node, seen)
            found.append(report)
            tracker.ending(node, report, failed=failed)(calls)

        tracker.decide(end, "ends")
        for report in found:
            if report.refused or report.strange or attribute_names.LITELLM_MARK in seen:
                self._say(span, scope, report, seen)

    def _read(
        self, span: ReadableSpan, scope: str, node: Node, seen: Mapping[str, object]
    ) -> CallReport:
        if self._ignores(scope):
            return NOT_A_CALL
        first = node.first
        evicted = [
            name for name in first if name not in seen and name in attribute_names.FROM_START
        ]
        if evicted:
            seen = {**seen, **{name: first[name] for name in evicted}}
        return read(span.name, scope, seen, evicted=bool(span.dropped_attributes))

    def _say(
        self, span: ReadableSpan, scope: str, report: CallReport, seen: Mapping[str, object]
    ) -> None:
        say, notices = self._tracker.say, self._tracker.notices
        if report.refused:
            say(notices.refused, scope, report.refused)
        if report.strange:
            say(notices.strange, scope, span.name, seen.get(attribute_names.OPERATION))
        if written_by_litellm(scope, seen):
            say(notices.written_over, scope)

    def ignores(self, scopes: Sequence[str]) -> bool:
        """Tell whether these beginnings of scopes are among those it was told to ignore."""
        return set(scopes) <= set(self._ignored)

    def _ignores(self, scope: str) -> bool:
        return bool(self._ignored) and scope.startswith(self._ignored)


def _attributes(span: ReadableSpan) -> Mapping[str, object]:
    """Return the attributes of a span as they are now."""
    attributes = span.attributes
    if not attributes:
        return _NOTHING
    # The SDK's own mapping takes 2 µs to look through; its copy, a plain dict, 0.5 µs.
    copy = getattr(attributes, "copy", None)
    return attributes if copy is None else copy()


def _wanted(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return those attributes that are looked at."""
    wanted = attribute_names.ALL
    if len(attributes) < _FEW:
        return {name: value for name, value in attributes.items() if name in wanted}
    return {name: attributes[name] for name in wanted.intersection(attributes)}


def _scope(span: ReadableSpan) -> str:
    scope = span.instrumentation_scope
    return "" if scope is None else scope.name or ""
