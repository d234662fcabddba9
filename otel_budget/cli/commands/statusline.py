"""``otel-budget statusline``: the budget of the present session, as Claude Code's status line."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget.cli import options
from otel_budget.cli.command import EXIT_OK, Command
from otel_budget.cli.plain_words import Plain
from otel_budget.cli.render.status_line import NOTHING_YET, one_line_of, plain
from otel_budget.core import validation, verdict_json
from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.sdk.sidecar_client.exchange import Limits
from otel_budget.sdk.sidecar_client.request import Asker, AskError

if TYPE_CHECKING:
    import argparse

_MOST_INPUT: Final = 1_000_000
_NOT_FOUND: Final = 404
#: It is asked again within a second or so.
_LIMITS: Final = Limits(silence=1.0, body=1_000_000, whole=1.5)
_EPILOG: Final = """Reads the JSON that Claude Code gives a status line, and prints one line.
It is `statusLine` in Claude Code's settings, which otel-budget install claude-code writes:

  budget: tokens 43% (17,200 of 40,000) · $0.12 of $5 · continue

It says so where there is no sidecar, or nothing counted yet. Colours unless NO_COLOR is set."""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    where = f"{options.ENV_SIDECAR}, else {options.DEFAULT_SIDECAR}"
    command.add_argument("--url", metavar="URL", default=options.sidecar_url(),
                         help=f"where the sidecar listens (default: {where})")  # fmt: skip
    run = f"the run's id (default: {options.ENV_RUN}, else the session's in the input)"
    command.add_argument("--run", metavar="SESSION", default=options.run_id(), help=run)


def _statusline(arguments: argparse.Namespace) -> int:
    print(_line(arguments))
    return EXIT_OK


def _line(arguments: argparse.Namespace) -> str:
    """Return what to show: always something, as an empty line looks like a budget that is kept."""
    try:
        run = validation.session_id(arguments.run or _session())
        asker = Asker.of(arguments.url)
        headers = asker.address.headers("application/json")
        head = f"GET /v1/verdicts/{quote(run, safe='')}"
        verdict = verdict_json.from_json(asker.send(head, headers, b"", _LIMITS).body)
    except AskError as exc:
        if exc.status == _NOT_FOUND:
            return NOTHING_YET
        return plain(exc.problem if exc.status else f"no sidecar: {exc.problem}")
    except InvalidValueError:
        return plain("not known: no session's id in the input, or no sidecar answers there")
    except OtelBudgetError as exc:
        return plain(f"not known: {exc}")
    return one_line_of(verdict, colour="NO_COLOR" not in os.environ)


def _session() -> object:
    """Return the session's id in what Claude Code sends. Raises InvalidValueError."""
    try:
        given = json.loads(sys.stdin.buffer.read(_MOST_INPUT))
    except (ValueError, RecursionError) as exc:
        raise InvalidValueError("stdin", "", "JSON") from exc
    return given.get("session_id") if isinstance(given, dict) else None


COMMAND: Final = Command(
    "statusline",
    "show the budget of a session in Claude Code's status line",
    _statusline,
    _add_arguments,
    _EPILOG,
    plain=Plain(positionals={}, options={"--url": options.sidecar_url, "--run": options.run_id}),
)
