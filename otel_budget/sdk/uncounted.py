"""Calls of a run that are counted nowhere, or that nothing could refuse: said, never silent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otel_budget.genai.call_tracker import CALL_TRACKER

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from otel_budget.sdk.usage_sinks import RunSink

logger = logging.getLogger("otel_budget")


class Uncounted:
    """Looks at an entered run's beginning and end."""

    def __init__(self, span: Span, sink: RunSink) -> None:
        """Begin with the run. span: the run's own."""
        self._sink, self._unattributed = sink, CALL_TRACKER.unattributed_calls
        self._mind_unseen(span)

    def _mind_unseen(self, span: Span) -> None:
        """Say if the spans of this run are not seen: its calls would not be counted."""
        context = span.get_span_context()
        if not CALL_TRACKER.listens or not context.is_valid or CALL_TRACKER.knows(context.span_id):
            return
        why = (
            "otel_budget.instrument() was called before the tracer provider was set; call it after"
            if span.is_recording()
            else "its trace is not sampled; put RecordingSampler around your provider's sampler"
        )
        logger.warning(
            "session %s: the model calls of this run have no spans that are seen here, and are not "
            "counted: %s", self._sink.session_id, why,
        )  # fmt: skip

    def at_end(self, api_calls: int) -> None:
        """Say what was not seen, not its own or not asked for. api_calls: counted in the run."""
        sink, notices = self._sink, CALL_TRACKER.notices
        lost = CALL_TRACKER.unattributed_calls - self._unattributed
        if lost:
            notices.lost(sink.session_id, lost)
        elif not api_calls and (CALL_TRACKER.in_use or CALL_TRACKER.adapters):
            notices.nothing_seen(sink.session_id, CALL_TRACKER.adapters, spans=CALL_TRACKER.spans)
        if sink.asked and sink.unasked:
            of = sink.asked + sink.unasked
            notices.unasked(sink.session_id, sink.unasked, of, sink.unasked_by)
