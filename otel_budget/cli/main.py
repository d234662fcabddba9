"""Find the commands, parse what was typed, run one of them, and say what went wrong.

Nothing of the extra is imported here; each command brings its own parts, so an agent's environment
without the extra still has ``check`` and ``version``. Of the commands only the one that is typed is
imported, where that can be seen from the first word: an agent waits for ``check``.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Final, cast

from otel_budget._version import __version__
from otel_budget.cli import commands
from otel_budget.cli.command import (
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    EXIT_STOP,
    EXIT_USAGE,
    Command,
    CommandGroup,
)
from otel_budget.errors import (
    ConfigFileError,
    InvalidConfigError,
    InvalidValueError,
    MissingExtraError,
    OtelBudgetError,
)
from otel_budget.logs.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

#: As the shell reports a process that died of the signal.
_EXIT_INTERRUPTED: Final = 130
_EXIT_BROKEN_PIPE: Final = 141

_WRONG_USAGE: Final = (InvalidValueError, InvalidConfigError, ConfigFileError, MissingExtraError)
_EXTRA_PACKAGES: Final = {"h11", "pydantic", "rich", "starlette", "uvicorn"}
_EPILOG: Final = f"""examples:
  otel-budget demo                                   see everything at work, in under a minute
  otel-budget sidecar --target http://127.0.0.1:9464/metrics --max-tokens 2000000
  otel-budget sidecar --config sidecar.yaml
  otel-budget config check sidecar.yaml
  otel-budget check my-run                           the sidecar's verdict on a run
  otel-budget session stop my-run --reason "runs in circles"
  otel-budget read http://127.0.0.1:9464/metrics     what it would count on a page
  otel-budget doctor                                 find the broken link of the chain

exit status: {EXIT_OK} done, {EXIT_FAILED} failed, {EXIT_USAGE} wrong usage or configuration;
check also exits {EXIT_STOP} for stop, {EXIT_INCONCLUSIVE} for inconclusive, unknown, or no sidecar.
`otel-budget COMMAND --help` says more about each."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a sign shows another
    words = sys.argv[1:] if argv is None else argv
    command, arguments = _parsed(words)
    try:
        status = _run(command, arguments)
        sys.stdout.flush()
    except OtelBudgetError as exc:
        for line in str(exc).splitlines():
            print(f"otel-budget: {printable(line)}", file=sys.stderr)
        return EXIT_USAGE if isinstance(exc, _WRONG_USAGE) else EXIT_FAILED
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone; the interpreter's own flush must not fail on it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    return status


def parser(first: str = "") -> argparse.ArgumentParser:
    """Return the parser of the whole; what it parses has the chosen one as ``command``.

    first: the first word that was typed; if it is a command, the parser knows no other one.
    """
    import argparse

    top = argparse.ArgumentParser(
        prog="otel-budget",
        description="Keep autonomous agent runs inside their budget of tokens, API calls, time and "
        "money.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"otel-budget {__version__}")
    added = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    typed = _typed(first)
    for command in found_commands() if typed is None else (typed,):
        command.add_to(added)
    return top


def _parsed(words: Sequence[str]) -> tuple[Command, argparse.Namespace]:
    """Return the command that was typed, and its arguments. Raises SystemExit, having said why."""
    first = words[0] if words else ""
    typed = _typed(first)
    if isinstance(typed, Command) and typed.plain is not None:
        found = typed.plain.read(words[1:])
        if found is not None:
            return typed, cast("argparse.Namespace", found)
    arguments = parser(first).parse_args(words)
    return arguments.command, arguments


def found_commands() -> Iterator[Command | CommandGroup]:
    """Yield what each module in ``commands`` declares, by its name."""
    import pkgutil

    for module in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}."):
        yield importlib.import_module(module.name).COMMAND


def _typed(word: str) -> Command | CommandGroup | None:
    """Return the command that a word names, without importing any other; None if none does."""
    if not word.isidentifier() or word.startswith("_"):
        return None
    name = f"{commands.__name__}.{word}"
    try:
        found: Command | CommandGroup = importlib.import_module(name).COMMAND
    except ModuleNotFoundError as exc:
        if exc.name != name:
            raise
        return None
    return found


def _run(command: Command, arguments: argparse.Namespace) -> int:
    """Run a command; turn the absence of a package of the extra into words that help."""
    try:
        return command.run(arguments)
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package not in _EXTRA_PACKAGES:
            raise
        raise MissingExtraError(command.extra or command.name, "sidecar", package) from exc
