"""A forked child is a separate process: it carries none of its parent's runs.

It is a copy of its parent at one moment, without its threads: locks that one of them held stay held
for ever, and what the parent counted would be shown twice. So everything that is kept for a whole
process is registered here, to start clean in a child.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def in_child(work: Callable[[], None]) -> None:
    """Have something done in every forked child, before anything else runs there."""
    os.register_at_fork(after_in_child=work)


class ProcessLock:
    """A reentrant lock that is free in a forked child, even if it was held in the parent."""

    def __init__(self) -> None:
        self._renew()
        in_child(self._renew)

    def __enter__(self) -> None:
        """Take the lock."""
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        """Let go of it."""
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()
