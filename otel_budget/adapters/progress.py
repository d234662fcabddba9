"""How far a run is, as its framework's own state tells it: reported before each call.

A run that reports no progress is never stopped in time near a limit, because nobody knows whether
it would have finished. Frameworks report none, so adapters take it where there is any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_budget.genai.call import UsageSink


def report(sink: UsageSink | None, progress: float | None) -> None:
    """Tell a run how far it is. progress: 0 to 1; None: it is not known, and nothing is said.

    Raises InvalidValueError for what is no progress: a function of the application's gave it.
    """
    run = None if sink is None else sink.run
    if run is not None and progress is not None:
        run.should_continue(progress)
