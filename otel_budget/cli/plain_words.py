"""Arguments as most people type them, read without argparse, which takes as long to load as to ask.

Only what can mean one thing is read: each word a known flag, a known option with its value, or a
positional argument that does not begin with a dash. Whatever else was typed is left to argparse,
which says what is wrong with it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Plain(NamedTuple):
    """The plain form of a command: the same arguments as it gives argparse."""

    positionals: Mapping[str, Sequence[str] | None]
    """All of them, in order, with what each may be; None: anything."""
    options: Mapping[str, Callable[[], str | None]]
    """Those with a value, with what returns the default."""
    flags: tuple[str, ...] = ()

    def read(self, words: Sequence[str]) -> SimpleNamespace | None:
        """Return the arguments by name, as argparse would; None if these words are not plain."""
        found: dict[str, object] = {_name(flag): False for flag in self.flags}
        given: list[str] = []
        rest = iter(words)
        for word in rest:
            option, equals, value = word.partition("=")
            if word in self.flags:
                found[_name(word)] = True
            elif option in self.options:
                value = value if equals else next(rest, "-")
                if value.startswith("-"):
                    return None
                found[_name(option)] = value
            elif word.startswith("-"):
                return None
            else:
                given.append(word)
        if not self._fits(given):
            return None
        defaults = {_name(option): get for option, get in self.options.items()}
        found |= {name: get() for name, get in defaults.items() if name not in found}
        return SimpleNamespace(**found, **dict(zip(self.positionals, given, strict=True)))

    def _fits(self, given: Sequence[str]) -> bool:
        if len(given) != len(self.positionals):
            return False
        allowed = self.positionals.values()
        return all(c is None or word in c for word, c in zip(given, allowed, strict=True))


def _name(option: str) -> str:
    return option.lstrip("-").replace("-", "_")
