"""What endpoints show, pushed by OTLP instead: each endpoint is a pusher of its own."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from otel_budget.sources.decompression import Plain
from otel_budget.sources.otlp.source import OtlpSettings, OtlpSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.core.observation import Observation
    from otel_budget.presets.model import Preset
    from otel_budget.sources.base import Clock
    from tests.support.exposition import Exposition


def peer_of(number: int) -> str:
    """Return who an endpoint is as a pusher."""
    return f"agent-{number}"


def target_of(number: int) -> str:
    """Return what a source calls it."""
    return f'otlp://{peer_of(number)}{{signal="metrics"}}'


class PushedSource(OtlpSource):
    """A source to which endpoints push what they show, just before it is read."""

    def __init__(
        self, endpoints: Sequence[Exposition], presets: Sequence[Preset], clock: Clock
    ) -> None:
        """Begin with nothing pushed."""
        super().__init__(OtlpSettings(presets), clock)
        self._endpoints = endpoints

    async def read(self) -> Observation:
        """Push, then read."""
        for number, endpoint in enumerate(self._endpoints):
            if endpoint.text:
                body = request_of(endpoint.text)
                await self.take("metrics", body, Plain(), "application/json", peer_of(number))
        return await super().read()


def request_of(text: str) -> bytes:
    """Return a page as a request, cumulative, without a start of counting."""
    metrics = [
        {"name": family.name, family_kind(family): {**data_of(family), "dataPoints": [
            {"attributes": [{"key": k, "value": {"stringValue": v}} for k, v in s.labels.items()],
             "timeUnixNano": str(time.time_ns()), "asDouble": value_of(s.value)}
            for s in family.samples if not s.name.endswith("_created")
        ]}}
        for family in text_string_to_metric_families(text)
    ]  # fmt: skip
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()


def family_kind(family: Any) -> str:
    """Return what a metric is in OTLP, which has none without a type."""
    return "gauge" if family.type == "gauge" else "sum"


def data_of(family: Any) -> dict[str, object]:
    """Return what a sum says of itself."""
    if family_kind(family) == "gauge":
        return {}
    return {"aggregationTemporality": 2, "isMonotonic": True}


def value_of(value: float) -> float | str:
    """Return a number as OTLP's JSON has it."""
    text = repr(value)
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text, value)
