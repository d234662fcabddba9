"""The shape of a command: what it is called, what ``--help`` says, what it takes, what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from otel_budget.cli.plain_words import Plain

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - has no public name

#: What a command returns.
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
#: Of ``check`` alone.
EXIT_STOP: Final = 3
EXIT_INCONCLUSIVE: Final = 4


class Command(NamedTuple):
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
    plain: Plain | None = None
    """How most people type it, for a command that must not wait for argparse."""

    def add_to(self, commands: Subparsers) -> None:
        """Add it to those that there are."""
        import argparse

        added = commands.add_parser(
            self.name,
            help=self.help,
            description=f"{self.help[0].upper()}{self.help[1:]}.",
            epilog=self.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_arguments(added)
        added.set_defaults(command=self)


class CommandGroup(NamedTuple):
    """Commands that share a first word."""

    name: str
    help: str
    commands: tuple[Command, ...]
    epilog: str = ""

    def add_to(self, commands: Subparsers) -> None:
        """Add all of them."""
        import argparse

        group = commands.add_parser(
            self.name,
            help=self.help,
            epilog=self.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        actions = group.add_subparsers(title="commands", required=True, metavar="COMMAND")
        for command in self.commands:
            command.add_to(actions)
