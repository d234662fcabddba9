"""Whether this process's metrics go to places where no sidecar sees a run.

OpenTelemetry's exporters (OTLP, console) take the sums of the process. The series of single runs go
out by a Prometheus page alone (adr/0007): they would grow an SDK's instruments without end.
"""

from __future__ import annotations

import os
from typing import Final

from opentelemetry import metrics

ENV_EXPORTER: Final = "OTEL_METRICS_EXPORTER"
#: The exporter by which runs are shown, and the word for no exporter.
_PROMETHEUS, _NONE = "prometheus", "none"
#: Beginnings of the names of readers and exporters that show runs, or send nothing away.
_SHOWING: Final = ("Prometheus", "InMemory")


def asked_for() -> tuple[str, ...]:
    """Return the exporters that the environment names, in lower case."""
    names = os.environ.get(ENV_EXPORTER, "").lower().split(",")
    return tuple(name.strip() for name in names if name.strip())


def without_runs(names: tuple[str, ...]) -> bool:
    """Tell whether exporters are named, and none by which runs are shown."""
    return bool(names) and _PROMETHEUS not in names and names != (_NONE,)


def said() -> str:
    """Say where the metrics of this process go if no run is shown there; empty if one may be."""
    names = asked_for()
    if without_runs(names):
        return f"{ENV_EXPORTER} is {', '.join(names)}"
    if names:
        return ""
    exporters = _of_provider()
    if not exporters or any(name.startswith(_SHOWING) for name in exporters):
        return ""
    return f"the MeterProvider of this process exports by {', '.join(exporters)}"


def _of_provider() -> list[str]:
    """Return what the SDK's provider, if one is set, exports by; by the names of the classes."""
    provider = metrics.get_meter_provider()
    readers = getattr(provider, "_metric_readers", None)  # the SDK has no other way to ask
    if readers is None:
        readers = getattr(getattr(provider, "_sdk_config", None), "metric_readers", ())
    return [type(getattr(reader, "_exporter", None) or reader).__name__ for reader in readers or ()]
