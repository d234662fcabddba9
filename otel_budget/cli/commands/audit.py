"""``otel-budget audit``: what happened and why, as the sidecar's audit log has it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from otel_budget.cli import options
from otel_budget.cli.audit_log import entries, moment
from otel_budget.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command
from otel_budget.cli.render.audit import line
from otel_budget.core import validation
from otel_budget.core.audit import AuditKind
from otel_budget.sdk.sidecar_client.request import Asker

if TYPE_CHECKING:
    import argparse

#: Seconds between two looks for what is new.
_EVERY: Final = 2.0
_EPILOG: Final = f"""exit status:
  {EXIT_OK}  whatever was found
  {EXIT_FAILED}  the sidecar does not answer
  {EXIT_USAGE}  wrong usage

examples:
  otel-budget audit --since 1h
  otel-budget audit --session my-run --json
  otel-budget audit --kind order --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z
  otel-budget audit --budget research-month --follow

What a verdict rested on, in words: otel-budget explain SESSION"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    ago = "as long ago as this, or from this moment on"
    command.add_argument("--since", metavar="TIME", help=f"entries {ago}: 1h, or RFC 3339")
    command.add_argument("--until", metavar="TIME", help="entries before that: 1h, or RFC 3339")
    command.add_argument("--session", metavar="SESSION", help="only entries about this run")
    command.add_argument("--budget", metavar="NAME", help="only entries about this budget")
    command.add_argument(
        "--kind", choices=[str(kind) for kind in AuditKind], help="only entries of this kind"
    )
    command.add_argument(
        "--follow", action="store_true", help="go on with what is added, until interrupted"
    )
    options.add_sidecar(command)


def _audit(arguments: argparse.Namespace) -> int:
    session = arguments.session
    query: dict[str, object] = {
        "since": moment("--since", arguments.since),
        "until": moment("--until", arguments.until),
        "session": None if session is None else validation.session_id(session),
        "budget": arguments.budget,
        "kind": arguments.kind,
    }
    asker = Asker.of(arguments.sidecar)
    while True:
        for entry in entries(asker, query):
            print(_text(entry, as_json=arguments.json), flush=arguments.follow)
            query["after"] = entry.get("number")
        if not arguments.follow:
            return EXIT_OK
        time.sleep(_EVERY)


def _text(entry: dict[str, Any], *, as_json: bool) -> str:
    return json.dumps(entry, separators=(",", ":")) if as_json else line(entry)


COMMAND: Final = Command(
    "audit", "show what happened and why: verdicts, orders, configurations", _audit,
    _add_arguments, _EPILOG,
)  # fmt: skip
