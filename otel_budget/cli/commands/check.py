"""``otel-budget check``: the sidecar's verdict on one run, also as an exit status."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget.cli import options
from otel_budget.cli.command import (
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    EXIT_STOP,
    EXIT_USAGE,
    Command,
)
from otel_budget.cli.plain_words import Plain
from otel_budget.cli.render.verdict import in_words
from otel_budget.core import validation, verdict_json
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.logs.text import printable
from otel_budget.sdk.sidecar_client.request import Asker, AskError

if TYPE_CHECKING:
    import argparse

_EPILOG: Final = f"""exit status:
  {EXIT_OK}  continue
  {EXIT_STOP}  stop
  {EXIT_INCONCLUSIVE}  inconclusive, whatever the action; or an unknown run, or no sidecar
  {EXIT_USAGE}  wrong usage

The verdict is on the run last seen under this id. Once that run has ended (`run_state` is
completed, stopped or failed), the verdict and this exit status are history: they say nothing about
the next run under the same id, so don't let them decide whether to start one.

examples:
  otel-budget check my-run
  otel-budget check my-run --json | jq '.run_state, .headroom.tokens'
  otel-budget check my-run --sidecar http://127.0.0.1:9465"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    options.add_session(command)
    options.add_sidecar(command)


def _check(arguments: argparse.Namespace) -> int:
    session_id = validation.session_id(arguments.session)
    path = f"/v1/verdicts/{quote(session_id, safe='')}"
    try:
        text = Asker.of(arguments.sidecar).get(path)
    except AskError as exc:
        if arguments.json:
            print(json.dumps({"session_id": session_id, "error": exc.problem}))
        else:
            print(printable(f"{session_id}: unknown: {exc.problem}"))
        return EXIT_INCONCLUSIVE
    try:
        verdict = verdict_json.from_json(text)
    except InvalidValueError as exc:
        said = f"otel-budget: {arguments.sidecar} does not answer like a sidecar: {exc}"
        print(printable(said), file=sys.stderr)
        return EXIT_INCONCLUSIVE
    print(verdict_json.to_json(verdict) if arguments.json else in_words(verdict))
    if verdict.status is LimitStatus.INCONCLUSIVE:
        return EXIT_INCONCLUSIVE
    return EXIT_OK if verdict.should_continue else EXIT_STOP


COMMAND: Final = Command(
    "check",
    "ask the sidecar for its verdict on one run",
    _check,
    _add_arguments,
    _EPILOG,
    plain=Plain(
        positionals={"session": None},
        options={"--sidecar": options.sidecar_url},
        flags=("--json",),
    ),
)
