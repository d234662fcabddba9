"""From the text of a ``/metrics`` endpoint to the samples that matter.

prometheus_client reads the lines of the metrics asked for. The others are only looked at: enough to
notice a page that is no exposition, so that a large endpoint with few sessions costs little.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_fd_to_metric_families

from otel_budget.errors import OtelBudgetError
from otel_budget.sources.assemble import Sample

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from prometheus_client import Metric

#: Asks for the text format; OpenMetrics is understood, but refuses a whole page for one bad value.
ACCEPT: Final = "text/plain;version=0.0.4;q=1,application/openmetrics-text;q=0.2,*/*;q=0.1"
#: The time some lines take to read grows with the square of their length. Ours have some hundred.
_LONGEST_LINE: Final = 16_384
_LINES_PER_LOOK: Final = 256

_SAMPLE_LINE: Final = re.compile(
    r"([a-z_:][a-z0-9_:]*)(?:[ \t]*\{.*\}[ \t]*|[ \t]+)[-+]?(?:[0-9.]|nan|inf)", re.IGNORECASE
)
_TYPE_LINE: Final = re.compile(r"#[ \t]+TYPE[ \t]+(\S+)")


class ExpositionError(OtelBudgetError):
    """Say why a page cannot be read as an exposition."""


def parse(
    body: bytes,
    content_type: str,
    wanted: Collection[str],
    *,
    sample_limit: int,
    seconds: float,
) -> list[Sample]:
    """Return the samples of the wanted metrics, with the types they were declared with.

    seconds: processor time it may take. Raises ExpositionError for a page that is no exposition,
    has more samples than ``sample_limit``, or takes too long.
    """
    guard = _Guard(sample_limit, seconds)
    try:
        text = body.decode("utf-8")
        if content_type.strip().lower().startswith("application/openmetrics-text"):
            families = openmetrics_parser.text_fd_to_metric_families(guard.all_lines(text))  # type: ignore[no-untyped-call] # it has no types
        else:
            lines = guard.wanted_lines(text, wanted)
            families = text_fd_to_metric_families(lines)  # type: ignore[arg-type] # it iterates, no more
        return _samples(families, wanted)
    except ExpositionError:
        raise
    except Exception as exc:  # the parsers raise whatever they stumble over
        kind = f" ({content_type})" if content_type else ""
        problem = (str(exc) or type(exc).__name__)[:200]
        raise ExpositionError(f"its answer{kind} is no exposition: {problem}") from exc


class _Guard:
    """Hand lines to a parser, as long as they are not too many and it does not take too long."""

    def __init__(self, sample_limit: int, seconds: float) -> None:
        self._limit, self._seconds = sample_limit, seconds
        self._until = time.thread_time() + seconds

    def all_lines(self, text: str) -> Iterator[str]:
        samples = 0
        # The text ends with the end of its last line: what follows that is not a line.
        for _, line in self._lines(text.removesuffix("\n")):
            samples += not line.startswith("#")
            self._count(samples)
            yield line + "\n"

    def wanted_lines(self, text: str, wanted: Collection[str]) -> Iterator[str]:
        if text and not text.endswith("\n"):
            # Half a number is a wrong number.
            raise ExpositionError("its answer ends in the middle of a line")
        samples = 0
        for number, raw in self._lines(text):
            line = raw.strip()
            if line.startswith("#"):
                declared = _TYPE_LINE.match(line)
                if declared is not None and declared[1] in wanted:
                    yield line
            elif line:
                samples += 1
                self._count(samples)
                sample = _SAMPLE_LINE.match(line)
                if sample is None and not line.startswith("{"):
                    raise ExpositionError(
                        f"its answer is no exposition: line {number} is {line[:60]!r}"
                    )
                if sample is None or sample[1] in wanted:
                    yield line

    def _count(self, samples: int) -> None:
        if samples > self._limit:
            raise ExpositionError(f"its answer has more than {self._limit:,} samples")

    def _lines(self, text: str) -> Iterator[tuple[int, str]]:
        # Not splitlines: a label value may hold what that takes for the end of a line.
        for number, line in enumerate(text.split("\n"), start=1):
            if len(line) > _LONGEST_LINE:
                raise ExpositionError(f"line {number} of its answer has {len(line):,} characters")
            if number % _LINES_PER_LOOK == 0 and time.thread_time() > self._until:
                raise ExpositionError(f"its answer takes more than {self._seconds:g} s to read")
            yield number, line


def _samples(families: Iterable[Metric], wanted: Collection[str]) -> list[Sample]:
    found: list[Sample] = []
    declared: dict[str, str] = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        # Declared as two things, it is what a counter cannot be.
        if family.type != "unknown" and declared.get(name) in (None, "counter"):
            declared[name] = family.type
        found += [Sample(s.name, s.labels, s.value) for s in family.samples if s.name in wanted]
    # Only now: what the type contradicts, prometheus_client gives as a family of its own.
    return [s._replace(declared=declared.get(s.name)) for s in found]
