"""A benchmark in a fresh process of its own: none sees the sessions, the memory or the
OpenTelemetry providers of another.
"""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.report import Report


def run_alone(name: str, *, quick: bool) -> Report:
    """Run the benchmark of this name and return what it found."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run, name, quick=quick).result()


def _run(name: str, *, quick: bool) -> Report:
    logging.getLogger("otel_budget").setLevel(logging.ERROR)  # a limit that is near is no news here
    report: Report = import_module(f"benchmarks.{name}").run(quick=quick)
    return report
