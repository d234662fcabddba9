"""Which thread and task this code runs in, without loading asyncio for those who do without."""

from __future__ import annotations

import sys
import threading


def here() -> tuple[int, int]:
    """Return what names the thread and the task of asyncio's that this code runs in; 0: none."""
    asyncio = sys.modules.get("asyncio")
    try:
        task = None if asyncio is None else asyncio.current_task()
    except RuntimeError:  # no loop runs here
        task = None
    return threading.get_ident(), 0 if task is None else id(task)
