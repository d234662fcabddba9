"""What a scenario is: a piece of an application, and how the provider answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.libraries.provider import Answer, Spent, ToolCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    #: The application: gets the clients of its family; the value of a coroutine is awaited.
    Play = Callable[[Any], Awaitable[None] | None]
    #: One model call by the model of this name.
    OneCall = Callable[[Any, str], None]
    OneCallAsync = Callable[[Any, str], Awaitable[None]]

#: A call with every part of a usage.
PARTS = Spent(1000, 300, cached=600, cache_write=100, reasoning=120)
WITH_PARTS = Answer(spent=PARTS)
#: The model asks for the only tool of the scenarios.
WEATHER = Answer(tools=(ToolCall("get_weather", {"city": "Oslo"}),))
WEATHER_WITH_PARTS = Answer(tools=WEATHER.tools, spent=PARTS)
COLD = Answer(text="Cold.")
BUSY = Answer(status=429)
BROKEN = Answer(status=500)
REFUSED = Answer(status=400)
#: Long enough to be left in the middle.
LONG = Answer(text="x" * 300, chunks=30, pause=0.02)
CUT = Answer(chunks=5, cut_after=2)
#: Longer than the clients of the scenarios wait.
LATE = Answer(delay=2)

#: What an adapter puts around a model, where it is the model that is wrapped.
WRAPPERS: list[Callable[[Any], Any]] = []


def wrapped(model: Any) -> Any:
    """Return a model as the application uses it."""
    for wrapper in WRAPPERS:
        model = wrapper(model)
    return model


@dataclass(frozen=True, slots=True)
class Scenario:
    """One piece of an application."""

    name: str
    play: Play
    answers: tuple[Answer, ...]
    failed: int
    """Operations that fail in the application's eyes, after all retries."""


@dataclass(slots=True)
class Family:
    """Scenarios that need the same clients."""

    connect: Callable[[str, str], Any]
    """Makes the clients from the addresses for Anthropic's and for OpenAI's API."""
    model: str
    """The model of ``one_call``; several runs at once add a suffix each."""
    scenarios: list[Scenario] = field(default_factory=list)
    stopping: list[Scenario] = field(default_factory=list)
    """Agents that would go on for ever; they see to it themselves that they were stopped."""
    calls_tools: bool = True
    """The library calls the tools that the model asks for."""
    one_call: OneCall | None = None
    one_call_async: OneCallAsync | None = None

    def __iter__(self) -> Iterator[Scenario]:
        """Iterate over the scenarios, in the order they were written."""
        return iter(self.scenarios)

    def scenario(self, *answers: Answer, failed: int = 0) -> Callable[[Play], Play]:
        """Return a decorator that adds a function as the scenario of its name."""

        def add(play: Play) -> Play:
            self.scenarios.append(Scenario(play.__name__, play, answers, failed))
            return play

        return add

    def stops(self, play: Play) -> Play:
        """Add a function as a scenario in which a run may make three calls; asks for a tool."""
        self.stopping.append(Scenario(play.__name__, play, (WEATHER,) * 6, failed=0))
        return play
