"""What the bodies of the API are made of: the base of their models, and the types they share.

A model describes: JSON Schema and the OpenAPI document come from it. It neither parses requests nor
renders answers: the core does, and tests hold each rendered body against its model.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from otel_budget.core.validation import SESSION_ID_PATTERN

#: The default of a key that may be left out, whatever its type: its schema has no default.
ABSENT: Final[Any] = None
#: A name, and after a colon what is called so: other origins may come.
LIMIT_FROM: Final = r"^[a-z][a-z_]*(:.+)?$"


class Body(BaseModel):
    """A JSON object; a docstring under a field is its description."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class RequestObject(Body):
    """A JSON object in a request; an unknown key is refused."""

    model_config = ConfigDict(extra="forbid")


SessionId = Annotated[str, Field(pattern=f"^{SESSION_ID_PATTERN.pattern}$")]
#: As many runs as one request may name: its head is bounded.
MAX_NAMED: Final = 100
SessionIds = Annotated[list[SessionId], Field(max_length=MAX_NAMED)]
Amount = Annotated[
    float | Annotated[str, Field(pattern=r"^[0-9.E+-]+$")],
    Field(description="Seconds, tokens or calls as a number; US dollars as a decimal string."),
]
Share = Annotated[float, Field(ge=0, le=1)]


def one_of(*values: str | None) -> Any:
    """Return the annotation of a string that is one of some values, which the code computes."""
    return WithJsonSchema({"enum": list(values)})
