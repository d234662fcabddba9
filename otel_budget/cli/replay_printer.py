"""Prints what a replay gives as it comes: JSON lines, or text for people; warnings apart."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from otel_budget.cli.render.replay import found_text, open_runs_text, summary_text
from otel_budget.logs.text import printable
from otel_budget.replay.output import found_line, summary_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from otel_budget.replay.changes import Found
    from otel_budget.replay.summary import Summary


class ReplayPrinter:
    """Standard output has what was found; standard error has warnings."""

    def __init__(self, *, as_json: bool, keep_going: bool) -> None:
        """as_json: one object a line. keep_going: as the runs were replayed."""
        self._as_json, self._keep_going = as_json, keep_going

    def found(self, found: Iterable[Found]) -> None:
        """Print what one line brought."""
        for one in found:
            text = found_line(one) if self._as_json else found_text(one)
            if text is not None:
                print(text)

    def end(
        self,
        summary: Summary,
        open_runs: Sequence[str],
        *,
        remarks: Iterable[str] = (),
        history: Mapping[str, Any] | None = None,
    ) -> None:
        """Print what came of all runs.

        open_runs: session ids of those without an end. remarks: further warnings. history: what of
        one was read, where it is one that was replayed.
        """
        self.warn(remarks)
        self.warn_of_open(open_runs)
        if self._as_json:
            print(summary_line(summary, keep_going=self._keep_going, history=history))
        else:
            print(summary_text(summary, keep_going=self._keep_going))

    @staticmethod
    def warn(remarks: Iterable[str]) -> None:
        """Print warnings."""
        for remark in remarks:
            print(f"otel-budget: {printable(remark)}", file=sys.stderr)

    @classmethod
    def warn_of_open(cls, open_runs: Sequence[str]) -> None:
        """Say which runs have no end, if there are any."""
        if open_runs:
            cls.warn((open_runs_text(open_runs),))
