"""The session id of a run that was given none."""

from __future__ import annotations

import uuid
from typing import Final

from otel_budget.core import validation
from otel_budget.errors import InvalidValueError
from otel_budget.runtime.environment import setting

#: Who started this process may name its run: ``otel-budget run`` does.
ENV_SESSION: Final = "OTEL_BUDGET_SESSION_ID"
#: Emptied by the first run that takes the name: others of the process would be taken for the same.
_free: list[str] = [ENV_SESSION]


def new_session_id() -> str:
    """Return what the environment says for the first run of the process, else a new id.

    Raises InvalidValueError for a name in the environment that is none.
    """
    named = setting(ENV_SESSION)
    if not named:
        return f"run-{uuid.uuid4().hex[:12]}"
    try:
        _free.pop()
    except IndexError:
        return f"run-{uuid.uuid4().hex[:12]}"
    try:
        return validation.session_id(named)
    except InvalidValueError as exc:
        raise InvalidValueError(ENV_SESSION, named, exc.allowed) from exc
