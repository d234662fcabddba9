"""Pages of many runs, as the exporter shows them, for the benchmarks of the sidecar's tick."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core.resources import RESOURCES, TIMES
from otel_budget.sources.prometheus_vector import SAMPLED
from otel_budget.sources.session_assembly import NEEDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_BEGAN = 1_700_000_000
_ASKED_FOR = frozenset(NEEDED)
_CALL_TOKENS, _CALL_COST = 1200, 0.0125


class Fleet(NamedTuple):
    """Runs at one target."""

    runs: int
    changing: float
    """Share of them that made a call since the page before."""
    first: int = 0
    """Number of the first one."""

    def page(self, tick: int) -> bytes:
        """Return the page at a tick, one a second: 22 samples a run, all live."""
        lines: list[str] = []
        declared: set[str] = set()
        for metric, labels, value in self._series(tick):
            if metric.name not in declared:
                declared.add(metric.name)
                lines.append(f"# HELP {metric.name} {metric.help}")
                lines.append(f"# TYPE {metric.name} {metric.kind}")
            start = f'{metric.name}{{{labels}session_id="run-'
            lines += [f'{start}{n:06}"}} {value(n)}' for n in range(self.first, self._end)]
        return ("\n".join(lines) + "\n").encode()

    @property
    def _end(self) -> int:
        return self.first + self.runs

    def _series(self, tick: int) -> list[tuple[semconv.Metric, str, Callable[[int], object]]]:
        changing = self.first + round(self.runs * self.changing)

        def calls(number: int) -> int:
            return 1 + (tick if number < changing else 0)

        def nothing(_number: int) -> float:
            return 0.0

        def one(_number: int) -> float:
            return 1.0

        def age(_number: int) -> float:
            return 60.0 + tick

        def began(number: int) -> float:
            return float(_BEGAN + number)

        return [
            (semconv.SESSION_TOKENS, "", lambda n: float(_CALL_TOKENS * calls(n) + n)),
            (semconv.SESSION_API_CALLS, "", lambda n: float(calls(n))),
            (semconv.SESSION_COST, "", lambda n: _CALL_COST * calls(n)),
            *(
                (semconv.CARRIED_OVER, f'resource="{resource}",unit="{row.unit}",', nothing)
                for resource, row in RESOURCES.items()
                if resource not in TIMES
            ),
            (semconv.UNPRICED_CALLS, "", nothing),
            (semconv.UNKNOWN_USAGE_CALLS, "", nothing),
            (semconv.ESTIMATED_CALLS, "", nothing),
            (semconv.DURATION_SECONDS, "", age),
            (semconv.ACTIVE_SECONDS, "", age),
            (semconv.CHECKPOINTS, "", nothing),
            (semconv.LIMIT, 'resource="tokens",unit="tokens",', lambda _: 1e12),
            (semconv.WARNING_THRESHOLD, 'resource="tokens",', lambda _: 0.8),
            (semconv.COMPLETION_THRESHOLD, "", lambda _: 0.8),
            (semconv.SESSION_START, "", began),
            (semconv.INCARNATION_START, "", began),
            *(
                (semconv.SESSION_STATE, f'state="{state}",', one if state == "running" else nothing)
                for state in semconv.SESSION_STATES
            ),
        ]


def answer(pages: Iterable[bytes], at: float) -> bytes:
    """Return what a Prometheus that scraped these pages answers to the sidecar's query."""
    rows: list[str] = []
    for number, page in enumerate(pages):
        place = f'"instance":"10.0.0.{number}:9464","job":"agents"'
        for line in page.decode().splitlines():
            name, _, rest = line.partition("{")
            if name not in _ASKED_FOR:
                continue
            labels, _, value = rest.rpartition("} ")
            said = labels.replace('="', '":"').replace(",", ',"')
            number_text = value.removesuffix(".0")
            rows.append(
                f'{{"metric":{{"__name__":"{name}",{place},"{said}}},"value":[{at},"{number_text}"]}}'
            )
            if name == semconv.SESSION_TOKENS.name:
                rows.append(
                    f'{{"metric":{{{place},"{SAMPLED}":"1","{said}}},"value":[{at},"{at - 0.4}"]}}'
                )
    head = '{"status":"success","data":{"resultType":"vector","result":['
    return f"{head}{','.join(rows)}]}}}}".encode()
