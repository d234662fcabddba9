"""A trace as a file, written while it comes and put in order at the end.

A run's start is of a time before all that was seen of it, and its end is known once nothing more
comes: these lines are kept, and the others wait in a file beside the one to be, which is there as a
whole or not at all.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import tempfile
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Self

from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.replay.trace_json import write_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from otel_budget.ledger.run import RunTotals
    from otel_budget.replay.trace import TraceLine
    from otel_budget.replay.trace_recorder import TraceRecorder


class TraceWriteError(OtelBudgetError):
    """A trace cannot be written; the message has the file, and why."""


class TraceWriter:
    """Writes what a recorder makes of a history. Raises TraceWriteError throughout, and
    InvalidValueError where there is something by that name.
    """

    def __init__(self, path: str, recorder: TraceRecorder) -> None:
        """Refuse a path where there is something."""
        self._path, self._recorder = Path(path), recorder
        self.lines = 0
        self._refuse_if_there()
        try:
            number, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        except OSError as exc:
            raise self._error(exc) from exc
        self._waiting = Path(name)
        self._file = os.fdopen(number, "w+", encoding="utf-8")

    def __enter__(self) -> Self:
        """Return it; what was not finished is removed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Remove what waits."""
        self._file.close()
        self._waiting.unlink(missing_ok=True)

    def note(self, runs: Iterable[RunTotals], labels: Mapping[str, Mapping[str, str]]) -> None:
        """Write what is new of some runs; see TraceRecorder."""
        try:
            for line in self._recorder.note(runs, labels):
                self._file.write(f"{line.at!r}\t{write_line(line)}\n")
        except OSError as exc:
            raise self._error(exc) from exc

    def finish(self) -> None:
        """Put all lines in order; the file is there then."""
        recorder = self._recorder
        every = heapq.merge(
            _in_order(recorder.starts), self._spooled(), _in_order(recorder.ends()),
            key=itemgetter(0),
        )  # fmt: skip
        whole = Path(f"{self._waiting}.whole")
        try:
            self._file.seek(0)
            with whole.open("w", encoding="utf-8") as file:
                for _, text in every:
                    file.write(f"{text}\n")
                    self.lines += 1
                file.flush()
                os.fsync(file.fileno())
            self._refuse_if_there()
            whole.replace(self._path)
        except OSError as exc:
            raise self._error(exc) from exc
        finally:
            with contextlib.suppress(OSError):
                whole.unlink(missing_ok=True)

    def _spooled(self) -> Iterator[tuple[float, str]]:
        for line in self._file:
            at, _, text = line.rstrip("\n").partition("\t")
            yield float(at), text

    def _refuse_if_there(self) -> None:
        if self._path.exists():
            sentence = f"{self._path} is there already, and is not overwritten: give another name"
            raise InvalidValueError("--write-trace", str(self._path), "", sentence=sentence)

    def _error(self, exc: OSError) -> TraceWriteError:
        return TraceWriteError(f"{self._path} cannot be written: {exc.strerror or exc}")


def _in_order(lines: Iterable[TraceLine]) -> list[tuple[float, str]]:
    return sorted(((line.at, write_line(line)) for line in lines), key=itemgetter(0))
