"""``otel-budget config check``: what a file would run, or all that is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.cli.command import EXIT_OK, Command, CommandGroup

if TYPE_CHECKING:
    import argparse


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="YAML, as for `otel-budget sidecar --config`")


def _check(arguments: argparse.Namespace) -> int:
    from otel_budget.config.load import load
    from otel_budget.sidecar.config_summary import summary, warnings

    config = load(arguments.file, check_storage=True)
    print(f"OK: {arguments.file}")
    for line in summary(config):
        print(f"  {line}")
    for line in warnings(config):
        print(f"  warning:  {line}")
    return EXIT_OK


COMMAND: Final = CommandGroup(
    "config",
    "check a configuration file",
    (
        Command(
            "check",
            "say what a file would run, or everything that is wrong with it",
            _check,
            _add_arguments,
            "Exits 0 if the sidecar would accept the file, else 2 with a line for each problem.",
            "the sidecar's configuration",
        ),
    ),
)
