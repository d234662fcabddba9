"""Recorded spans through the real processor: what it counts of them."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode

from otel_budget.genai.call_tracker import CallTracker
from otel_budget.genai.notices import Notices
from otel_budget.genai.processor import BudgetSpanProcessor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from otel_budget.genai.call import Call

KEYS: Final = (
    "input", "output", "cached", "cache_write", "reasoning", "operations_ok", "operations_error",
    "operations_ok_without_usage", "tool_calls",
)  # fmt: skip


class CountingSink:
    """Adds up what it is given."""

    session_id = "replay"
    run = None

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(KEYS, 0))
        self.calls: list[Call] = []

    def current_phase(self) -> None:
        """Say nothing."""

    def add(self, call: Call, _phase: object) -> None:
        """Count a call."""
        self.calls.append(call)
        self.counts.update(call.usage._asdict())
        self.counts.update(call.further)
        if call.is_call:
            self.counts["operations_error" if call.failed else "operations_ok"] += 1
            self.counts["operations_ok_without_usage"] += call.unknown and not call.usage.known

    def check(self) -> None:
        """Limit nothing."""

    def hold(self, _expected: object, _said: object) -> None:
        """Hold nothing: nothing is limited."""

    async def hold_async(self, _expected: object, _said: object) -> None:
        """Do the same."""


def replay(case: Mapping[str, Any] | str | PathLike[str]) -> dict[str, int]:
    """Return what the processor counts; see ``otel_budget.testing.replay_spans``."""
    recorded = case if isinstance(case, Mapping) else json.loads(Path(case).read_text("utf-8"))
    tracker = CallTracker(Notices(_say_nothing))
    tally = tracker.unattributed = CountingSink()
    processor = BudgetSpanProcessor(tracker)
    for is_start, span in _events(recorded["spans"]):
        if is_start:
            processor.on_start(span)  # type: ignore[arg-type] # what of a Span is used, it has
        else:
            processor.on_end(span)
    processor.force_flush()
    return dict(tally.counts)


def _say_nothing(*_: object) -> None:
    """Take a notice, and leave it."""


def _events(spans: list[dict[str, Any]]) -> Iterator[tuple[bool, ReadableSpan]]:
    """Yield starts (True) and ends (False) in an order in which they can have come.

    A recording numbers starts and ends apart, each in the order in which they came. Spans begin
    here as late as that allows, so that calls one after the other do not overlap.
    """
    numbers = {span["span"]: number for number, span in enumerate(spans, start=1)}
    started = [span for span in spans if span["start_order"] is not None]
    ended = [span for span in spans if span["end_order"] is not None]
    to_start = deque(sorted(started, key=lambda span: span["start_order"]))
    for number, span in enumerate(sorted(ended, key=lambda span: span["end_order"]), start=1):
        unseen = span["start_order"] is None  # a library hid the start from processors
        while not unseen and to_start and to_start[0]["start_order"] <= span["start_order"]:
            begun = to_start.popleft()
            yield True, _span(begun, numbers[begun["span"]], numbers, "attributes_at_start")
        own = len(spans) + number if unseen else numbers[span["span"]]
        yield False, _span(span, own, numbers, "attributes")
    for begun in to_start:
        yield True, _span(begun, numbers[begun["span"]], numbers, "attributes_at_start")


def _span(
    record: Mapping[str, Any], number: int, numbers: Mapping[str, int], attributes: str
) -> ReadableSpan:
    parent = numbers.get(record["parent"] or "")
    return ReadableSpan(
        name=record["name"],
        context=SpanContext(1, number, is_remote=False),
        parent=None if parent is None else SpanContext(1, parent, is_remote=False),
        attributes=record.get(attributes) or {},
        instrumentation_scope=InstrumentationScope(record["scope"]["name"]),
        status=Status(StatusCode[record["status"]["code"]]),
    )
