"""What the provider is told to answer, and what it writes down of each request."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Parts of the usage, as everywhere in these tests.
TOKENS = ("input", "output", "cached", "cache_write", "reasoning")


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens one call costs."""

    input: int
    """All prompt tokens, those from and into the cache included."""
    output: int
    """All completion tokens, reasoning included."""
    cached: int = 0
    """Part of the input."""
    cache_write: int = 0
    """Part of the input."""
    reasoning: int = 0
    """Part of the output."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model asks for."""

    name: str
    arguments: Mapping[str, Any]

    def json(self) -> str:
        """Return the arguments as the APIs send them."""
        return json.dumps(dict(self.arguments))


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request is answered; the default is a short text."""

    status: int = 200
    """Anything but 200 is an error body, and nothing is spent."""
    text: str | None = None
    """What the model says; None for a greeting with the number of the call."""
    tools: tuple[ToolCall, ...] = ()
    """Asked for instead of a text."""
    spent: Spent | None = None
    """None for an amount that differs from call to call."""
    tells_usage: bool = True
    """False leaves the usage block out of the answer."""
    tells_input_at_the_end: bool = True
    """False is Anthropic's older shape: the last event of a stream has the output tokens only."""
    chunks: int = 3
    """Pieces of text in a stream."""
    cut_after: int | None = None
    """The connection is reset after so many pieces of text."""
    pause: float = 0.0
    """Seconds before each piece of text."""
    delay: float = 0.0
    """Seconds before the answer begins."""


@dataclass(slots=True)
class Entry:
    """One request to a model, as the provider saw it."""

    number: int
    """From 1, since the last script."""
    api: str
    model: str
    stream: bool
    status: int
    spent: Spent
    """Nothing where the status is an error."""
    usage_sent: bool = False
    """The usage block went out, whether or not anybody read it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request with its answer, for the module that speaks the API."""

    unique: int
    """Number of the call since the provider began; names the response."""
    body: Mapping[str, Any]
    answer: Answer
    spent: Spent

    @property
    def model(self) -> str:
        """Return the model asked for."""
        return str(self.body.get("model") or "fake")

    @property
    def text(self) -> str:
        """Return what the model says."""
        said = self.answer.text
        return f"Hello from fake model call {self.unique}." if said is None else said

    def pieces(self) -> list[str]:
        """Return the text in as many pieces as the script wants."""
        size = max(1, -(-len(self.text) // max(1, self.answer.chunks)))
        return [self.text[at : at + size] for at in range(0, len(self.text), size)] or [""]


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    data: str
    name: str | None = None
    is_text: bool = False
    """A piece of the answer: the script may pause before it, or cut the connection."""
    has_usage: bool = False


def event(
    name: str | None, data: Mapping[str, Any], *, text: bool = False, usage: bool = False
) -> Event:
    """Return an event with JSON data."""
    return Event(json.dumps(data), name, text, usage)


def usual(number: int, api: str) -> Spent:
    """Return what a call costs when the script doesn't say: no two calls of a scenario the same."""
    return Spent(100 + 11 * number, 0 if api == "embeddings" else 20 + 3 * number)


def total(entries: Iterable[Entry]) -> dict[str, int]:
    """Return the sum of what the requests cost, by part."""
    spent = [dataclasses.asdict(entry.spent) for entry in entries]
    return {part: sum(each[part] for each in spent) for part in TOKENS}
