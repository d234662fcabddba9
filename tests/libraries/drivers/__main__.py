"""Run one configuration; write its outcomes as JSON.

``python -m tests.libraries.drivers CONFIGURATION FILE``, in the environment of the configuration.
"""

import asyncio
import json
import sys
from pathlib import Path

import otel_budget
from otel_budget.core.usage import ResourceUsage
from tests.libraries.configurations import BY_NAME
from tests.libraries.drivers.application import begin, versions
from tests.libraries.drivers.stage import Stage, play_all
from tests.libraries.provider import Provider


def counted_outside() -> ResourceUsage:
    """Return what was counted outside of every run, held calls included."""
    otel_budget.instrument().force_flush()
    return otel_budget.unattributed_usage()


def main(name: str, file: Path) -> None:
    """Instrument as an application would, and play everything."""
    configuration = BY_NAME[name]
    family = begin(configuration, otel_budget.instrument)
    with Provider() as provider, asyncio.Runner() as loop:
        clients = family.connect(provider.url, provider.openai_url)
        settle, tools = configuration.settle, configuration.asks and family.calls_tools
        stage = Stage(provider, clients, counted_outside, settle, loop, tools)
        outcomes = play_all(family, stage, asks=configuration.asks)
    result = {"versions": versions(configuration), "outcomes": outcomes}
    file.write_text(json.dumps(result), encoding="utf-8")


main(sys.argv[1], Path(sys.argv[2]))
