"""``otel-budget run``: run a program, and keep it inside its budget."""

from __future__ import annotations

import argparse
import uuid
from typing import Final

from otel_budget.agents.known import names
from otel_budget.cli.command import Command
from otel_budget.cli.options import ENV_SESSION, ENV_SIDECAR
from otel_budget.config.flags import FLAGS
from otel_budget.core import validation
from otel_budget.core.resources import RESOURCES
from otel_budget.errors import InvalidValueError
from otel_budget.runtime.environment import setting

_EPILOG: Final = """Telemetry and hooks are set up for this one run; no file of yours is written.

examples:
  otel-budget run --max-cost-usd 5 -- claude -p "fix the failing test"
  otel-budget run --max-tokens 400000 -- claude
  otel-budget run --max-tokens 300000 --trust-hooks -- codex exec "write the release notes"
  otel-budget run --max-tokens 200000 -- gemini -p "explain this repository"
  otel-budget run --max-api-calls 50 -- python my_agent.py
  otel-budget run --max-cost-usd 5 --agent claude-code -- ./my-claude-wrapper -p "…"

exit status: 3 if a budget ended the program, whatever its own; 2 for wrong usage, and with
--strict for a program that could not be guarded; 127 if there is no such program, 126 if it cannot
be run; 128+N if signal N ended it; else the program's own."""


#: What a command line says, what its value is called, and what --help says of it.
_SETTINGS: Final = (
    ("--run", "ID", "session id of the run (OTEL_BUDGET_SESSION_ID, else one is made up)"),
    ("--agent", "NAME", "what the program is, if its name does not tell: " + ", ".join(names())),
    ("--sidecar", "URL", "use this sidecar (OTEL_BUDGET_SIDECAR_URL, else one is started)"),
    ("--storage", "FILE", ("keep the ledger here, so that a later run under the same id goes on "
                          "with it")),
    ("--summary-json", "FILE", "write the summary here, as JSON"),
)  # fmt: skip
_SWITCHES: Final = (
    ("--strict", ("end the program if it cannot be guarded: nothing is counted, no limit, no "
                 "sidecar")),
    ("--no-hooks", "end an agent by signals alone"),
    ("--trust-hooks", ("Codex: run all hooks that are configured, also those it was not told to "
                      "trust (its --dangerously-bypass-hook-trust)")),
)  # fmt: skip


def _add_arguments(command: argparse.ArgumentParser) -> None:
    limits = command.add_argument_group("limits of this run")
    for row in RESOURCES.values():
        FLAGS[row.flag].add_to(limits)
    warn = "share of each limit from which the program is told to finish (0.8)"
    limits.add_argument("--warn-at", metavar="SHARE", type=float, help=warn)
    last = "calls to keep back: it is told to answer once what is left is for these (0)"
    limits.add_argument("--wrap-up-calls", metavar="N", type=int, default=0, help=last)
    how = command.add_argument_group("how it is run")
    grace = (
        "how long it may take to stop by itself before it is sent signals (30 with hooks, 0 for an "
        "agent without, 10 for any other program)"
    )
    how.add_argument("--grace", metavar="SECONDS", type=float, help=grace)
    for name, metavar, text in _SETTINGS:
        how.add_argument(name, metavar=metavar, help=text)
    for name, text in _SWITCHES:
        how.add_argument(name, action="store_true", help=text)
    command.add_argument(
        "command_line", metavar="-- PROGRAM ARGS", nargs=argparse.REMAINDER, help="what to run"
    )


def _run(arguments: argparse.Namespace) -> int:
    from otel_budget.launcher.guarded_run import run
    from otel_budget.launcher.order import Order, checked_file, checked_limits, checked_share

    _check_given(arguments)
    given = {row.limit_key: getattr(arguments, FLAGS[row.flag].dest) for row in RESOURCES.values()}
    order = Order(
        command=_command(arguments.command_line),
        run=_run_id(arguments.run),
        limits=checked_limits(given),
        warn_at=checked_share("--warn-at", arguments.warn_at),
        wrap_up_calls=validation.count("--wrap-up-calls", arguments.wrap_up_calls),
        agent=arguments.agent,
        sidecar=arguments.sidecar or setting(ENV_SIDECAR) or "",
        storage=checked_file("--storage", arguments.storage),
        summary_json=checked_file("--summary-json", arguments.summary_json),
        grace=None if arguments.grace is None else validation.seconds("--grace", arguments.grace),
        strict=arguments.strict,
        hooks=not arguments.no_hooks,
        trust_hooks=arguments.trust_hooks,
    )
    return run(order)


def _check_given(arguments: argparse.Namespace) -> None:
    """Refuse an option that is given as nothing: a variable that is not set is no wish."""
    for flag, metavar, _ in _SETTINGS:
        if vars(arguments)[flag.removeprefix("--").replace("-", "_")] == "":
            raise InvalidValueError(flag, "", f"{metavar}; or leave {flag} out")


def _command(given: list[str]) -> tuple[str, ...]:
    command = given[1:] if given[:1] == ["--"] else given
    if not command:
        sentence = "give the program to run, behind --: otel-budget run --max-cost-usd 5 -- claude"
        raise InvalidValueError("", given, "a program", sentence=sentence)
    return tuple(command)


def _run_id(given: str | None) -> str:
    named = given or setting(ENV_SESSION)
    if not named:
        return f"run-{uuid.uuid4().hex[:12]}"
    try:
        return validation.session_id(named)
    except InvalidValueError as exc:
        raise InvalidValueError("--run" if given else ENV_SESSION, named, exc.allowed) from exc


COMMAND: Final = Command(
    "run",
    "run a program, and keep it inside its budget",
    _run,
    _add_arguments,
    _EPILOG,
    "the sidecar that `otel-budget run` starts",
)
