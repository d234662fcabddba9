"""Files of traces: read as they come, in the order of time."""

import gzip
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

from otel_budget.errors import InvalidValueError
from otel_budget.replay.trace import TraceLine
from otel_budget.replay.trace_files import STDIN, in_order, read_traces
from otel_budget.sdk.pricing.prices import prices_of


def lines(*times: float) -> list[TraceLine]:
    """Return lines at these times, each with its place."""
    return [TraceLine(at, "r1", f"t:{number}") for number, at in enumerate(times, 1)]


def places(found: Iterable[TraceLine]) -> list[str]:
    """Return where lines stood."""
    return [line.where for line in found]


def test_lines_up_to_a_second_late_are_put_in_order() -> None:
    """Those of one time stay as they stand."""
    assert places(in_order(lines(2.0, 1.0, 1.5, 2.0))) == ["t:2", "t:3", "t:1", "t:4"]
    late = lines(1_700_000_000.3, 1_699_999_999.3)
    assert places(in_order(late)) == ["t:2", "t:1"]


def test_more_than_a_second_is_refused_with_its_line() -> None:
    """Against the newest line, not the one before."""
    with pytest.raises(InvalidValueError, match=r"t:3: t: is 1.100 s older"):
        list(in_order(lines(2.0, 1.0, 0.9)))


def test_no_more_is_held_than_a_second_of_lines() -> None:
    """A line is given once none can come before it."""
    read = []

    def each() -> Iterable[TraceLine]:
        for line in lines(*range(100)):
            read.append(line)
            yield line

    first = next(iter(in_order(each())))
    assert first.at == 0
    assert len(read) == 3


def test_standard_input_is_not_read_twice() -> None:
    """Half of its lines would come by each."""
    with pytest.raises(InvalidValueError, match="standard input: is named twice"):
        next(read_traces([STDIN, "other.jsonl", STDIN], prices_of(None)))


@pytest.mark.parametrize("name", ["trace", "trace.gz"])
def test_a_pipe_is_read_as_a_file(tmp_path: Path, name: str) -> None:
    """As a shell gives one for ``<(zcat …)``."""
    text = b'{"t": 1, "session_id": "r1", "start": true}\n'
    pipe = tmp_path / name
    os.mkfifo(pipe)
    data = gzip.compress(text) if name.endswith(".gz") else text
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    try:
        found = list(read_traces([str(pipe)], prices_of(None)))
    finally:
        writer.join(10)
    assert [line.session_id for line in found] == ["r1"]
