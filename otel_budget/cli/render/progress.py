"""A progress bar on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def progress_bar(title: str, total: float | None) -> Iterator[Callable[[float], None]]:
    """Yield what takes how much more is done. total: of all; None: it is not known."""
    if not sys.stderr.isatty():
        yield lambda _more: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%")
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True),
        transient=True, redirect_stdout=sys.stdout.isatty(), redirect_stderr=False,
    ) as progress:  # fmt: skip
        task = progress.add_task(title, total=total)
        yield lambda more: progress.advance(task, more)
