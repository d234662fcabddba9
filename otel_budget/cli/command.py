"""The shape of a command: what it is called, what ``--help`` says, what it takes, what it does."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - has no public name

#: What a command returns.
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
#: Of ``check`` alone.
EXIT_STOP: Final = 3
EXIT_INCONCLUSIVE: Final = 4


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    help: str
    """One line, in lower case and without a full stop."""
    run: Callable[[argparse.Namespace], int]
    """Does it, and returns the exit status; what it raises, ``main`` puts into words."""
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda _parser: None
    epilog: str = ""
    """Shown below the arguments, as it is: exit statuses and examples."""
    extra: str = ""
    """What needs the extra ``sidecar``, for the refusal where it is not installed."""

    def add_to(self, commands: Subparsers) -> None:
        """Add it to those that there are."""
        added = commands.add_parser(
            self.name,
            help=self.help,
            description=f"{self.help[0].upper()}{self.help[1:]}.",
            epilog=self.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_arguments(added)
        added.set_defaults(command=self)


@dataclass(frozen=True, slots=True)
class CommandGroup:
    """Commands that share a first word."""

    name: str
    help: str
    commands: tuple[Command, ...]
    epilog: str = ""

    def add_to(self, commands: Subparsers) -> None:
        """Add all of them."""
        group = commands.add_parser(
            self.name,
            help=self.help,
            epilog=self.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        actions = group.add_subparsers(title="commands", required=True, metavar="COMMAND")
        for command in self.commands:
            command.add_to(actions)
