"""What a route is: one method on one path, with all that the router, the guard and the API's
description need to know of it.

A topic is a class whose methods handle requests; each such method is decorated with its Operation.
Adding a route is adding a method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

JSON: Final = "application/json"
TEXT: Final = "text/plain"
_MARK: Final = "__operation__"

#: What a topic's decorated method is, once bound to its topic.
Handler = Callable[["Request"], Awaitable["Response"]]
H = TypeVar("H", bound=Callable[..., Awaitable["Response"]])


class Access(Enum):
    """Who may call an operation. The guard enforces it; the description states it."""

    OPEN = "open"
    """Anyone: it says nothing about any run."""
    READ = "read"
    """A client with the read or the admin token; anyone where the sidecar asks for no token."""
    ADMIN = "admin"
    """A client with the admin token only."""


class Tag(Enum):
    """The groups of the description, with what each is for."""

    VERDICTS = "verdicts"
    SESSIONS = "sessions"
    BUDGETS = "budgets"
    OPERATIONS = "operations"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a request."""

    name: str
    description: str
    type: Any
    """A type as pydantic understands it, such as ``Annotated[int, Field(ge=1)]``."""
    example: Any
    place: str = "query"
    """``query``, ``path`` or ``header``."""
    required: bool = False


@dataclass(frozen=True, slots=True)
class RequestBody:
    """What comes with a request. It describes; the handler parses."""

    type: Any
    example: Any
    is_any_type: bool = False
    """True if it is read as JSON whatever its content type says."""
    media_type: str = JSON


@dataclass(frozen=True, slots=True)
class Answer:
    """One possible answer. It describes; the handler renders."""

    status: int
    description: str
    type: Any = None
    """The type of the body as pydantic understands it; None for an answer without a body."""
    example: Any = None
    media_type: str = JSON
    headers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name, as OpenAPI describes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method on one path; decorates the method that handles it.

    What follows from the rest is not listed in ``answers``: what the guard answers for this access,
    and what any parameter or body that is not allowed is answered with.
    """

    method: str = "GET"
    path: str
    id: str
    """Names the operation; generated clients call their function so."""
    tag: Tag
    summary: str
    description: str
    answers: tuple[Answer, ...]
    access: Access = Access.READ
    parameters: tuple[Parameter, ...] = ()
    body: RequestBody | None = None

    def __call__(self, handler: H) -> H:
        """Mark a topic's method as the one that handles this operation."""
        setattr(handler, _MARK, self)
        return handler


def operations_of(topic: type) -> Iterator[tuple[str, Operation]]:
    """Yield the operations of a topic in the order they are defined, with their methods' names."""
    for name, member in vars(topic).items():
        operation = getattr(member, _MARK, None)
        if isinstance(operation, Operation):
            yield name, operation


def handlers_of(topic: object) -> Iterator[tuple[Operation, Handler]]:
    """Yield the operations of a topic with the bound methods that handle them."""
    for name, operation in operations_of(type(topic)):
        yield operation, getattr(topic, name)
