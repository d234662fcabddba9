"""Push the runs of this process by OTLP, for where nothing can scrape it.

A thread of its own collects what a page would show and hands it to an exporter: at intervals, so a
reader knows when the next one is late; at half of one where something happened that a reader waits
for; at once where a run ended. No run waits for it, and what hangs there costs this thread alone. A
run that ended is pushed until that has succeeded once, then no more.

Series of runs do not go through OpenTelemetry's instruments, which keep every attribute set for
ever (adr/0038).
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING, Final, Self

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.metrics.export import MetricExportResult

from otel_budget.errors import InvalidValueError
from otel_budget.logs.logger import logger
from otel_budget.logs.text import one_line
from otel_budget.runtime.fork import in_child
from otel_budget.sdk.lifecycle.at_exit import AT_EXIT
from otel_budget.sdk.metrics import otlp_exporters
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.metrics.families import session_families
from otel_budget.sdk.metrics.last_scrape import LAST_SCRAPE, LOOK_WITHIN, USUAL
from otel_budget.sdk.metrics.otlp_data import (
    metrics_data,
    process_metrics,
    run_metrics,
    with_instance,
)
from otel_budget.sdk.metrics.visibility import PAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource

    from otel_budget.sdk.metrics.otlp_exporters import Destination
    from otel_budget.sdk.metrics.run_group import Group

#: Runs in one request: some 40 series each, so a megabyte or two.
_AT_ONCE: Final = 250
#: Times as long as a push took in which there is no other, if that is less than an interval.
_REST: Final = 9.0
#: Share of the interval after which news may go out. A reader that measures how often samples come
#: waits for three times the shortest of that, which must be longer than the longest.
_NEWS_AFTER: Final = 0.5
_ABOVE_0: Final = "a number of seconds above 0"


class OtlpExport:
    """Pushes the runs of this process; a context manager. Ends with the interpreter at the latest.

    In a forked child it goes on with the child's own runs, from the first one there.
    """

    def __init__(self, to: Destination, interval: float) -> None:
        """Begin. interval: seconds."""
        self.where, self.interval = to.where, interval
        self._to = to
        self._failing: str | None = None
        """Why the newest push failed; None if it did not."""
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition(threading.RLock())  # reentrant for signal handlers
        self._pushing = threading.Lock()
        self._exporter = self._to.make()
        self._resource: Resource | None = None
        self._done: dict[int, Group] = {}
        """Runs that ended and were pushed since, while they are still shown."""
        self._news = self._wanted = False
        self._begun = self._over = 0
        """Pushes of all runs: the number of the newest that began, and that ended."""
        self._pushed_at = -math.inf
        self._rest_until = -math.inf
        self._succeeded_at: float | None = None
        self._works = True
        self._unlisten = RUNS.listen(self._note_news)
        PAGES.pushes[id(self)] = self.describe
        LAST_SCRAPE.ask(None)
        if self._to.is_shared:
            AT_EXIT.before_others()
        AT_EXIT.last[id(self)] = self.close
        thread = threading.Thread(target=self._run, name="otel-budget-otlp", daemon=True)
        self._thread: threading.Thread | None = thread
        try:
            thread.start()
        except RuntimeError as exc:  # no more threads: the end pushes
            self._thread = None
            logger.warning("runs are pushed to %s only when the process ends: %s", self.where, exc)

    def describe(self) -> str:
        """Say where the runs go, and how that goes."""
        told = f"its runs are pushed to {self.where} every {self.interval:g} s"
        if self._failing is not None:
            return f"{told}, which fails: {self._failing}"
        if self._succeeded_at is None:
            return f"{told}, and were not yet"
        return f"{told}, last {time.monotonic() - self._succeeded_at:.0f} s ago"

    def push(self, timeout: float = LOOK_WITHIN) -> bool:
        """Push everything now, and wait for that; False if it failed or took longer (seconds)."""
        if os.getpid() != self._process:
            return False
        if self._thread is None or not self._thread.is_alive():
            return self._push_all()
        with self._changed:
            number = self._begun + 1
            self._wanted = True
            self._changed.notify_all()
            there = self._changed.wait_for(lambda: self._over >= number, timeout)
        return there and self._failing is None

    def close(self) -> None:
        """Push once more, then end: within five seconds where it ever worked, else two, or
        within ``scrape_wait``, if that is set.

        Closing twice is fine. In a forked child it pushes nothing.
        """
        if self._closed or os.getpid() != self._process:
            self._closed = True
            return
        usual = LOOK_WITHIN if self._succeeded_at is None else USUAL
        self.push(usual if LAST_SCRAPE.wait_for is None else LAST_SCRAPE.wait_for)
        self._closed = True
        self._let_go()
        with self._changed:
            self._works = False
            self._changed.notify_all()
        if not self._to.is_shared:
            with suppress(Exception):  # whatever it is, the process may end
                self._exporter.shutdown()

    def __enter__(self) -> Self:
        """Return the export itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def revive(self) -> None:
        """Go on in a forked child, with an exporter of its own if it can be made anew."""
        if not self._closed and os.getpid() != self._process:
            self._failing = None
            self._begin()

    def _let_go(self) -> None:
        self._unlisten()
        AT_EXIT.last.pop(id(self), None)
        PAGES.pushes.pop(id(self), None)
        _OPEN.pop(id(self), None)

    def _note_news(self) -> None:
        with self._changed:
            self._news = True
            self._changed.notify_all()

    # --- in the thread -----------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._works:
                    return
                if not self._wanted:
                    self._changed.wait(self._until_next())
                news, self._news = self._news, False
                wanted = self._wanted
            now = time.monotonic()
            if wanted or now >= self._due_at(news=news):
                self._push_all()
            elif news and now >= self._rest_until and (ended := self._ended()):
                self._push(ended)
                self._news = True  # all others are due soon
            else:
                self._news |= news

    def _due_at(self, *, news: bool) -> float:
        """Return when all runs are to be pushed next, by the monotonic clock."""
        share = _NEWS_AFTER if news else 1.0
        return max(self._pushed_at + share * self.interval, self._rest_until)

    def _until_next(self) -> float:
        due = self._due_at(news=self._news)
        if self._news and self._ended():
            due = min(due, self._rest_until)
        return max(0.0, due - time.monotonic())

    def _ended(self) -> list[tuple[str, Group]]:
        """Return runs that ended and were not pushed since."""
        return [one for one in RUNS.groups() if not one[1].live and id(one[1]) not in self._done]

    def _push_all(self) -> bool:
        with self._pushing:
            with self._changed:
                self._begun += 1
                number, self._wanted = self._begun, False
            shown = RUNS.groups()
            self._done = {id(group): group for _, group in shown if id(group) in self._done}
            self._pushed_at = time.monotonic()
            worked = self._push([one for one in shown if id(one[1]) not in self._done], whole=True)
            with self._changed:
                self._over = number
                self._changed.notify_all()
            return worked

    def _push(self, groups: Sequence[tuple[str, Group]], *, whole: bool = False) -> bool:
        """Push some runs, and with ``whole`` the sums of the process; return whether it worked."""
        began, why = time.monotonic(), None
        # What ends while it is pushed is pushed again.
        over = {id(group) for _, group in groups if not group.live}
        try:
            if self._resource is None:
                found = otlp_exporters.resource_of_application()
                self._resource = with_instance(found, RUNS.process.instance)
            for start in range(0, len(groups), _AT_ONCE) or ([0] if whole else []):
                some = groups[start : start + _AT_ONCE]
                self._export(self._resource, some, with_sums=whole and not start)
                ended = [one for one in some if id(one[1]) in over]
                self._done |= {id(group): group for _, group in ended}
                RUNS.pushed(ended)
        except _FailedError as exc:
            why = str(exc)
        except Exception as exc:  # noqa: BLE001 - whatever an exporter raises, the runs go on
            why = one_line(f"{type(exc).__name__}: {exc}")
        took = time.monotonic() - began
        self._rest_until = began + took + rest_after(took, self.interval, worked=why is None)
        self._note(why)
        return why is None

    def _export(
        self, resource: Resource, groups: Sequence[tuple[str, Group]], *, with_sums: bool
    ) -> None:
        """Export some runs. Raises _FailedError, or what the exporter raises."""
        now = time.time_ns()
        metrics = run_metrics(session_families([group.records for _, group in groups]), now)
        if with_sums and not otlp_exporters.exports_sums():
            metrics += process_metrics(RUNS.process.series(), RUNS.process.since, now)
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))  # noqa: FBT003 - its value
        try:
            with _Overheard(self._exporter) as said, self._to.lock or nullcontext():
                result = self._exporter.export(
                    metrics_data(resource, metrics), timeout_millis=otlp_exporters.TIMEOUT * 1000
                )
        finally:
            detach(token)
        if result is not MetricExportResult.SUCCESS:
            raise _FailedError(said.first or "the exporter does not say why")

    def _note(self, why: str | None) -> None:
        """Say that it fails, or works again; each once."""
        before, self._failing = self._failing, why
        if self._closed:
            return  # it was left hanging
        if why is None:
            self._succeeded_at = time.monotonic()
            if before is not None:
                logger.warning("runs are pushed to %s again", self.where)
        elif before is None:
            logger.warning(
                "runs cannot be pushed to %s: %s; it is tried again every %g s (said once)",
                self.where, why, self.interval,
            )  # fmt: skip


def rest_after(took: float, interval: float, *, worked: bool) -> float:
    """Return for how long there is no other push, in seconds, after one that took so long.

    A tenth of the time is spent on pushing, until the rest would be longer than an interval: from
    then on more is, as a reader who hears too rarely of a run takes its data to be stale.
    """
    return min(_REST * took, interval) if worked else interval


class _FailedError(Exception):
    """The exporter says that it failed; the message says why, as far as it does."""


class _Overheard(logging.Filter):
    """Keeps what an exporter logs of a failure in this thread: it is said once, with the rest."""

    def __init__(self, exporter: MetricExporter) -> None:
        super().__init__()
        self.first = ""
        self._thread = threading.get_ident()
        self._loggers = otlp_exporters.loggers_of(exporter)
        self._stack = ExitStack()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        self.first = self.first or one_line(record.getMessage())
        return False

    def __enter__(self) -> Self:
        for each in self._loggers:
            each.addFilter(self)
            self._stack.callback(each.removeFilter, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


#: For a forked child, to go on with.
_OPEN: Final[dict[int, OtlpExport]] = {}
_INHERITED: Final[list[OtlpExport]] = []


def export_otlp(
    endpoint: str | None = None,
    *,
    interval: float | None = None,
    exporter: MetricExporter | None = None,
) -> OtlpExport:
    """Push the runs of this process by OTLP from now on, and return what does.

    endpoint: where to, by default as ``OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`` or
    ``OTEL_EXPORTER_OTLP_ENDPOINT`` says, else http://localhost:4318; ``/v1/metrics`` is appended
    unless it ends with that. Headers, such as a token, are ``OTEL_EXPORTER_OTLP_HEADERS``.
    interval: seconds between two pushes, by default ``OTEL_METRIC_EXPORT_INTERVAL`` (which is in
    milliseconds), else 5. exporter: one of OpenTelemetry's SDK, instead of an endpoint.

    Failures are logged once; the runs go on. Raises InvalidValueError, and MissingExtraError
    without the extra ``otlp`` and without an exporter.
    """
    if exporter is not None and endpoint is not None:
        raise InvalidValueError("endpoint", endpoint, "None where an exporter is given")
    if interval is not None and (
        isinstance(interval, bool)
        or not isinstance(interval, int | float)
        or not 0 < interval < math.inf
    ):
        raise InvalidValueError("interval", interval, _ABOVE_0)
    if exporter is None:
        to = otlp_exporters.to_endpoint(endpoint, interval)
    else:
        to = otlp_exporters.by_exporter(exporter, interval)
    return push_to(to)


def push_to(to: Destination) -> OtlpExport:
    """Push to a destination from now on. Raises InvalidValueError for a bad environment."""
    interval = otlp_exporters.usual_interval() if to.interval is None else to.interval
    found = f" ({to.found})" if to.found else ""
    logger.info("runs are pushed to %s every %g s%s", to.where, interval, found)
    export = OtlpExport(to, interval)
    _OPEN[id(export)] = export
    return export


def revive_inherited() -> bool:
    """Go on with what the process pushed that this one was forked from; True if there is any."""
    found, _INHERITED[:] = list(_INHERITED), []
    for export in found:
        export.revive()
        _OPEN[id(export)] = export
    return bool(found)


def _in_child() -> None:
    _INHERITED[:] = list(_OPEN.values())
    _OPEN.clear()


in_child(_in_child)
