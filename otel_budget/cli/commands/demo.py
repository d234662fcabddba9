"""``otel-budget demo``: runs and a sidecar, on recorded input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.cli import options
from otel_budget.cli.command import Command
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    import argparse

_EPILOG: Final = """One run finishes, one is stopped by its own limit, one by the sidecar.
Then two of three share a budget, and the one that can still finish does.

examples:
  otel-budget demo                                   everything, including a sidecar, in 40 seconds
  otel-budget demo --serve 127.0.0.1:9464            again and again, for your own sidecar
                                                     and dashboards, until SIGTERM"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    faster = "how many times faster than recorded (12; with --serve 2)"
    command.add_argument("--speed", type=float, metavar="FACTOR", help=faster)
    serve = "repeat the runs, with /metrics at this address, for a sidecar elsewhere"
    command.add_argument("--serve", metavar="HOST:PORT", help=serve)
    where = f"(default: {options.ENV_SIDECAR}, else {options.DEFAULT_SIDECAR})"
    command.add_argument("--sidecar", metavar="URL",
                         help=f"with --serve: where that sidecar listens {where}")  # fmt: skip
    kept = "folder for checkpoints, logs and storage (a new one)"
    command.add_argument("--keep", metavar="DIR", help=kept)


def _demo(arguments: argparse.Namespace) -> int:
    from otel_budget.demo.play import run_demo, serve_demo

    given = {} if arguments.speed is None else {"speed": arguments.speed}
    if arguments.serve is not None:
        sidecar = arguments.sidecar or options.sidecar_url()
        return serve_demo(arguments.serve, sidecar, keep=arguments.keep, **given)
    if arguments.sidecar is not None:
        sentence = "needs --serve as well: without it the demo starts its own sidecar"
        raise InvalidValueError(
            "--sidecar", arguments.sidecar, "--serve with it", sentence=sentence
        )
    return run_demo(keep=arguments.keep, **given)


COMMAND: Final = Command(
    "demo",
    "watch runs and a sidecar, on recorded input",
    _demo,
    _add_arguments,
    _EPILOG,
    "the demo",
)
