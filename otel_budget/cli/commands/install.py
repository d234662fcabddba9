"""``otel-budget install``: a coding agent's own settings, so that each of its sessions is held."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from otel_budget.agents.known import names, settings_of
from otel_budget.cli import options
from otel_budget.cli.command import EXIT_FAILED, EXIT_OK, Command
from otel_budget.errors import InvalidValueError
from otel_budget.logs.text import printable
from otel_budget.runtime.environment import setting

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from otel_budget.agents.settings import AgentSettings, Wanted
    from otel_budget.cli.settings_files import Plan

_RECEIVER: Final = "http://127.0.0.1:4318"
_ANOTHER_STATUS: Final = 404
_EPILOG: Final = f"""Shows what it would write, asks, and writes it: telemetry to the sidecar's
receiver, hooks that ask the sidecar at every step, and a status line. What you have set stays;
where that is in the way, nothing is written. A copy of each file is kept beside it; --remove puts
it back.

exit status:
  {EXIT_OK}  written, or there was nothing to do
  {EXIT_FAILED}  not written: you said no, or a file cannot be changed
  2  wrong usage, or a setting of yours is in the way

examples:
  otel-budget install claude-code                    the sidecar is at {options.DEFAULT_SIDECAR}
  otel-budget install codex --sidecar http://127.0.0.1:9500 --dry-run
  otel-budget install gemini-cli                     for otel-budget run -- gemini … only
  otel-budget install claude-code --remove"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("agent", choices=names(), help="whose settings")
    where = f"{options.ENV_SIDECAR}, else {options.DEFAULT_SIDECAR}"
    command.add_argument("--sidecar", metavar="URL",
                         help=f"where the sidecar listens (default: {where})")  # fmt: skip
    receiver = f"where its receiver takes OTLP (default: what the sidecar says, else {_RECEIVER})"
    command.add_argument("--receiver", metavar="URL", help=receiver)
    scope = command.add_mutually_exclusive_group()
    scope.add_argument("--user", action="store_true", help="your own settings (the default)")
    scope.add_argument("--project", action="store_true", help="those of the present folder")
    command.add_argument("--no-telemetry", action="store_true",
                         help="hooks only: the telemetry comes another way")  # fmt: skip
    command.add_argument("--no-status-line", action="store_true",
                         help="no status line (Claude Code alone has one)")  # fmt: skip
    command.add_argument("--fail-closed", action="store_true",
                         help="block each step that the sidecar does not answer for")  # fmt: skip
    command.add_argument("--remove", action="store_true", help="take it out again")
    command.add_argument("--dry-run", action="store_true", help="show it, and write nothing")
    command.add_argument("--yes", action="store_true", help="write without asking")


def _install(arguments: argparse.Namespace) -> int:
    from otel_budget.cli.settings_files import put_back, to_install, to_remove, write

    settings = settings_of(arguments.agent)
    files = settings.files(os.environ, project=arguments.project)
    if arguments.remove:
        plans = [to_remove(settings, file) for file in files]
    else:
        wanted = _wanted(arguments, settings)
        plans = [to_install(settings, file, wanted) for file in files]
    _show(plans)
    changing = [plan for plan in plans if plan.changes]
    if not changing:
        print("nothing of otel-budget is there" if arguments.remove else "it is all there already")
        return EXIT_OK
    if arguments.dry_run:
        return EXIT_OK
    if not arguments.yes and not _agreed():
        print("nothing was written")
        return EXIT_FAILED
    for plan in changing:
        (put_back if arguments.remove else write)(plan)
        print(f"{_done(plan)} {plan.path}")
    if not arguments.remove:
        print(settings.THEN)
    return EXIT_OK


def _wanted(arguments: argparse.Namespace, settings: AgentSettings) -> Wanted:
    import shutil

    from otel_budget.agents.settings import Wanted, safe_url

    named = arguments.sidecar or setting(options.ENV_SIDECAR)
    sidecar = safe_url("--sidecar", named or options.DEFAULT_SIDECAR)
    telemetry = not arguments.no_telemetry and (bool(named) or not settings.NEEDS_NAME)
    receiver = arguments.receiver or (_receiver_of(sidecar) if telemetry else _RECEIVER)
    return Wanted(
        sidecar=sidecar,
        receiver=safe_url("--receiver", receiver),
        command=_own_command(),
        has_curl=shutil.which("curl") is not None,
        fail_closed=arguments.fail_closed,
        telemetry=telemetry,
        status_line=not arguments.no_status_line,
        is_named=bool(named),
    )


def _own_command() -> tuple[str, ...]:
    """Return how this program is called, from whatever folder: an agent's may hold anything."""
    from pathlib import Path

    script = Path(sys.executable).with_name("otel-budget")
    if script.exists():
        return (str(script),)
    return (sys.executable, "-P", "-m", "otel_budget")


def _receiver_of(sidecar: str) -> str:
    """Return where a sidecar's receiver takes OTLP; say what keeps it from being told."""
    import json

    from otel_budget.sdk.sidecar_client.request import Asker, AskError

    try:
        told = json.loads(Asker.of(sidecar).get("/v1/receiver"))
        endpoint, needs_token = str(told["endpoint"]), bool(told["token_required"])
    except AskError as exc:
        problem = exc.problem
        if exc.status == _ANOTHER_STATUS:
            problem = "that sidecar has no receiver: give its configuration a source otlp"
        _warn(f"{problem}; telemetry will go to {_RECEIVER}")
        return _RECEIVER
    except (ValueError, KeyError, TypeError):
        raise InvalidValueError("--sidecar", sidecar, "the URL of a sidecar") from None
    if needs_token:
        _warn(
            "its receiver wants a token, which is not written to files here: set "
            "OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20… where the agent is started"
        )
    return endpoint


def _show(plans: Sequence[Plan]) -> None:
    """Print what changes, line by line, and what is to be known of it."""
    from difflib import unified_diff

    for plan in plans:
        if plan.changes:
            old, new = ((each or b"").decode().splitlines() for each in (plan.before, plan.after))
            # Without the lines around: they may hold keys of other services.
            names = _shown(plan, plan.before), _shown(plan, plan.after)
            for line in unified_diff(old, new, names[0], names[1], n=0, lineterm=""):
                print(printable(line.replace("\t", "    ")))
        for note in plan.notes:
            _warn(f"{plan.path}: {note}")


def _shown(plan: Plan, content: bytes | None) -> str:
    return "/dev/null" if content is None else str(plan.path)


def _done(plan: Plan) -> str:
    return "taken away:" if plan.after is None else "written:"


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InvalidValueError("", "", "", sentence="nobody can be asked here: give --yes")
    try:
        return input("Write this? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _warn(text: str) -> None:
    print(f"note: {printable(text)}", file=sys.stderr)


COMMAND: Final = Command(
    "install",
    "write a coding agent's settings, so that its sessions are counted and held",
    _install,
    _add_arguments,
    _EPILOG,
)
