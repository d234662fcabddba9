"""From the text of a ``/metrics`` endpoint to the samples that matter.

prometheus_client reads each series of the metrics asked for once: its name and labels are the same
text in every scrape, so from then on only its value is read. The lines of other metrics are only
looked at: enough to notice a page that is no exposition. Both together make a large endpoint cheap:
1,000 runs take 0.5 s the first time, and 0.1 s from then on.
"""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families

from otel_budget.core.samples import Sample
from otel_budget.logs.text import one_line
from otel_budget.sources.base import TargetError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

#: Asks for the text format. OpenMetrics is understood, but refuses a whole page for one bad value
#: and takes ten times as long. It is not named: prometheus_client gives it to any client that does.
ACCEPT: Final = "text/plain;version=0.0.4;q=1,*/*;q=0.1"
#: The time some lines take to read grows with the square of their length. Ours have some hundred.
LONGEST_LINE: Final = 16_384
_LINES_PER_LOOK: Final = 256
#: Of a timestamp that is read without the parser.
_MOST_DIGITS: Final = 18

_SAMPLE_LINE: Final = re.compile(
    r"([a-z_:][a-z0-9_:]*)(?:[ \t]*\{.*\}[ \t]*|[ \t]+)[-+]?(?:[0-9.]|nan|inf)", re.IGNORECASE
)
VALUE: Final = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?", re.IGNORECASE)
#: Names as they were before any UTF-8 was allowed in them, and what is none of theirs.
_LEGACY: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_NO_LEGACY: Final = re.compile(r"[^A-Za-z0-9_:]")
_TYPE_LINE: Final = re.compile(r"#[ \t]+TYPE[ \t]+(\S+)[ \t]+(\S+)")

Series = tuple[str, dict[str, str]]
"""Name and labels."""
_Found = tuple[str | None, Series, float, float | None]
"""The line, if it is plain; the series, its value, and the time in Unix seconds if it bears one."""


class PageLimits(NamedTuple):
    """How much of a page to put up with. What is over one of them refuses the page as a whole."""

    samples: int = 500_000
    """Of whatever metric."""
    labels: int = 64
    """Of one series, as for the two below; they are held for the wanted metrics."""
    label_name: int = 256
    """Characters."""
    label_value: int = 2048
    """Characters."""


class ExpositionError(TargetError):
    """A page cannot be read as an exposition."""


class PageReader:
    """Read the pages of one target, one after the other."""

    def __init__(self, wanted: Collection[str], limits: PageLimits, seconds: float) -> None:
        """wanted: names of metrics. seconds: processor time that reading a page may take."""
        self._wanted, self._limits, self._seconds = frozenset(wanted), limits, seconds
        self._known: dict[str, Series] = {}
        """The text of a series to what it means."""

    def read(self, body: bytes, content_type: str) -> list[Sample]:
        """Return the samples of the wanted metrics, with the types they were declared with.

        Raises ExpositionError for a page that is no exposition, has too many samples, or takes too
        long; what was read of it then still makes the next one quicker.
        """
        return [sample for _, sample in self.read_lines(body, content_type)]

    def read_lines(self, body: bytes, content_type: str) -> list[tuple[str | None, Sample]]:
        """Return the same with the line of each sample.

        The line is None where it is more than a series in its usual form, a blank and a value, and
        perhaps another blank and a timestamp.
        """
        try:
            text = body.decode("utf-8")
            if is_openmetrics(content_type):
                return self._read_openmetrics(text)
            return self._read_text(text)
        except ExpositionError:
            raise
        except Exception as exc:  # the parsers raise whatever they stumble over
            kind = f" ({one_line(content_type)})" if content_type else ""
            problem = one_line(str(exc) or type(exc).__name__)
            said = f"its answer{kind} is not a Prometheus exposition"
            raise ExpositionError(f"{said}: {problem}", f"{said}: {type(exc).__name__}") from exc

    def _read_openmetrics(self, text: str) -> list[tuple[str | None, Sample]]:
        # The text ends with the end of its last line: what follows that is not a line.
        lines = (line + "\n" for _, line in self._lines(text.removesuffix("\n")))
        families = openmetrics_parser.text_fd_to_metric_families(lines)  # type: ignore[no-untyped-call] # it has no types
        return [
            (
                None,
                Sample(
                    name,
                    self._bounded(labels),
                    sample.value,
                    family.type,
                    None if sample.timestamp is None else time_of(float(sample.timestamp)),
                ),
            )
            for family in families
            for sample in family.samples
            for name, labels in (escaped(sample.name, sample.labels),)
            if name in self._wanted
        ]

    def _read_text(self, text: str) -> list[tuple[str | None, Sample]]:
        if text and not text.endswith("\n"):
            # Half a number is a wrong number.
            raise ExpositionError("its answer ends in the middle of a line")
        found: list[_Found] = []
        declared: dict[str, str] = {}
        fresh: dict[str, Series] = {}
        try:
            for number, raw in self._lines(text):
                line = raw.strip()
                if line.startswith("#"):
                    note_type(line, declared)
                elif line:
                    self._take(line, number, found, fresh, plain=line == raw)
        except ExpositionError:
            # Not without bound: a target may show others every time.
            self._known = (
                {**self._known, **fresh} if len(self._known) < self._limits.samples else fresh
            )
            raise
        self._known = fresh
        return [
            (line, Sample(*series, value, declared.get(series[0]), at))
            for line, series, value, at in found
        ]

    def _take(
        self,
        line: str,
        number: int,
        found: list[_Found],
        fresh: dict[str, Series],
        *,
        plain: bool,
    ) -> None:
        """Read one line into ``found`` if its metric is wanted; note its series in ``fresh``."""
        row, at = apart(line)
        text, _, value = row.rpartition(" ")
        series = self._known.get(text)
        if series is not None and VALUE.fullmatch(value) is not None:
            found.append((line if plain else None, series, float(value), milliseconds(at)))
            fresh[text] = series
            return
        for series, number_read, usual, taken_at in self.exactly(line, number):
            found.append((line if plain and usual else None, series, number_read, taken_at))
            if usual:
                fresh[text] = series

    def exactly(self, line: str, number: int) -> Iterator[tuple[Series, float, bool, float | None]]:
        """Yield what a line says of the wanted metrics: series, value, usual, time.

        usual: whether the series ends where its labels do, and is followed by a value, and perhaps
        a timestamp, alone. Raises ExpositionError for what is no line of an exposition, or what the
        parser raises.
        """
        looks = _SAMPLE_LINE.match(line)
        if looks is None and not line.startswith("{"):
            said = f"its answer is not a Prometheus exposition: line {number}"
            raise ExpositionError(f"{said} is {line[:60]!r}", f"{said} is not a line of one")
        if looks is not None and looks[1] not in self._wanted:
            return
        # An exemplar is no part of this format; its labels end like those of a series.
        exemplar = " # " in line
        usual = not exemplar and apart(line)[0].rpartition(" ")[0].endswith("}")
        for family in list(text_string_to_metric_families(line)):
            for sample in family.samples:
                name, labels = escaped(sample.name, sample.labels)
                if name in self._wanted:
                    # Written out again: a whole number comes as an int, too large for float().
                    series = (name, self._bounded(labels))
                    at = sample.timestamp
                    if at is not None:
                        at = None if exemplar else time_of(float(at))
                    # With a time of another form it is read by the parser, each time.
                    plain = usual and (at is None or apart(line)[1] is not None)
                    yield series, float(repr(sample.value)), plain, at

    def learn(self, known: dict[str, Series]) -> None:
        """Take over series, by their text, as if their page had been read here."""
        self._known = known

    def _bounded(self, labels: dict[str, str]) -> dict[str, str]:
        """Return labels as they are, or refuse their page."""
        limits = self._limits
        if len(labels) > limits.labels:
            raise ExpositionError(
                f"a series in its answer has {len(labels)} labels, more than {limits.labels}"
            )
        for name, value in labels.items():
            for text, what, most in (
                (name, "name of a label", limits.label_name),
                (value, "value of a label", limits.label_value),
            ):
                if len(text) > most:
                    size = f"{len(text):,} characters, more than {most:,}"
                    said = f"the {what} in its answer has {size}"
                    raise ExpositionError(f"{said}: {one_line(text)[:60]}…", said)
        return labels

    def _lines(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield the lines with their numbers, as long as it is not too much."""
        until = time.thread_time() + self._seconds
        samples = 0
        # Not splitlines: a label value may hold what that takes for the end of a line.
        for number, line in enumerate(text.split("\n"), start=1):
            if len(line) > LONGEST_LINE:
                raise ExpositionError(f"line {number} of its answer has {len(line):,} characters")
            samples += bool(line) and not line.startswith("#")
            if samples > self._limits.samples:
                raise ExpositionError(f"its answer has more than {self._limits.samples:,} samples")
            if number % _LINES_PER_LOOK == 0 and time.thread_time() > until:
                raise ExpositionError(f"its answer takes more than {self._seconds:g} s to read")
            yield number, line


def whole_lines(body: bytes) -> bytes:
    """Return a page without the line it may be cut in: half a number is a wrong number."""
    return body[: body.rfind(b"\n") + 1]


def apart(line: str) -> tuple[str, str | None]:
    """Return a line in its usual form without its timestamp, and that; None where there is none."""
    before, _, last = line.rpartition(" ")
    if before[-1:] == "}" or not last.isdecimal() or len(last) > _MOST_DIGITS:
        return line, None
    usual = before.rpartition(" ")[0][-1:] == "}" and last.isascii()
    return (before, last) if usual else (line, None)


def milliseconds(text: str | None) -> float | None:
    """Return the Unix time in seconds of a timestamp as the text format writes them."""
    return None if text is None else int(text) / 1000


def time_of(seconds: float) -> float:
    """Return the time of a sample; 0, which is none, for what is no number."""
    return seconds if math.isfinite(seconds) else 0.0


def is_openmetrics(content_type: str) -> bool:
    """Tell whether an answer is OpenMetrics; else it is taken for the text format."""
    return content_type.strip().lower().startswith("application/openmetrics-text")


def escaped(name: str, labels: dict[str, str]) -> Series:
    """Return a series by the names it had before Prometheus 3: with ``_`` for dots and the like."""
    if _LEGACY.fullmatch(name) and all(map(_LEGACY.fullmatch, labels)):
        return name, labels
    return _NO_LEGACY.sub("_", name), {_NO_LEGACY.sub("_", k): v for k, v in labels.items()}


def note_type(line: str, declared: dict[str, str]) -> None:
    """Note a type; of two for one metric the one that is no counter's.

    Not left to the parser: it takes the last of several, and forgets one the samples contradict.
    """
    found = _TYPE_LINE.match(line)
    if found is None:
        return
    name = found[1]
    if name.startswith('"'):
        name, _ = escaped(name.strip('"'), {})
    if declared.get(name) in (None, "counter"):
        declared[name] = found[2]
