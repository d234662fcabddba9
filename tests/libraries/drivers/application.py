"""Begins as an application would: a tracer provider, and the telemetry of its libraries."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING

from tests.libraries.drivers import setups

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.libraries.configurations import Configuration
    from tests.libraries.drivers.scenario import Family


def begin(configuration: Configuration, watch_spans: Callable[[], object]) -> Family:
    """Turn on the telemetry; return the scenarios.

    watch_spans: puts a span processor into the global provider, and makes one if there is none.
    """
    if not configuration.brings_provider:
        watch_spans()
    for setup in configuration.setups:
        getattr(setups, setup)()
    if configuration.brings_provider:
        watch_spans()
    module = importlib.import_module(f"tests.libraries.drivers.{configuration.family}")
    family: Family = module.FAMILY
    return family


def versions(configuration: Configuration) -> dict[str, str]:
    """Return the versions that matter."""
    packages = sorted({*configuration.packages, "opentelemetry-sdk"})
    return {package: version(package) for package in packages}
