"""``otel-budget sidecar``: run the sidecar, with a configuration file or with flags."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import time
from typing import TYPE_CHECKING, Final

from otel_budget.cli.command import EXIT_OK, Command
from otel_budget.config import flags
from otel_budget.errors import InvalidValueError
from otel_budget.logs.line_limit import LineFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.config.schema import SidecarConfig
    from otel_budget.sidecar.main import Fill

_EPILOG: Final = """Takes a configuration file or flags, not both.

examples:
  otel-budget sidecar --target http://127.0.0.1:9464/metrics --max-tokens 2000000
  otel-budget sidecar --file-sd 'targets/*.json' --interval 500ms --max-cost-usd 2.50
  otel-budget sidecar --prometheus http://127.0.0.1:9090 --interval 5s
  otel-budget sidecar --config sidecar.yaml

Verdicts are at http://127.0.0.1:9465/v1/verdicts and /v1/stream, the API is described at
/openapi.json. SIGHUP reloads the file; a bad one changes nothing. SIGTERM ends it after one last
tick."""


def add_arguments(sidecar: argparse.ArgumentParser) -> None:
    """Add what the sidecar takes; ``health`` reads it from a container's first process, too."""
    whole = "read the whole configuration from this file; SIGHUP reloads it"
    sidecar.add_argument("--config", metavar="FILE", help=whole)
    level = "how much to log (info); debug also has the lines that are otherwise left out"
    levels = ("debug", "info", "warning", "error")
    sidecar.add_argument("--log-level", choices=levels, help=level)
    for title, group in flags.GROUPS.items():
        added = sidecar.add_argument_group(title)
        for flag in group:
            flag.add_to(added)


def _sidecar(arguments: argparse.Namespace) -> int:
    _log_to_stderr(arguments.log_level)
    with _hangups_wait():
        from otel_budget.sidecar.main import run
        from otel_budget.sources.resolver import bound_lookups

        config = _config(arguments)
        bound_lookups()
        run(config, arguments.config, _fill_of(config))
    return EXIT_OK


def _fill_of(config: SidecarConfig) -> Fill | None:
    """Return what fills new budgets from history; None where none asks for it."""
    if not any(budget.backfill for budget in config.budgets):
        return None
    from otel_budget.replay.backfill import fill

    return fill


@contextlib.contextmanager
def _hangups_wait() -> Iterator[None]:
    """Hold SIGHUP back until the sidecar listens for it: before that it would end the process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _config(arguments: argparse.Namespace) -> SidecarConfig:
    from otel_budget.config.load import from_flags, load

    values = {name: getattr(arguments, flag.dest) for name, flag in flags.FLAGS.items()}
    given = {name: value for name, value in values.items() if value is not None}
    if arguments.config is None:
        return from_flags(given)
    if given:
        sentence = f"--config takes no other flags: put {', '.join(given)} into the file"
        raise InvalidValueError("", arguments.config, "--config alone", sentence=sentence)
    return load(arguments.config)


def _log_to_stderr(level: str | None) -> None:
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    handler.addFilter(LineFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if level is not None:
        logging.getLogger("otel_budget").setLevel(level.upper())


COMMAND: Final = Command(
    "sidecar",
    "watch runs and publish verdicts on them",
    _sidecar,
    add_arguments,
    _EPILOG,
    "the sidecar",
)
