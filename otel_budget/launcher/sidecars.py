"""The sidecar that judges the run: one of its own, or one that is there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_budget.errors import OtelBudgetError
from otel_budget.launcher.watchdog import RUN_FOLDER
from otel_budget.sdk.sidecar_client.request import Asker, AskError

if TYPE_CHECKING:
    from collections.abc import Mapping

_START_TIMEOUT: Final = 20.0
_END_TIMEOUT: Final = 10.0
_STEP: Final = 0.02
_LISTENS: Final = re.compile(r"listening on (https?://\S+?);")
#: Characters of a log that are shown of a sidecar that did not start.
_SHOWN: Final = 2000
_FREE: Final = "127.0.0.1:0"
#: Seconds for which a silence of the program is none: it may wait for its user.
_IDLE: Final = "12h"


class SidecarError(OtelBudgetError):
    """Say why there is no sidecar that could judge the run."""


class Sidecar(Protocol):
    """What judges the run."""

    url: str
    receiver: str
    """Where OTLP is pushed to."""

    @property
    def asker(self) -> Asker:
        """Asks it."""

    def ended(self) -> bool:
        """Tell whether it is known to have ended."""


@dataclass(slots=True)
class FoundSidecar:
    """One that somebody else runs."""

    url: str
    receiver: str
    asker: Asker

    @classmethod
    def at(cls, url: str) -> FoundSidecar:
        """Ask a sidecar where its receiver is. Raises SidecarError, or InvalidValueError."""
        asker = Asker.of(url)
        receiver, needs_token = receiver_of(asker)
        if needs_token and not os.environ.get("OTEL_EXPORTER_OTLP_HEADERS"):
            raise SidecarError(
                f"the receiver of the sidecar at {url} wants a token; give it in "
                "OTEL_EXPORTER_OTLP_HEADERS, as Authorization=Bearer%20TOKEN"
            )
        return cls(url.rstrip("/"), receiver, asker)

    def ended(self) -> bool:
        """Not known: who does not answer may be back in a moment."""
        return False


@dataclass(slots=True)
class OwnSidecar:
    """A child process: on free ports of the loopback interface, and of this run alone."""

    folder: Path
    """For its configuration, its log and the entries of programs that serve their metrics."""
    storage: Path
    limits: Mapping[str, object]
    """Ceilings, by their keys in a configuration file."""
    url: str = ""
    receiver: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _starts: int = field(default=0, init=False)

    @property
    def register(self) -> Path:
        """Folder in which programs that serve their metrics make themselves known."""
        return self.folder / "targets"

    @property
    def log(self) -> Path:
        """What it said since it was last started."""
        return self.folder / f"sidecar-{self._starts}.log"

    @property
    def asker(self) -> Asker:
        """Asks it; it wants no token."""
        return Asker.of(self.url)

    @property
    def pid(self) -> int:
        """Its process id, 0 before it was started."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, and wait until it can be pushed to: where it was, if it is not the first time.

        Raises SidecarError.
        """
        self.register.mkdir(exist_ok=True)
        config = self.folder / "sidecar.json"  # JSON is YAML
        config.write_text(json.dumps(self._config(), default=float), encoding="utf-8")
        self._starts += 1
        with self.log.open("wb") as out:
            # In a session of its own: the terminal's Ctrl-C is for the program.
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-P", "-m", "otel_budget", "sidecar", "--config", str(config)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env=_own_environment() | {RUN_FOLDER: str(self.folder)}, start_new_session=True,
            )  # fmt: skip
        self.url = self._listening()
        self.receiver, _ = receiver_of(self.asker)

    def ended(self) -> bool:
        """Tell whether its process has ended."""
        return self._process is not None and self._process.poll() is not None

    def stop(self, *, in_order: bool) -> None:
        """End it. in_order: with all that it knows stored; else at once."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        if in_order:
            process.terminate()
        else:
            process.kill()
        try:
            process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _config(self) -> dict[str, Any]:
        return {
            "source": {
                "otlp": {"address": _address(self.receiver), "idle": _IDLE},
                "scrape": {
                    "file_sd": [str(self.register / "*.json")], "interval": "250ms",
                },
            },
            "resource_limits": dict(self.limits),
            "listen": {"address": _address(self.url)},
            "storage": {"path": str(self.storage)},
        }  # fmt: skip

    def _listening(self) -> str:
        """Wait until its log says where it listens."""
        process, deadline = self._process, time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline and process is not None:
            found = _LISTENS.search(self.said())
            if found:
                return found[1]
            if process.poll() is not None:
                break
            time.sleep(_STEP)
        raise SidecarError(f"the sidecar did not start; it said:\n{self.said()[-_SHOWN:]}")

    def said(self) -> str:
        """Return its log."""
        with contextlib.suppress(OSError):
            return self.log.read_text(encoding="utf-8", errors="replace")
        return ""


def receiver_of(asker: Asker) -> tuple[str, bool]:
    """Return where a sidecar's receiver is, and whether it wants a token. Raises SidecarError."""
    try:
        answer = json.loads(asker.get("/v1/receiver"))
        return str(answer["endpoint"]).rstrip("/"), bool(answer["token_required"])
    except AskError as exc:
        if exc.status is None:
            raise SidecarError(str(exc)) from exc  # nothing answers there
        raise SidecarError(f"the sidecar at {asker.url} has no receiver: {exc}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise SidecarError(f"{asker.url} does not answer like a sidecar") from exc


def _address(url: str) -> str:
    return url.partition("://")[2] or _FREE


def _own_environment() -> dict[str, str]:
    """Return the environment without what is meant for programs: it exports no telemetry."""
    mine = ("OTEL_", "BUDGET_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    return {**kept, "NO_COLOR": "1"}
