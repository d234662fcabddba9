"""``otel-budget version``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget._version import __version__
from otel_budget.cli.command import EXIT_OK, Command

if TYPE_CHECKING:
    import argparse


def _version(_arguments: argparse.Namespace) -> int:
    print(f"otel-budget {__version__}")
    return EXIT_OK


COMMAND: Final = Command("version", "print the version", _version)
