"""What the figures were measured on: nothing that would identify the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_COMPARED = (
    "otel-budget",
    "opentelemetry-sdk",
    "opentelemetry-exporter-prometheus",
    "prometheus-client",
    "pydantic-ai-slim",
)


def description() -> tuple[tuple[str, str], ...]:
    """Return name and value of each fact."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        ("CPU", _cpu_model()),
        ("cores", str(os.cpu_count())),
        ("system", platform.system()),
        ("Python", python),
        *((name, _version(name)) for name in _COMPARED),
    )


def resident_mib() -> float:
    """Return the memory of this process that is in RAM, in MiB; Linux only, NaN elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return float("nan")
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
