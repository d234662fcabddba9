"""``otel-budget explain``: why a run has, or had, the verdict that it has."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from otel_budget.cli import options
from otel_budget.cli.audit_log import moment
from otel_budget.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command
from otel_budget.cli.explanation import explained
from otel_budget.cli.render.explanation import in_words
from otel_budget.core import validation
from otel_budget.sdk.sidecar_client.request import Asker

if TYPE_CHECKING:
    import argparse

_EPILOG: Final = f"""exit status:
  {EXIT_OK}  explained
  {EXIT_FAILED}  the log has no verdict on this run by then, or the sidecar does not answer
  {EXIT_USAGE}  wrong usage

All of it is from the sidecar's audit log, so runs that are long gone are explained as well. A
verdict is in the log when it became another one: its numbers are those of that moment.

examples:
  otel-budget explain my-run
  otel-budget explain my-run --at 2h
  otel-budget explain my-run --at 2026-01-01T12:00:00Z --json"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    options.add_session(command)
    command.add_argument(
        "--at", metavar="TIME",
        help="the verdict as of then: as long ago as 2h, or RFC 3339 (default: the newest)",
    )  # fmt: skip
    options.add_sidecar(command)


def _explain(arguments: argparse.Namespace) -> int:
    session_id = validation.session_id(arguments.session)
    at = moment("--at", arguments.at)
    found = explained(Asker.of(arguments.sidecar), session_id, at)
    if found is None:
        when = "" if at is None else f" before {arguments.at}"
        said = f"otel-budget: the audit log has no verdict on {session_id}{when}"
        print(said, file=sys.stderr)
        return EXIT_FAILED
    print(json.dumps(found.to_dict()) if arguments.json else in_words(found))
    return EXIT_OK


COMMAND: Final = Command(
    "explain", "say why a run has, or had, its verdict", _explain, _add_arguments, _EPILOG
)
