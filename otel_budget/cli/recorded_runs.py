"""Where recorded runs are read from, as it is typed: traces, or a range of a Prometheus."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from otel_budget.replay.trace import TraceLine

#: Parts of a range of time that a progress bar shows.
_PARTS: Final = 1000


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what says where runs come from."""
    command.add_argument(
        "--traces", metavar="FILE", nargs="+", action="extend",
        help="JSON lines of what runs used; several are merged by time; - is standard input, .gz "
        "is unpacked",
    )  # fmt: skip
    # So that -7d after --from is its value, as -7 is.
    command._negative_number_matcher = re.compile(r"-\d")  # noqa: SLF001 - there is no other way
    times = "RFC 3339 with an offset, Unix seconds, now, or how long ago, as in -7d"
    command.add_argument(
        "--prometheus", metavar="URL",
        help="read what this server has of runs, by the settings of the file's source.prometheus "
        "if it has some",
    )  # fmt: skip
    command.add_argument("--from", metavar="T", dest="begin", help=f"the first moment: {times}")
    command.add_argument("--to", metavar="T", dest="end", help="the last moment (default: now)")


def check(arguments: argparse.Namespace, **further: str | None) -> None:
    """Refuse what does not say where runs come from, or says it twice.

    further: flags, without dashes, that go with a server alone, to what was given.
    """
    if bool(arguments.traces) == bool(arguments.prometheus):
        sentence = "give either --traces or --prometheus: where recorded runs are read from"
        raise InvalidValueError("--traces", arguments.traces, "", sentence=sentence)
    given = {"from": arguments.begin, "to": arguments.end, **further}
    wrong = [name for name, value in given.items() if value is not None]
    if arguments.traces and wrong:
        sentence = "goes with --prometheus: a trace is read as a whole"
        key = f"--{wrong[0].replace('_', '-')}"
        raise InvalidValueError(key, given[wrong[0]], "", sentence=sentence)
    if arguments.prometheus and arguments.begin is None:
        raise InvalidValueError("--from", None, "", sentence="is missing: the first moment to read")


def lines(traces: Sequence[str], title: str) -> Iterator[TraceLine]:
    """Yield the lines of traces under a progress bar."""
    from otel_budget.cli.render.progress import progress_bar
    from otel_budget.replay.trace_files import read_traces, size_of
    from otel_budget.sdk.pricing.prices import prices_of

    with progress_bar(title, size_of(traces)) as on_read:
        yield from read_traces(traces, prices_of(None), on_read)


@contextmanager
def range_bar(title: str) -> Iterator[Callable[[float], None]]:
    """Yield what takes which share of a range of time was read, from 0 to 1, under a bar."""
    from otel_budget.cli.render.progress import progress_bar

    done = 0
    with progress_bar(title, _PARTS) as advance:

        def on_read(share: float) -> None:
            nonlocal done
            parts = int(share * _PARTS)
            if parts > done:
                advance(parts - done)
                done = parts

        yield on_read
