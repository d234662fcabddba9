"""The series of one process in one run: deltas added up, cumulative ones as they are.

Cumulative counters begin again with a new start time, and that is another series here: its value
counts whole, whatever the one before it came to. What only says what was added is added up for as
long as this receiver lives. Either way a series in the ledger never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.samples import Sample, plausible
from otel_budget.presets import model as roles
from otel_budget.presets.counting import count
from otel_budget.sources.otlp.wanted import labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.presets.counting import Counted, ForeignRun
    from otel_budget.presets.model import Preset

#: Labels that tell series apart beside those that a preset looks at: the digest of a stream, and
#: the process, or its stretch of counting, that it is of.
STREAM: Final = "otlp_stream"
PROCESS: Final = "otlp_process"
#: Wide enough that adding doubles up loses nothing that counts.
_EXACT: Final = Context(prec=60)


@dataclass(slots=True)
class _Series:
    name: str
    declared: str
    labels: Mapping[str, str]
    total: Decimal | float
    bad: float | None = None
    """The newest value, if that cannot be."""

    def sample(self) -> Sample:
        value = float(self.total) if self.bad is None else self.bad
        return Sample(self.name, self.labels, value, self.declared)


class SeriesPage:
    """What one preset reads of one process in one run."""

    def __init__(
        self, preset: Preset, process: str, service: str, details: Details = NO_DETAILS
    ) -> None:
        """process: names it in the ledger's keys. service: the name of who pushed it. details: what
        of the run is read.
        """
        self._details = details
        self.preset, self.process, self.service = preset, process, service
        self._labels = frozenset(labels_of(preset)).difference(preset.session_labels)
        """Those that are kept: by the preset alone, as they are in the ledger's keys."""
        self._series: dict[tuple[str, str, str], _Series] = {}
        self.lost: dict[str, int] = {}
        """Metric to the additions that could not be read: what they said is unknown for good."""
        self._counted: Counted | None = None
        self._told = False

    def __len__(self) -> int:
        """Return how many series there are."""
        return len(self._series)

    def has(self, name: str, stream: str, start: str) -> bool:
        """Tell whether a series is known. start: when it began; what tells its stretch apart."""
        return (name, stream, start) in self._series

    def set(self, sample: Sample, stream: str, start: str, *, grows: bool) -> None:
        """Take in a cumulative value. grows: within this stretch it only does; a lower value is
        an older one then.
        """
        self._changes()
        series = self._of(sample, stream, start)
        if not plausible(sample.value):
            series.bad = sample.value
            return
        series.bad = None
        series.total = max(float(series.total), sample.value) if grows else sample.value

    def add(self, sample: Sample, stream: str, start: str) -> bool:
        """Take in what was added; return whether it could be read."""
        self._changes()
        if not plausible(sample.value):
            self.lose(sample.name)
            return False
        series = self._of(sample, stream, start)
        series.total = _EXACT.add(Decimal(series.total), Decimal(repr(sample.value)))
        return True

    def _changes(self) -> None:
        self._counted, self._told = None, False

    def lose(self, metric: str) -> None:
        """Take note of an addition, or a series, that is unknown for good."""
        self.lost[metric] = self.lost.get(metric, 0) + 1

    def _of(self, sample: Sample, stream: str, start: str) -> _Series:
        key = (sample.name, stream, start)
        series = self._series.get(key)
        if series is None:
            labels = {n: v for n, v in sample.labels.items() if n in self._labels}
            labels |= {STREAM: stream, PROCESS: start}
            declared = sample.declared or "counter"
            series = self._series[key] = _Series(sample.name, declared, labels, 0.0)
        return series

    @property
    def counted(self) -> Counted:
        """What the series add up to."""
        if self._counted is None:
            samples = (one.sample() for one in self._series.values())
            self._counted = count(self.preset, samples, details=self._details)
        return self._counted

    def news(self) -> Counted | None:
        """Return the same, with what could not be counted, unless that was told already."""
        told, self._told = self._told, True
        return None if told else self.counted

    @property
    def run(self) -> ForeignRun | None:
        """The same of the run; None if nothing of it counts."""
        return next(iter(self.counted.sessions), None)

    def counters(self) -> Iterator[tuple[tuple[str, str], Number]]:
        """Yield the counters for the ledger: (resource, further labels as text) to value."""
        if self.run is None:
            return
        for (resource, labels), value in self.run.counters.items():
            if self.preset.summed:  # its sums have no labels of single series
                yield (resource, f"{labels},{PROCESS}={self.process!r}".lstrip(",")), value
            else:
                yield (resource, labels), value

    def lost_additions(self) -> tuple[int, int]:
        """Return how many additions could not be read, of money, and of anything else."""
        money = sum(n for name, n in self.lost.items() if self._is_money(name))
        return money, sum(self.lost.values()) - money

    def _is_money(self, name: str) -> bool:
        return any(
            name in rule.names and roles.COST_USD in rule.all_roles for rule in self.preset.metrics
        )
