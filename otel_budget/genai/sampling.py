"""Samplers: a span that is dropped is a call that is not counted.

A dropped span never reaches a processor. To count everything and still export a sample, spans that
would be dropped are recorded without being exported: ``RecordingSampler`` around one's own sampler,
outermost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, SpanKind, TraceState
    from opentelemetry.util.types import Attributes

#: The two ends of what ratio samplers compare with: one of them is dropped by any ratio below 1.
_PROBES: Final = (0x1, 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF)


class RecordingSampler(Sampler):
    """Lets every span be recorded, and those exported that the sampler inside wants exported.

    ``TracerProvider(sampler=RecordingSampler(TraceIdRatioBased(0.1)))``
    """

    def __init__(self, inner: Sampler) -> None:
        """Wrap a sampler."""
        self._inner = inner

    def should_sample(  # noqa: PLR0917 - the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return the decision of the sampler inside, with "record only" instead of "drop"."""
        inner = self._inner.should_sample(
            parent_context, trace_id, name, kind, attributes, links, trace_state
        )
        if inner.decision is not Decision.DROP:
            return inner
        # What is not recorded has no attributes in its result.
        kept = inner.attributes or attributes
        return SamplingResult(Decision.RECORD_ONLY, kept, inner.trace_state)

    def get_description(self) -> str:
        """Name both."""
        return f"RecordingSampler{{{self._inner.get_description()}}}"


def drops(sampler: object) -> str | None:
    """Return the description of a sampler that drops spans of a run; None for one that does not.

    A sampler that goes by the parent (the default one does) is asked without one, and with one of
    its own making: whether a caller's decision drops a run is seen when the run's span is opened.
    """
    if not isinstance(sampler, Sampler):
        return None
    try:
        roots = [sampler.should_sample(None, trace_id, "chat").decision for trace_id in _PROBES]
        if Decision.RECORD_ONLY in roots:  # then spans below one that is not sampled are made
            unsampled = SpanContext(_PROBES[0], 1, is_remote=False)
            below = set_span_in_context(NonRecordingSpan(unsampled))
            roots.append(sampler.should_sample(below, _PROBES[0], "chat").decision)
    except Exception:  # noqa: BLE001 - a foreign sampler: nothing can be said of it
        return None
    return sampler.get_description() if Decision.DROP in roots else None
