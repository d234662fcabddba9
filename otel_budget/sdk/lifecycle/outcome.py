"""How a run ends by the exception that left its block: in order, or as a failure."""

from __future__ import annotations

from typing import Final

from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.attribution import is_cancelled

#: How far back an exception's causes are followed.
_DEEPEST_CAUSE: Final = 20


def is_stop(exc: BaseException, session_id: str) -> bool:
    """Tell whether an exception stops a run in order: its own limits, or somebody's word.

    A generator that is closed early is such a word: the client hung up, or has what it wanted.
    """
    if isinstance(exc, BaseExceptionGroup):  # of a TaskGroup, say
        return all(is_stop(one, session_id) for one in exc.exceptions)
    budget = _exceeded(exc)
    if budget is not None:
        return budget.verdict.session_id == session_id
    if isinstance(exc, SystemExit):
        return exc.code in (None, 0)
    return isinstance(exc, (KeyboardInterrupt, GeneratorExit)) or is_cancelled(exc)


def _exceeded(exc: BaseException) -> BudgetExceeded | None:
    """Return the BudgetExceeded that an exception is, or was raised from; None if there is none.

    Frameworks wrap what a run raises: Starlette once the answer has begun, and many others.
    """
    cause: BaseException | None = exc
    for _ in range(_DEEPEST_CAUSE):  # causes may go round in a circle
        if cause is None or isinstance(cause, BudgetExceeded):
            return cause
        cause = cause.__cause__
    return None
