"""``otel-budget sidecar``: run the sidecar, with a configuration file or with flags."""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import time
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from otel_budget.cli.command import EXIT_OK, Command
from otel_budget.errors import InvalidValueError
from otel_budget.logs.line_budget import LineFilter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.config.schema import SidecarConfig

#: Flags that stand for keys of a configuration file.
CONFIG_FLAGS: Final = (
    "targets", "file_sd", "prometheus_url", "interval", "max_tokens", "max_api_calls",
    "max_cost_usd", "max_duration_seconds", "max_active_seconds", "lease", "listen",
    "read_token_file", "admin_token_file", "allow_unauthenticated", "storage",
)  # fmt: skip
#: As people type them.
FLAG_NAMES: Final = {name: f"--{name.replace('_', '-')}" for name in CONFIG_FLAGS} | {
    "targets": "--target",
    "prometheus_url": "--prometheus",
}
_EPILOG: Final = """Takes a configuration file, or flags; not both.

examples:
  otel-budget sidecar --target http://127.0.0.1:9464/metrics --max-tokens 2000000
  otel-budget sidecar --file-sd 'targets/*.json' --interval 500ms --max-cost-usd 2.50
  otel-budget sidecar --prometheus http://127.0.0.1:9090 --interval 5s
  otel-budget sidecar --config sidecar.yaml

Verdicts are at http://127.0.0.1:9465/v1/verdicts and /v1/stream, the description at /openapi.json.
SIGHUP reads the file again; a bad one changes nothing. SIGTERM ends it after one last tick."""


def add_arguments(sidecar: argparse.ArgumentParser) -> None:
    """Add what the sidecar takes; ``health`` reads it from a container's first process, too."""
    whole = "all of the configuration; SIGHUP reads it again"
    sidecar.add_argument("--config", metavar="FILE", help=whole)
    level = "what to log (info); debug has the lines that the bounds of the log hold back"
    levels = ("debug", "info", "warning", "error")
    sidecar.add_argument("--log-level", choices=levels, help=level)
    source = sidecar.add_argument_group("without a file: where samples come from, one of")
    source.add_argument("--target", action="append", dest="targets", metavar="URL",
                        help="scrape this /metrics; may be given again")  # fmt: skip
    source.add_argument("--file-sd", action="append", metavar="GLOB",
                        help="scrape the targets in these Prometheus file_sd files")  # fmt: skip
    source.add_argument("--prometheus", dest="prometheus_url", metavar="URL",
                        help="ask this Prometheus, or what speaks its query API")  # fmt: skip
    source.add_argument("--interval", metavar="TIME", help="how often: seconds, or such as 500ms")
    limits = sidecar.add_argument_group("without a file: ceilings for every run")
    limits.add_argument("--max-tokens", type=int, metavar="N", help="input and output together")
    limits.add_argument("--max-api-calls", type=int, metavar="N", help="calls to models")
    limits.add_argument("--max-cost-usd", type=_decimal, metavar="USD", help="US dollars")
    limits.add_argument("--max-duration-seconds", "--max-duration", type=float, metavar="SECONDS",
                        help="since the run began, downtime included")  # fmt: skip
    limits.add_argument("--max-active-seconds", type=float, metavar="SECONDS",
                        help="without pauses and downtime")  # fmt: skip
    others = sidecar.add_argument_group("without a file: the rest")
    lease = "how long a verdict may be trusted: seconds, or such as 1m (15s)"
    others.add_argument("--lease", metavar="TIME", help=lease)
    where = "where to publish (127.0.0.1:9465); port 0 takes a free one"
    others.add_argument("--listen", metavar="HOST:PORT", help=where)
    others.add_argument("--read-token-file", metavar="FILE",
                        help="ask readers for one of the tokens in this file")  # fmt: skip
    others.add_argument("--admin-token-file", metavar="FILE",
                        help="let who has one of these tokens stop and limit runs")  # fmt: skip
    others.add_argument("--allow-unauthenticated", action="store_true", default=None,
                        help="serve other hosts without asking who they are")  # fmt: skip
    others.add_argument("--storage", metavar="FILE", help="SQLite file (./otel-budget.db)")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount such as 2.50") from exc


def _sidecar(arguments: argparse.Namespace) -> int:
    _log_to_stderr(arguments.log_level)
    with _hangups_wait():
        from otel_budget.sidecar.main import run
        from otel_budget.sources.resolver import bound_lookups

        config = _config(arguments)
        bound_lookups()
        run(config, arguments.config)
    return EXIT_OK


@contextlib.contextmanager
def _hangups_wait() -> Iterator[None]:
    """Hold SIGHUP back until the sidecar hears it: before that it would end the process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _config(arguments: argparse.Namespace) -> SidecarConfig:
    from otel_budget.config.load import from_flags, load

    flags = {
        name: getattr(arguments, name)
        for name in CONFIG_FLAGS
        if getattr(arguments, name) is not None
    }
    if arguments.config is None:
        return from_flags(**flags)
    if flags:
        given = ", ".join(FLAG_NAMES[name] for name in flags)
        sentence = f"--config takes no other flags beside it; put into the file what {given} says"
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
