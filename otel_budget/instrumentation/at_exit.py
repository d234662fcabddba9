"""What happens when the interpreter ends, in order: runs are closed, then endpoints.

The order matters: a run that is closed waits for one more scrape, and that needs the endpoint.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable

logger = logging.getLogger("otel_budget")

Work = Callable[[], None]


class ExitOrder:
    """Two lists of work: what comes first, and what comes last."""

    def __init__(self) -> None:
        """Begin with nothing to do; ask the interpreter for a call at its end."""
        self.first: dict[int, Work] = {}
        self.last: dict[int, Work] = {}
        atexit.register(self.run)

    def run(self) -> None:
        """Do all of it; one that fails is logged and does not keep the others from it."""
        for stage in (self.first, self.last):
            while stage:
                _, work = stage.popitem()
                try:
                    work()
                except Exception:
                    logger.exception("closing at exit failed")


AT_EXIT = ExitOrder()
