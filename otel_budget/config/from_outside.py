"""Whose own limits an operator may replace, as the sidecar's file says it."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator

from otel_budget.config.section import RefusedKey
from otel_budget.core import validation
from otel_budget.errors import InvalidValueError

#: Characters of a workflow's name.
_LONGEST: Final = 200
_ALLOWED: Final = "true, false, or a list of workflows"


def from_outside(value: object) -> bool | tuple[str, ...]:
    """Return whether an operator's limits may replace those of all runs; or of which workflows.

    The names are in order, each once. Raises InvalidValueError.
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    if not isinstance(value, list | tuple):
        raise InvalidValueError("", value, _ALLOWED)
    names = set()
    for number, name in enumerate(value):
        try:
            names.add(validation.line("", name, _LONGEST))
        except InvalidValueError as exc:
            allowed = f"the name of a workflow: {exc.allowed}"
            raise RefusedKey((number,), "", value=name, allowed=allowed) from exc
    return tuple(sorted(names))


FromOutside = Annotated[bool | tuple[str, ...], BeforeValidator(from_outside)]
