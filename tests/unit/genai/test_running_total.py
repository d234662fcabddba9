"""Usage that is repeated with every chunk of a stream is not added up; what comes in parts is."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.genai.running_total import RunningTotal

COUNTS = st.integers(0, 1000)


def seen(chunks: list[tuple[int, int]], texts: list[bool] | None = None) -> RunningTotal:
    """Return what has watched these chunks."""
    total = RunningTotal()
    for index, (into, out) in enumerate(chunks):
        total.see(into, out, has_text=texts is None or texts[index])
    return total


@pytest.mark.parametrize(
    ("chunks", "used"),
    [
        ([(35, 0), (35, 1), (35, 2), (35, 20), (35, 20)], (35, 20)),  # with every chunk
        ([(35, 20), (35, 20)], (35, 20)),  # with the last text, and once more behind it
        ([(35, 0), (0, 0), (35, 20)], (35, 20)),  # a chunk without any is none
        ([(35, 1), (40, 20)], (40, 20)),  # the input of a tool's answer came in
        ([(35, 3), (35, 1), (35, 2)], (35, 6)),  # the input repeats, the output comes in parts
        ([(35, 1), (35, 1), (35, 1)], (35, 3)),
    ],
)
def test_a_total_that_is_repeated_is_told_from_one_that_comes_in_parts(
    chunks: list[tuple[int, int]], used: tuple[int, int]
) -> None:
    total = seen(chunks)
    assert total.is_added_up(*(sum(parts) for parts in zip(*chunks, strict=True)))
    assert total.used == used


@pytest.mark.parametrize(
    "chunks",
    [
        [(35, 20)],
        [(35, 1), (0, 19)],  # Anthropic's: the input first, the output at the end
        [(0, 1), (0, 1), (35, 0)],
        [(35, 5), (0, 3), (0, 12)],
        [(35, 5), (20, 5)],  # falls: two calls, or a correction
        [],
    ],
)
def test_what_comes_in_parts_is_left_as_the_framework_adds_it_up(
    chunks: list[tuple[int, int]],
) -> None:
    sums = sum(into for into, _ in chunks), sum(out for _, out in chunks)
    assert not seen(chunks).is_added_up(*sums)


def test_a_framework_that_does_not_add_up_is_believed() -> None:
    """A newer version may know better."""
    total = seen([(35, 0), (35, 20)])
    assert not total.is_added_up(35, 20)
    assert total.is_added_up(70, 20)


def test_the_same_output_with_chunks_without_a_text_is_a_total() -> None:
    chunks = [(35, 20), (35, 20), (35, 20)]
    assert seen(chunks, [True, True, True]).used == (35, 60)
    assert seen(chunks, [True, False, False]).used == (35, 20)


@given(COUNTS.filter(bool), st.lists(COUNTS, min_size=2, max_size=30))
def test_a_rising_total_is_its_last_value_and_no_total_is_more_than_the_sum(
    into: int, outputs: list[int]
) -> None:
    chunks = [(into, out) for out in sorted(outputs)]
    total = seen(chunks)
    assert total.used[0] == into
    assert chunks[-1][1] <= total.used[1] <= sum(out for _, out in chunks)
    if len(set(outputs)) > 1:
        assert total.used == chunks[-1]


class Usage(SimpleNamespace):
    """A usage of Pydantic AI's: what is not said is 0."""

    input_tokens = output_tokens = cache_read_tokens = 0

    def __add__(self, other: Any) -> Any:
        """Add, as it does."""
        details = {k: self.details.get(k, 0) + v for k, v in other.details.items()}
        counts = {k: getattr(self, k) + v for k, v in vars(other).items() if k != "details"}
        return Usage(**counts, details=details)


class Stream:
    """A stream of Pydantic AI's, as far as its usage goes."""

    def __init__(self) -> None:
        """Begin with nothing used."""
        self._usage = Usage(input_tokens=0, output_tokens=0, details={})

    def more(self, into: int, out: int, cached: int) -> None:
        """Add the usage of a chunk."""
        details = {"reasoning_tokens": out // 2}
        self._usage = self._usage + Usage(
            input_tokens=into, output_tokens=out, cache_read_tokens=cached, details=details
        )


def test_a_stream_of_pydantic_ai_that_adds_up_a_running_total_used_the_last(
    pydantic_ai: Any,
) -> None:
    """With all that is a part of it; the stream stays what it is."""
    stream = Stream()
    growth = pydantic_ai.watch_usage(stream)
    assert growth is not None
    assert isinstance(stream, Stream)
    for out in range(0, 21, 10):
        stream.more(35, out, 30)
    assert stream._usage.input_tokens == 105
    used = growth.usage(stream._usage)
    assert (used.input_tokens, used.output_tokens, used.cache_read_tokens) == (35, 20, 30)
    assert used.details == {"reasoning_tokens": 10}


def test_what_has_no_class_of_its_own_is_not_watched(pydantic_ai: Any) -> None:
    assert pydantic_ai.watch_usage(SimpleNamespace()) is None
