"""Which agent a command line starts, and where in it the agent's own arguments begin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.agents.known import launcher_of, names
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.agents.launching import Launcher

#: Runners of packages, and what stands between their name and the package's.
_RUNNERS: Final = {"npx": (), "bunx": (), "pnpx": (), "pnpm": ("dlx",), "yarn": ("dlx",)}
_INTERPRETERS: Final = ("node", "nodejs", "bun", "deno")
#: Flags of these that take a value of their own.
_WITH_VALUE: Final = ("-p", "--package", "-c", "--call", "-r", "--require", "--import")
_SUFFIXES: Final = (".js", ".mjs", ".cjs", ".exe", ".cmd")
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


class Recognised(NamedTuple):
    """An agent in a command line."""

    name: str
    """As in commands and URLs: ``claude-code``."""
    launcher: Launcher
    at: int
    """Index of the first of its own arguments."""


def recognise(command: Sequence[str], agent: str | None = None) -> Recognised | None:
    """Return the agent that a command line starts; None for any other program.

    agent: what the user says it is; arguments are then added right behind the program's name.
    Raises InvalidValueError for one that is not known.
    """
    known = {name: launcher_of(name) for name in names()}
    if agent is not None:
        if agent not in known:
            raise InvalidValueError("--agent", agent, "one of " + ", ".join(known))
        seen = _found(command, known)
        at = seen.at if seen is not None and seen.name == agent else 1
        return Recognised(agent, known[agent], at)
    return _found(command, known)


def _found(command: Sequence[str], known: Mapping[str, Launcher]) -> Recognised | None:
    at = _program(command)
    if at >= len(command):
        return None
    name = _stem(command[at])
    for title, launcher in known.items():
        if name in launcher.PROGRAMS:
            return Recognised(title, launcher, at + 1)
    if name in _RUNNERS:
        return _started_by_runner(command, at + 1, _RUNNERS[name], known)
    if name in _INTERPRETERS:
        return _script(command, at + 1, known)
    return None


def _program(command: Sequence[str]) -> int:
    """Return the index of the program, behind an ``env A=b``."""
    if not command or _stem(command[0]) != "env":
        return 0
    at = 1
    while at < len(command) and _ASSIGNMENT.fullmatch(command[at]):
        at += 1
    return at


def _started_by_runner(
    command: Sequence[str], at: int, words: tuple[str, ...], known: Mapping[str, Launcher]
) -> Recognised | None:
    """Find an agent in ``npx --yes PACKAGE@VERSION``; its program may be named behind ``-p``."""
    for word in words:
        if command[at : at + 1] == [word] or command[at : at + 1] == (word,):
            at += 1
    at = _behind_flags(command, at)
    if at >= len(command):
        return None
    package = command[at]
    bare = package[:1] + package[1:].partition("@")[0]
    for title, launcher in known.items():
        if bare in launcher.PACKAGES or bare in launcher.PROGRAMS:
            return Recognised(title, launcher, at + 1)
    return None


def _script(command: Sequence[str], at: int, known: Mapping[str, Launcher]) -> Recognised | None:
    """Find an agent in ``node …/claude`` or ``node …/@anthropic-ai/claude-code/cli.js``."""
    at = _behind_flags(command, at)
    if at >= len(command):
        return None
    path = command[at].replace("\\", "/")
    for title, launcher in known.items():
        if _stem(path) in launcher.PROGRAMS or any(f"/{p}/" in path for p in launcher.PACKAGES):
            return Recognised(title, launcher, at + 1)
    return None


def _behind_flags(command: Sequence[str], at: int) -> int:
    while at < len(command) and command[at].startswith("-"):
        flag = command[at]
        at += 2 if flag in _WITH_VALUE else 1
        if flag == "--":
            break
    return at


def _stem(path: str) -> str:
    name = path.replace("\\", "/").rpartition("/")[2]
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
