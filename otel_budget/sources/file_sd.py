"""Targets from files, in Prometheus' ``file_sd`` format: JSON or YAML, read when they change.

A file that is bad keeps its last good targets and says so: a half-written list must not make runs
unseen. A file that is gone takes its targets along. Files are read beside the scrape, because a
disk may hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import json
import logging
import os
import re
import socket
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from otel_budget.core import bindings
from otel_budget.core.observation import Problem
from otel_budget.core.reasons import Reason
from otel_budget.errors import InvalidValueError
from otel_budget.files.watch import FileStamp, file_stamp
from otel_budget.logs.once import OncePerSubject
from otel_budget.logs.text import one_line
from otel_budget.runtime.workers import Workers
from otel_budget.sources.scheduler import Rests, Round, Scheduler

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

logger = logging.getLogger(__name__)

_SCHEME: Final = "__scheme__"
_METRICS_PATH: Final = "__metrics_path__"
_HOST_PORT: Final = re.compile(r"(?:[^\s/@\[\]:?#]+|\[[0-9A-Fa-f:.%]+\])(?::[0-9]{1,5})?")
#: Session ids that belong to the targets of a group, with commas between them.
SESSIONS: Final = "__otel_budget_sessions__"
#: The preset by which the targets of a group are read.
PRESET: Final = "__otel_budget_preset__"
_MAX_FILE: Final = 10_000_000
#: YAML takes some ten seconds for ten million bytes, and the writer of the file chooses how often.
_MAX_YAML: Final = 1_000_000
#: In one file: aliases of YAML make any number of targets out of a few lines.
MOST_TARGETS: Final = 100_000
#: The one place that is called here: all files.
_ALL: Final = "files"
#: Share of the interval for which a read waits for them once they are known.
_PATIENCE: Final = 0.1
#: Seconds after which files that cannot be read are said to hang.
_HANGS: Final = 5.0

_Listed = tuple[list[str], list[Problem]]


@dataclass(frozen=True, slots=True)
class _File:
    stamp: FileStamp | None
    urls: tuple[str, ...]
    """The last good content."""
    sessions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """URL to the patterns of session ids that its target is bound to."""
    presets: Mapping[str, str] = field(default_factory=dict)
    """URL to the name of the preset by which its target is read."""
    problem: str = ""
    """What is wrong with the present content; empty if nothing is."""


class FileTargets:
    """The targets in all files that match some patterns."""

    def __init__(self, patterns: Sequence[str], presets: Collection[str] = ()) -> None:
        """patterns: paths, with ``*``, ``?`` and ``[...]`` as in a shell. presets: their names."""
        self._patterns, self._known_presets = tuple(patterns), presets
        self._files: dict[str, _File] = {}
        self._empty: list[str] = []
        """Patterns that match no file."""
        self.are_listed = True
        """False if a folder could not be listed: what is in it is not known."""
        self._matched: set[str] = set()
        """Patterns that ever matched a file."""
        self._no_match_lines = OncePerSubject(logger, "file_sd patterns match no file")
        self._no_match_any_more_lines = OncePerSubject(
            logger, "file_sd patterns match no file any more"
        )
        self._expression_lines = OncePerSubject(logger, "bindings look like regular expressions")

    @property
    def sessions(self) -> list[tuple[str, tuple[str, ...]]]:
        """URLs, and the patterns of session ids that their targets are bound to."""
        return [item for file in self._files.values() for item in file.sessions.items()]

    @property
    def presets(self) -> dict[str, str]:
        """URL to the name of the preset by which its target is read, where one is named."""
        return {url: name for file in self._files.values() for url, name in file.presets.items()}

    @property
    def are_there(self) -> bool:
        """True if any file matched at the last read."""
        return bool(self._files)

    def read(self) -> tuple[list[str], list[Problem]]:
        """Return the URLs of all targets, and a problem for each bad file, named by its path."""
        found = {pattern: _matching(pattern) for pattern in self._patterns}
        self._empty = [pattern for pattern, paths in found.items() if not paths]
        self._matched.update(pattern for pattern, paths in found.items() if paths)
        self.are_listed = all(_can_list(pattern) for pattern in self._empty)
        self._note_empty()
        paths = sorted({path for matching in found.values() for path in matching})
        self._files = {path: self._look(path) for path in paths}
        patterns = {each for _, bound in self.sessions for each in bound}
        odd = {p: f"{SESSIONS}: {why}" for p in patterns if (why := bindings.why_expression(p))}
        self._expression_lines.note(odd, logging.WARNING)
        urls = [url for file in self._files.values() for url in file.urls]
        problems = [
            Problem(path, Reason.SOURCE_ERROR, f"{path}: {file.problem}")
            for path, file in self._files.items()
            if file.problem
        ]
        return list(dict.fromkeys(urls)), problems

    def _note_empty(self) -> None:
        """Warn of a pattern that is wrong; that the last process has ended is no fault."""
        at_rest = [p for p in self._empty if p in self._matched and _can_list(p)]
        wrong = [pattern for pattern in self._empty if pattern not in at_rest]
        self._no_match_lines.note(
            {p: f"file_sd: {p} matches no file" for p in wrong}, logging.WARNING
        )
        self._no_match_any_more_lines.note(
            {
                p: f"file_sd: {p} matches no file any more: no process is registered"
                for p in at_rest
            },
            logging.INFO,
        )

    def _look(self, path: str) -> _File:
        known = self._files.get(path)
        last_good = _File(None, ()) if known is None else known
        try:
            stamp = file_stamp(Path(path))
        except OSError as exc:
            return replace(last_good, stamp=None, problem=f"cannot be read: {exc.strerror}")
        if known is not None and known.stamp == stamp:
            return known
        try:
            groups = _groups(_load(Path(path)), self._known_presets)
            bound = {url: each.sessions for each in groups if each.sessions for url in each.urls}
            presets = {url: each.preset for each in groups if each.preset for url in each.urls}
            urls = tuple(url for each in groups for url in each.urls)
            return _File(stamp, urls, bound, presets)
        except OSError as exc:
            # No stamp: it may become readable without a change of its content.
            return replace(last_good, stamp=None, problem=f"cannot be read: {exc.strerror}")
        except (TypeError, ValueError, yaml.YAMLError, RecursionError) as exc:
            problem = one_line(str(exc))
            said = f"{problem}; its last good targets are kept"
            return replace(last_good, stamp=stamp, problem=said)


class FileSdListing:
    """The newest list, and what is wrong with it."""

    def __init__(
        self, patterns: Sequence[str], interval: float, presets: Collection[str] = ()
    ) -> None:
        """interval: seconds between two reads. presets: names of those that may be named."""
        self._patterns, self._interval = patterns, interval
        self._files = FileTargets(patterns, presets)
        self._threads = Workers("file-sd")
        self._turns: Scheduler[_Listed] = Scheduler(
            self._look, self._take, rests=Rests(most=interval)
        )
        self._round = Round(())
        self.urls: list[str] = []
        self.bound: list[tuple[str, tuple[str, ...]]] = []
        """URLs, and the patterns of session ids that their targets are bound to."""
        self.presets: dict[str, str] = {}
        """URL to the name of the preset by which its target is read, where one is named."""
        self._problems: list[Problem] = []
        self._is_known = not patterns
        """True once the files were read."""

    @property
    def is_whole(self) -> bool:
        """False if there may be targets that are not listed."""
        return self._is_known and self._files.are_listed

    @property
    def are_there(self) -> bool:
        """True if any file matched."""
        return self._files.are_there

    async def read(self, until: float) -> list[Problem]:
        """Read the files, and return what is wrong.

        If that takes long, the targets stay as they were. until: as of ``Round``.
        """
        if not self._patterns:
            return []
        self._turns.begin(_ALL)
        self._round = Round((_ALL,))
        now = asyncio.get_running_loop().time()
        if self._is_known:
            until = min(until, now + _PATIENCE * self._interval)
        await self._round.settle(self._interval, until)
        age = self._turns.age(_ALL)
        if self._is_known and age < _HANGS:
            return list(self._problems)
        which = ", ".join(self._patterns)
        why = f"could not be read within {age:.3g} s; the targets known so far are kept"
        return [*self._problems, Problem(which, Reason.SOURCE_ERROR, f"{which}: {why}")]

    async def read_again(self, seconds: float) -> None:
        """Read the files from now on, within so many seconds."""
        if self._patterns:
            await asyncio.wait([self._turns.next(_ALL)], timeout=seconds)

    async def close(self) -> None:
        """End the thread."""
        await self._turns.close()
        self._threads.shutdown()

    async def _look(self, _key: str) -> _Listed:
        try:
            return await self._threads.run(self._files.read)
        except Exception as exc:
            logger.exception("the files of file_sd could not be read")
            which = ", ".join(self._patterns)
            why = f"{which}: {type(exc).__name__}: {exc}"
            return self.urls, [Problem(which, Reason.SOURCE_ERROR, why)]

    def _take(self, _key: str, listed: _Listed) -> None:
        self.urls, self._problems = listed
        self.bound, self.presets = self._files.sessions, self._files.presets
        self._is_known = True
        self._round.answered(_ALL)


def _matching(pattern: str) -> list[str]:
    return glob.glob(pattern)  # noqa: PTH207 - Path.glob takes no absolute patterns


def _can_list(pattern: str) -> bool:
    folder = Path(pattern).parent
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)


def _load(path: Path) -> object:
    stat = path.stat()
    if not S_ISREG(stat.st_mode):  # to open a FIFO may take for ever
        raise ValueError("is not a regular file")
    is_json = path.suffix == ".json"
    most = _MAX_FILE if is_json else _MAX_YAML
    if stat.st_size > most:
        more = "" if is_json else "; JSON may be larger"
        raise ValueError(f"is larger than {most:,} bytes{more}")
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text) if is_json else yaml.safe_load(text)
    except json.JSONDecodeError as exc:
        raise ValueError(f"is not JSON: {exc}") from exc


class _Group(NamedTuple):
    urls: list[str]
    sessions: tuple[str, ...]
    """Patterns of session ids that its targets are bound to."""
    preset: str
    """By which they are read; empty if none is named."""


def _groups(data: object, presets: Collection[str]) -> list[_Group]:
    """Return the groups of targets. presets: names of those that may be named."""
    if not isinstance(data, list):
        raise TypeError("is not a list of target groups")
    found: list[_Group] = []
    room = MOST_TARGETS
    for index, group in enumerate(data):
        room -= 1 + _size(index, group)
        if room < 0:
            raise ValueError(f"names more than {MOST_TARGETS:,} targets")
        urls = _group(index, group)
        found.append(_Group(urls, _bound(index, group), _preset(index, group, presets)))
    return found


def _size(index: int, group: object) -> int:
    if not isinstance(group, dict) or not isinstance(group.get("targets"), list):
        raise TypeError(f"target group {index} is not a mapping with a list of targets")
    return len(group["targets"])


def _bound(index: int, group: dict[str, Any]) -> tuple[str, ...]:
    text = (group.get("labels") or {}).get(SESSIONS)
    if text is None:
        return ()
    try:
        return tuple(bindings.pattern(each.strip()) for each in str(text).split(","))
    except InvalidValueError as exc:
        raise ValueError(f"target group {index}: {SESSIONS}: {exc}") from exc


def _preset(index: int, group: dict[str, Any], known: Collection[str]) -> str:
    name = (group.get("labels") or {}).get(PRESET, "")
    if name and name not in known:
        there = ", ".join(sorted(known))
        raise ValueError(f"target group {index}: {PRESET} is {name!r}; there are {there}")
    return str(name)


def _group(index: int, group: dict[str, Any]) -> list[str]:
    at = f"target group {index}"
    labels = group.get("labels") or {}
    if not isinstance(labels, dict):
        raise TypeError(f"{at}: labels is not a mapping")
    scheme = labels.get(_SCHEME, "http")
    if scheme not in ("http", "https"):
        raise ValueError(f"{at}: {_SCHEME} is {scheme!r}; allowed: http, https")
    path = str(labels.get(_METRICS_PATH, "/metrics"))
    if not path.startswith("/"):
        raise ValueError(f"{at}: {_METRICS_PATH} is {path!r}; it must begin with '/'")
    for target in group["targets"]:
        if not isinstance(target, str) or _HOST_PORT.fullmatch(target) is None:
            raise ValueError(f"{at}: target {target!r} is not host:port")
        if _is_link_local(target):
            raise ValueError(
                f"{at}: target {target!r} is a link-local address, where clouds give a machine its "
                "credentials; an agent at such an address goes into targets"
            )
    return [f"{scheme}://{target}{path}" for target in group["targets"]]


def _is_link_local(target: str) -> bool:
    """Tell whether a target is such an address, in any form that a resolver takes for one."""
    host = re.sub(r":[0-9]+$", "", target) if target[-1] != "]" else target
    host = host.strip("[]").partition("%")[0]
    with contextlib.suppress(ValueError):
        found = ip_address(host)
        mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
        return found.is_link_local or (mapped is not None and mapped.is_link_local)
    with contextlib.suppress(OSError, ValueError):
        return ip_address(socket.inet_aton(host)).is_link_local  # 169.254.43518, 0xa9fea9fe
    return False
