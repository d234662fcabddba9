"""Run one configuration; write its outcomes as JSON.

``python -m tests.libraries.drivers CONFIGURATION FILE``, in the environment of the configuration.
"""

import asyncio
import importlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

import otel_budget
from tests.libraries.configurations import BY_NAME
from tests.libraries.drivers import setups
from tests.libraries.drivers.scenario import Family
from tests.libraries.drivers.stage import Stage, play_all
from tests.libraries.provider import Provider


def main(name: str, file: Path) -> None:
    """Instrument as an application would, and play everything."""
    configuration = BY_NAME[name]
    if not configuration.brings_provider:
        otel_budget.instrument()
    for setup in configuration.setups:
        getattr(setups, setup)()
    otel_budget.instrument()
    family: Family = importlib.import_module(
        f"tests.libraries.drivers.{configuration.family}"
    ).FAMILY
    with Provider() as provider, asyncio.Runner() as loop:
        clients = family.connect(provider.url, provider.openai_url)
        stage = Stage(provider, clients, otel_budget.unattributed_usage, configuration.settle, loop)
        outcomes = play_all(family, stage)
    packages = sorted({*configuration.packages, "opentelemetry-sdk"})
    result = {
        "configuration": name,
        "versions": {package: version(package) for package in packages},
        "outcomes": outcomes,
    }
    file.write_text(json.dumps(result, indent=1), encoding="utf-8")


main(sys.argv[1], Path(sys.argv[2]))
