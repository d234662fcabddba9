"""Server-Sent Events: frames, and their reader. Pure text in, text out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_budget.core import verdict_json
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.core.verdict import Verdict

#: Characters of one event; a verdict has some thousand.
MAX_EVENT = 4_000_000
EVENT_VERDICT = "verdict"
#: Names a stream on some runs, so that its reader can say that others are to be followed.
STREAM_HEADER = "Otel-Budget-Stream"
#: A comment: keeps a quiet stream open and tells the reader that the sidecar is there. No empty
#: line follows: there are readers that take one for an event without data.
KEEP_ALIVE = ": keep-alive\n"


def frame(event: str, data: str, event_id: int | None = None) -> str:
    """Return one Server-Sent Events frame. data must be a single line."""
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {event}\ndata: {data}\n\n"


def verdict_frame(verdict: Verdict) -> str:
    """Return the verdict as a frame whose id is its sequence."""
    return frame(EVENT_VERDICT, verdict_json.to_json(verdict), verdict.sequence)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event of a stream. data: its lines joined; id: the last id seen, empty before any."""

    event: str
    data: str
    id: str


class EventDecoder:
    """Turn the lines of a stream into events, as the HTML standard says (section 9.2.6)."""

    def __init__(self) -> None:
        """Begin before the first line."""
        self._event = self._id = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, line: str) -> Iterator[ServerEvent]:
        """Take one line without its end; yield an event when the line completes one.

        Raises InvalidValueError for an event that does not end: it would be kept in memory.
        """
        if not line:
            if self._data:
                yield ServerEvent(self._event or "message", "\n".join(self._data), self._id)
            self._event, self._data, self._size = "", [], 0
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._size += len(value) + 1
            if self._size > MAX_EVENT:
                allowed = f"an event of at most {MAX_EVENT:,} characters"
                raise InvalidValueError("data", value[:80], allowed)
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
