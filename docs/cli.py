"""The page of the command line, out of its parser.

Not out of ``--help``: how that is laid out differs between versions of Python.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from otel_budget.cli.main import parser

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = """# Command line

Generated from the parser by `docs/generate.py`; do not edit by hand. `otel-budget COMMAND --help`
says the same.
"""


def cli_page() -> str:
    """Return the page of all commands and their options."""
    top = parser()
    lines = [_HEAD, "```text", top.epilog or "", "```"]
    for name, command, help_text in _commands(top, ("otel-budget",)):
        lines += _described(name, command, help_text)
    return "\n".join(lines) + "\n"


def _commands(
    above: argparse.ArgumentParser, names: tuple[str, ...]
) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for action in above._actions:  # noqa: SLF001 - argparse has no other way to list them
        if not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            continue
        about = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001 - as above
        for name, command in action.choices.items():
            path = (*names, name)
            yield " ".join(path), command, about.get(name, "")
            yield from _commands(command, path)


def _described(name: str, command: argparse.ArgumentParser, help_text: str) -> Iterator[str]:
    options = [a for a in command._actions if not _is_left_out(a)]  # noqa: SLF001 - as above
    positional = "".join(f" {_metavar(a)}" for a in options if not a.option_strings)
    yield f"\n## {name}{positional}\n"
    yield command.description or f"{help_text[:1].upper()}{help_text[1:]}."
    if options:
        yield "\n| argument | meaning |\n|---|---|"
        yield from (f"| {_named(a)} | {_cell(_about(a))}{_required(a)} |" for a in options)
    if command.epilog:
        yield f"\n```text\n{command.epilog}\n```"


def _is_left_out(action: argparse.Action) -> bool:
    return isinstance(action, argparse._HelpAction | argparse._SubParsersAction)  # noqa: SLF001 - no public names


def _named(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_cell(_metavar(action))}`"
    value = "" if action.nargs == 0 else f" {_metavar(action)}"
    return ", ".join(f"`{_cell(option + value)}`" for option in action.option_strings)


def _about(action: argparse.Action) -> str:
    """Return the help of an argument; ``--help`` fills in the default in the same way."""
    return (action.help or "") % vars(action)


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _required(action: argparse.Action) -> str:
    return " (required)" if action.required and action.option_strings else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
