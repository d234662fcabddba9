"""What is written to an agent's settings, so that its sessions are counted and its hooks asked.

Pure: from a file's text to another text, and back. What a user has set is never overwritten where
that would take something away; then the change is refused, with what to do instead. Our own parts
are known by a mark, so that they come out again whatever else has changed in between.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from otel_budget.agents.base import EventKind
from otel_budget.agents.launching import HOOK_VARIABLE
from otel_budget.errors import InvalidValueError
from otel_budget.files.json_text import (
    parsed,
    with_item,
    with_member,
    without_items,
    without_member,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otel_budget.agents.base import AgentHooks

#: Ends every command that is ours: a comment to the shell.
MARK: Final = "# otel-budget"
#: Seconds that an agent waits for a hook, and that curl waits for the sidecar.
TIMEOUT: Final = 5
_CURL: Final = f"curl -sf -m{TIMEOUT - 1} --noproxy '*' --data-binary @-"
#: What may stand in a shell's double quotes as it is.
_SAFE_URL: Final = re.compile(r"https?://[A-Za-z0-9._:/\[\]-]+")
_SAID: Final = "otel-budget: no answer from the sidecar at {}: this session is held to no budget"
_TOLD_AT: Final = (EventKind.SESSION_START, EventKind.PROMPT)
_EMPTY: Final = "{}\n"


class Wanted(NamedTuple):
    """What is to be installed."""

    sidecar: str
    """URL."""
    receiver: str
    """Where OTLP is pushed to."""
    command: tuple[str, ...]
    """How this program is called."""
    has_curl: bool = True
    fail_closed: bool = False
    """Whether a step is blocked that the sidecar does not answer for."""
    telemetry: bool = True
    status_line: bool = True
    is_named: bool = True
    """Whether the user said which sidecar it is."""


class Undo(NamedTuple):
    """One member that was set."""

    path: tuple[str, ...]
    was: object
    """Its value before; None: it was not there."""


class Change(NamedTuple):
    """A file's new text."""

    text: str
    undo: tuple[Undo, ...] = ()
    """What to take back should the file have changed by then."""
    notes: tuple[str, ...] = ()
    """What the user should know, for people."""


class Telemetry(NamedTuple):
    """Where settings send telemetry."""

    endpoints: tuple[str, ...]
    """Where it is pushed to."""
    is_shown: bool = False
    """Whether it is on a page that can be scraped."""


class Trap(NamedTuple):
    """Something in settings that keeps runs from being held, and that the agent does not tell."""

    part: str
    """``hooks`` or ``telemetry``."""
    text: str
    """For people: goes on after the agent's name."""
    advice: str
    is_broken: bool = False
    """Whether nothing works with it; else it may."""


class AgentSettings(Protocol):
    """The module ``settings`` of an agent's package."""

    THEN: str
    """What the user has to do once it is written."""
    NEEDS_NAME: bool
    """True if telemetry is turned on only towards a sidecar that the user names."""

    def files(self, environ: Mapping[str, str], *, project: bool) -> tuple[str, ...]:
        """Return the files that are written. project: those of the present folder.

        Raises InvalidValueError if there are none.
        """

    def added(self, file: str, text: str | None, wanted: Wanted) -> Change:
        """Return a file with our parts in it. text: None if there is no such file.

        Raises InvalidValueError for what is in the way, JsonTextError for what cannot be read.
        """

    def removed(self, file: str, text: str, undo: Sequence[Undo]) -> Change:
        """Return a file without our parts. undo: as it was returned with them."""

    def telemetry(self, data: Mapping[str, Any]) -> Telemetry:
        """Return where telemetry goes. data: what its files say, all together."""

    def traps(
        self, data: Mapping[str, Any], asking: Sequence[str], environ: Mapping[str, str]
    ) -> Iterable[Trap]:
        """Return what is known to go wrong in silence. asking: commands that ask a sidecar."""


class JsonSettings:
    """A JSON file while it is changed."""

    def __init__(self, text: str | None) -> None:
        """Take its text. Raises JsonTextError."""
        self.text = _EMPTY if text is None or not text.strip() else text
        self.data: dict[str, Any] = parsed(self.text)
        self.undo: list[Undo] = []
        self.notes: list[str] = []

    def value(self, *path: str) -> object:
        """Return what is there; None for nothing."""
        found: object = self.data
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def put(self, path: tuple[str, ...], value: object) -> None:
        """Set a member, whatever it was."""
        was = self.value(*path)
        if was == value:
            return
        self.text = with_member(self.text, path, value)
        self.data = parsed(self.text)
        self.undo.append(Undo(path, was))

    def add(self, path: tuple[str, ...], item: object, *, at_end: bool) -> None:
        """Add an item to an array."""
        self.text = with_item(self.text, path, item, at_end=at_end)
        self.data = parsed(self.text)

    def refuse_other(self, path: tuple[str, ...], value: object, way_out: str) -> None:
        """Raise InvalidValueError if a member is there and has another value."""
        there = self.value(*path)
        if there not in (None, "", value):
            name = ".".join(path)
            sentence = f"{name} is {there!r} already: {way_out}"
            raise InvalidValueError("", there, "", sentence=sentence)

    def change(self) -> Change:
        """Return what came of it."""
        return Change(self.text, tuple(self.undo), tuple(self.notes))


def add_hooks(
    settings: JsonSettings, hooks: AgentHooks, entry: Callable[[str], dict[str, Any]],
    command: Callable[[EventKind], str], *, at_end: bool = False,
) -> None:  # fmt: skip
    """Have the sidecar asked at each event. entry: makes an array's item of a command.

    at_end: behind the user's own hooks.
    """
    for event in reversed(hooks.events):  # each comes in front
        kind = hooks.rows[event].kind
        settings.add(("hooks", event), entry(command(kind)), at_end=at_end)


def take_out(text: str, undo: Sequence[Undo]) -> Change:
    """Return a JSON file without our hooks, and with what was set as it was before.

    A member that somebody else has changed since then is left as it is, and said.
    """
    hooks = parsed(text).get("hooks")
    for event in hooks if isinstance(hooks, dict) else ():
        text = without_items(text, ("hooks", event), is_ours)
    settings = JsonSettings(text)
    for one in undo:
        if one.was is None:
            settings.text = without_member(settings.text, one.path)
        elif settings.value(*one.path) is not None:
            settings.text = with_member(settings.text, one.path, one.was)
    return settings.change()


def is_ours(item: object) -> bool:
    """Tell whether an item of an array of hooks, or a status line, is ours."""
    if isinstance(item, dict):
        return any(is_ours(value) for value in item.values())
    if isinstance(item, list):
        return any(map(is_ours, item))
    return isinstance(item, str) and item.endswith(MARK)


def safe_url(key: str, url: str) -> str:
    """Return a URL that may stand in a shell's command line. Raises InvalidValueError."""
    if _SAFE_URL.fullmatch(url) is None:
        raise InvalidValueError(key, url, "a URL such as http://127.0.0.1:9465, without a query")
    return url.rstrip("/")


def asks(agent: str, wanted: Wanted, kind: EventKind, *, prefix: str = "") -> str:
    """Return the command of a hook that asks the run's own sidecar, or the one that is installed.

    prefix: what comes first, such as a condition with ``||``. Without an answer the agent goes on,
    which the user is told at the events that begin something.
    """
    if wanted.fail_closed or not wanted.has_curl:
        closed = " --fail-closed" if wanted.fail_closed else ""
        own = shlex.join(wanted.command)
        called = f"{prefix}{_sidecar_variable(wanted)} {own} hook {agent}{closed} {MARK}"
        # `otel-budget run` looks for the variable to see that its hooks are here.
        return called if HOOK_VARIABLE in prefix else f': "${{{HOOK_VARIABLE}-}}"; {called}'
    url = f"${{{HOOK_VARIABLE}:-{wanted.sidecar}/v1/hooks}}/{agent}"
    url += "${OTEL_BUDGET_RUN:+?run=$OTEL_BUDGET_RUN}"
    return f'{prefix}{_CURL} "{url}" || {_otherwise(wanted, kind)} {MARK}'


def status_line(wanted: Wanted) -> str:
    """Return the command of a status line."""
    return f"{_sidecar_variable(wanted)} {shlex.join(wanted.command)} statusline {MARK}"


def _sidecar_variable(wanted: Wanted) -> str:
    return f'BUDGET_SIDECAR_URL="${{BUDGET_SIDECAR_URL:-{wanted.sidecar}}}"'


def _otherwise(wanted: Wanted, kind: EventKind) -> str:
    if kind not in _TOLD_AT:
        return "true"
    said = _SAID.format(wanted.sidecar)
    return f"""printf '%s' '{{"systemMessage":"{said}"}}'"""
