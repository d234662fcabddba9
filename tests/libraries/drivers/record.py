"""Record one configuration: the spans of each scenario beside what the provider served.

``python -m tests.libraries.drivers.record CONFIGURATION FOLDER``, in its environment. One file for
each scenario, as ``tests/genai_cases/README.md`` describes. ``expected.best_from_spans`` is what
the processor makes of the spans now: hold it against ``verdict`` before you keep a recording.
"""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import gc
import inspect
import json
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from otel_budget.testing import replay_spans
from tests.libraries.configurations import BY_NAME
from tests.libraries.drivers.application import begin, versions
from tests.libraries.provider import Provider
from tests.libraries.provider.script import TOKENS, total
from tests.libraries.verdicts import compare

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

    from tests.libraries.drivers.scenario import Scenario
    from tests.libraries.provider import Entry


class Recorder(SpanProcessor):
    """Keeps every span with what a processor sees first of it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.started: dict[int, dict[str, Any]] = {}
        """Attributes at the start by span id, in order."""
        self.ended: list[ReadableSpan] = []

    def watch(self) -> None:
        """Look at the spans of the global provider; make one if there is none."""
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(TracerProvider())
        trace.get_tracer_provider().add_span_processor(self)  # type: ignore[attr-defined] # of the API, which has none

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Keep what is there at the start."""
        self.started[span.get_span_context().span_id] = dict(span.attributes or {})

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span that is complete."""
        self.ended.append(span)

    def spans(self) -> list[dict[str, Any]]:
        """Return what ended, in the order of the starts."""
        order = {number: at for at, number in enumerate(self.started)}
        records = [self._span(span, order, at) for at, span in enumerate(self.ended)]
        return sorted(records, key=lambda each: (each["start_order"] is None, each["start_order"]))

    def never_ended(self) -> list[str]:
        """Return the names of the spans that did not end."""
        ended = {_id(span) for span in self.ended}
        return [f"s{at}" for at, number in enumerate(self.started) if number not in ended]

    def _span(self, span: ReadableSpan, order: dict[int, int], end: int) -> dict[str, Any]:
        at = order.get(_id(span))
        parent = None if span.parent is None else order.get(span.parent.span_id)
        outside = None if span.parent is None else "external"
        scope = span.instrumentation_scope
        return {
            "span": f"unseen{end}" if at is None else f"s{at}",
            "parent": outside if parent is None else f"s{parent}",
            "name": span.name, "kind": span.kind.name,
            "status": {"code": span.status.status_code.name},
            "attributes": dict(span.attributes or {}),
            "attributes_at_start": self.started.get(_id(span), {}),
            "scope": {"name": "" if scope is None else scope.name},
            "start_order": at, "end_order": end,
        }  # fmt: skip


def main(name: str, folder: Path) -> None:
    """Play every scenario once, and write a file for each."""
    configuration, recorder = BY_NAME[name], Recorder()
    family = begin(configuration, recorder.watch)
    phase = folder / name
    phase.mkdir(parents=True, exist_ok=True)
    with Provider() as provider, asyncio.Runner() as loop:
        clients = family.connect(provider.url, provider.openai_url)
        for scenario in family:
            provider.follow(scenario.answers)
            recorder.forget()
            error = _play(scenario, clients, loop)
            gc.collect()
            time.sleep(configuration.settle)
            case = _case(scenario, provider.log(), recorder)
            about = {
                "library": name,
                "versions": versions(configuration),
                "scenario": scenario.name,
            }
            text = json.dumps(about | {"scenario_exception": error} | case, indent=1)
            (phase / f"{scenario.name}.json").write_text(text + "\n", encoding="utf-8")


def _play(scenario: Scenario, clients: Any, loop: asyncio.Runner) -> str | None:
    """Play a scenario; return the exception that came out of it, if one did."""

    async def play() -> None:
        done = scenario.play(clients)
        assert done is not None
        await done

    try:
        if inspect.iscoroutinefunction(scenario.play):
            loop.run(play(), context=contextvars.copy_context())
        else:
            scenario.play(clients)
    except Exception:  # noqa: BLE001 - it is recorded
        return traceback.format_exc(limit=0)
    return None


def _case(scenario: Scenario, log: list[Entry], recorder: Recorder) -> dict[str, Any]:
    """Return the recording, with the provider's truth and the processor's reading."""
    served = [entry for entry in log if entry.status == 200]
    spent = total(served)
    case: dict[str, Any] = {
        "spans": recorder.spans(), "spans_never_ended": recorder.never_ended(),
        "server_log": [dataclasses.asdict(entry) for entry in log],
    }  # fmt: skip
    best = replay_spans(case)
    counted = {part: best[part] for part in TOKENS} | {
        "calls": best["operations_ok"], "failed": best["operations_error"],
        "unknown": best["operations_ok_without_usage"],
    }  # fmt: skip
    truth = {"calls": len(served), "failed": scenario.failed} | spent
    expected = {
        "calls_served": len(served), "requests_failed": len(log) - len(served),
        "tokens_spent": spent, "best_from_spans": best, "verdict": compare(truth, counted),
        "why": "",
    }  # fmt: skip
    return {"expected": expected} | case


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


main(sys.argv[1], Path(sys.argv[2]))
