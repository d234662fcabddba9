"""What the settings of coding agents on this machine name: do they push to, and ask, who is there?

Only addresses are read of them and shown; nothing is changed.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.agents.known import hooks_of, names, settings_of
from otel_budget.doctor.finding import broken, ok, warning
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.sidecar_client.address import Credentials, SidecarAddress
from otel_budget.sdk.sidecar_client.request import Asker, AskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.agents.settings import AgentSettings
    from otel_budget.doctor.finding import Finding
    from otel_budget.doctor.receiver import Receiver

_MOST: Final = 10_000_000
_URL: Final = re.compile(r"https?://[A-Za-z0-9._\[\]-]+(?::[0-9]+)?")
_OURS: Final = re.compile(r"otel[-_]budget|/v1/hooks")


class _Seen(NamedTuple):
    """What one agent's settings say."""

    title: str
    where: str
    """The file, for people."""
    commands: tuple[str, ...]
    """Hooks that ask a sidecar: command lines, and URLs."""
    endpoints: tuple[str, ...]
    """Where telemetry goes."""


def look_at(sidecar: Asker, receiver: Receiver | None) -> Iterator[Finding]:
    """Yield what is wrong, or right, with each agent that has something to do with otel-budget."""
    for name in names():
        for project in (False, True):
            yield from _of(name, sidecar, receiver, project=project)


def _of(
    name: str, sidecar: Asker, receiver: Receiver | None, *, project: bool
) -> Iterator[Finding]:
    hooks = hooks_of(name)
    settings = settings_of(name)
    try:
        files = settings.files(os.environ, project=project)
    except InvalidValueError:
        return  # it has none for a project
    merged: dict[str, Any] = {}
    for file in files:
        for key, value in (_read(Path(file)) or {}).items():
            there = merged.get(key)
            if isinstance(there, dict) and isinstance(value, dict):
                merged[key] = {**there, **value}
            else:
                merged[key] = value
    if hooks is None or not merged:
        return
    telemetry = settings.telemetry(merged)
    endpoints = tuple(dict.fromkeys(url for each in telemetry.endpoints for url in _urls(each)[:1]))
    seen = _Seen(hooks.title, files[-1], _commands(merged), endpoints)
    yield from _hooks(seen, sidecar)
    is_on = endpoints or telemetry.is_shown
    # Hooks of one that needs a sidecar's name may be there for `otel-budget run` alone.
    if seen.commands and not is_on and not settings.NEEDS_NAME:
        text = f"{seen.title} asks hooks ({seen.where}), and its telemetry is off: nothing counts"
        yield warning("telemetry", text, f"`otel-budget install {name}` turns it on")
    yield from _telemetry(seen, receiver)
    yield from _traps(settings, seen, merged)


def _hooks(seen: _Seen, sidecar: Asker) -> Iterator[Finding]:
    for url in sorted({url for command in seen.commands for url in _urls(command)}):
        if _answers(url, "/-/healthy"):
            yield ok("hooks", f"{seen.title} asks {url}, which answers ({seen.where})")
        else:
            text = f"{seen.title} asks {url} ({seen.where}), where nothing answers"
            advice = (
                f"its sessions are held to no budget: start a sidecar there, or install its hooks "
                f"again with --sidecar {sidecar.url}"
            )
            yield broken("hooks", text, advice)


def _telemetry(seen: _Seen, receiver: Receiver | None) -> Iterator[Finding]:
    for endpoint in seen.endpoints:
        if receiver is not None and endpoint.startswith(receiver.endpoint):
            yield ok("telemetry", f"{seen.title} pushes to this sidecar's receiver ({seen.where})")
        elif not seen.commands:
            continue  # its own affair: nothing there has to do with us
        elif not _answers(endpoint, ""):
            text = f"{seen.title} pushes to {endpoint} ({seen.where}), where nothing answers"
            yield broken("telemetry", text, "nothing of it is counted: is the receiver on?")
        elif receiver is not None:
            text = f"{seen.title} pushes to {endpoint} ({seen.where}), not to {receiver.endpoint}"
            yield warning("telemetry", text, "does what is there send it on to the receiver?")


def _traps(settings: AgentSettings, seen: _Seen, merged: Mapping[str, Any]) -> Iterator[Finding]:
    for trap in settings.traps(merged, seen.commands, os.environ):
        text = f"{seen.title} {trap.text} ({seen.where})"
        yield (broken if trap.is_broken else warning)(trap.part, text, trap.advice)


def _answers(url: str, path: str) -> bool:
    """Tell whether a server is there, whatever it thinks of being asked."""
    try:
        asker = Asker(url, SidecarAddress.parse(url, Credentials()))
        asker.ask("GET", path or "/")
    except AskError as exc:
        return exc.status is not None and not path
    except InvalidValueError:
        return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a file says; None for none, and for one that cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST).decode()
        found = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _urls(text: str) -> list[str]:
    """Return the addresses in a text, without their paths."""
    return _URL.findall(text)


def _commands(data: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(text for text in _texts(data.get("hooks")) if _OURS.search(text))


def _texts(data: object) -> Iterator[str]:
    """Yield the texts in a value, at any depth."""
    ahead = [data]
    while ahead:
        one = ahead.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            ahead += one.values()
        elif isinstance(one, list):
            ahead += one
