"""The session id of a run that was given none, and that of the run that started it."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Final

from otel_budget.core import validation
from otel_budget.errors import InvalidValueError
from otel_budget.logs.logger import logger
from otel_budget.runtime.environment import setting, short_name

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Who started this process may name its run: ``otel-budget run`` does.
ENV_SESSION: Final = "OTEL_BUDGET_SESSION_ID"
#: Who starts a process may name the run that all of its runs are descendants of.
ENV_PARENT: Final = "OTEL_BUDGET_PARENT_SESSION_ID"
#: Where the process finds its sidecar.
ENV_SIDECAR: Final = "OTEL_BUDGET_SIDECAR_URL"
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


def parent_of(session_id: str, given: object) -> str | None:
    """Return the session id of a run's parent; None: it has none.

    given: the argument; without one the environment counts. There a run that is named itself has no
    parent: it is the one the process was started for. Raises InvalidValueError for what is no
    session id, and for a run that is given itself as its parent.
    """
    if given is not None:
        if not isinstance(given, str):
            raise InvalidValueError("parent", given, "a ResourceMonitor, a session id, or None")
        parent = _parent("parent", given)
        if parent == session_id:
            raise InvalidValueError("parent", given, "another run than the run itself")
        return parent
    named = setting(ENV_PARENT)
    if not named:
        return None
    parent = _parent(ENV_PARENT, named)
    if parent != session_id:
        return parent
    if setting(ENV_SESSION) != session_id:  # else both are set for it by who started it
        logger.warning("run %r: %s names the run itself: it has no parent", session_id, ENV_PARENT)
    return None


def _parent(key: str, value: str) -> str:
    try:
        return validation.session_id(value)
    except InvalidValueError as exc:
        raise InvalidValueError(key, value, exc.allowed) from exc


def child_environment(
    session_id: str, sidecar: str | None, base: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the environment of a process whose runs are descendants of this one.

    It names no run of its own: its runs would be taken for this one. base: by default that of this
    process. Each variable has both of its names: some programs hand no ``OTEL_…`` on.
    """
    environ = dict(os.environ if base is None else base)
    said = {ENV_PARENT: session_id, **({ENV_SIDECAR: sidecar} if sidecar else {})}
    for name in (ENV_SESSION, short_name(ENV_SESSION)):
        environ.pop(name, None)
    return environ | said | {short_name(name): value for name, value in said.items()}
