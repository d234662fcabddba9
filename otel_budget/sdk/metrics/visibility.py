"""Where the runs of this process are shown, and what to say of a run that is not seen there.

A page that was opened before a fork is the parent's: what runs in the child is not on it.
OpenTelemetry's exporters take the sums of the process. The series of single runs would grow an
SDK's instruments without end: they are on a Prometheus page, or are pushed by OTLP beside those
(otlp_export.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics

from otel_budget.net.loopback import is_loopback
from otel_budget.runtime.environment import setting
from otel_budget.runtime.fork import in_child
from otel_budget.sdk.metrics.collector import RUNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Of prometheus_client: its page of several processes has only what its own files hold.
ENV_MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"
ENV_EXPORTER: Final = "OTEL_METRICS_EXPORTER"
#: ``off``: what the application pushes by OTLP stays as it is, without single runs.
ENV_PUSH: Final = "OTEL_BUDGET_EXPORT_OTLP"
_NO: Final = ("off", "false", "no", "0")
#: The exporter by which runs are shown, and the word for no exporter.
_PROMETHEUS, _NONE = "prometheus", "none"
#: The exporter that can take runs as well; and, in capitals, how names of its classes begin.
_OTLP: Final = "otlp"
#: Beginnings of the names of readers and exporters that show runs, or send nothing away.
_SHOWING: Final = ("Prometheus", "InMemory")


@dataclass(frozen=True, slots=True)
class Page:
    """A ``/metrics`` that this process, or one it was forked from, opened by ``serve_metrics``."""

    url: str
    host: str
    folder: Path | None
    """Where its ``file_sd`` entry is; None if it has none."""
    process: int


class Pages:
    """The pages of this process."""

    def __init__(self) -> None:
        self._open: dict[str, Page] = {}
        self.pushes: dict[int, Callable[[], str]] = {}
        """Of what pushes runs by OTLP, what says where to, and how that goes."""
        self.inherited: Page | None = None
        """Of the process this one was forked from; None if it has none, or this one its own."""
        in_child(self._reset)

    def opened(self, page: Page) -> None:
        """Take note of a page that answers now."""
        self._open[page.url] = page
        RUNS.offered()
        self.inherited = None

    def closed(self, url: str) -> None:
        """Take note that one answers no more."""
        self._open.pop(url, None)

    @property
    def anywhere(self) -> bool:
        """True if there is a page, or a registry that may have one, or runs are pushed."""
        return bool(self._open or self.pushes) or RUNS.registered

    def why_unseen(self) -> str:
        """Return why a sidecar may not see a run of this process, as far as that can be told here,
        and what to do.
        """
        if self.pushes:
            told = "; ".join(describe() for describe in self.pushes.values())
            return f"{told}: does the sidecar receive what is pushed there?"
        scrapes, ago = RUNS.scrapes, RUNS.scraped_ago
        if scrapes and ago is not None:
            return (
                f"this process was scraped {scrapes:,} times, last {ago:.0f} s ago: does the "
                "sidecar read from what scraped it (its targets; the matchers and tenant of its "
                "Prometheus), and does its log say that it refuses runs?"
            )
        if self._open:
            urls = ", ".join(sorted(self._open))
            near = [page.host for page in self._open.values() if is_loopback(page.host)]
            from_here = (
                f" Only this host, or container, can reach {near[0]}: for others, use "
                'address="0.0.0.0"'
                if near
                else ""
            )
            return (
                f"nothing has scraped {urls} yet: is it among the targets of the sidecar, or of "
                f"its Prometheus?{from_here}"
            )
        if self.inherited is not None:
            return (
                f"its page {self.inherited.url} was opened in process {self.inherited.process} "
                "before this one was forked from it, and does not show what runs here: with "
                "serve_metrics(register=FOLDER), or OTEL_BUDGET_REGISTER, each fork has its own "
                "page; or call serve_metrics(port=0, register=FOLDER) after the fork"
            )
        return self._without_page()

    def mind_registry(self) -> None:
        """Say, once, that the application's page with runs on it is not scraped."""
        if RUNS.registered and not self._open and self.inherited is None:
            RUNS.mind_unscraped("a registry of the application")

    def _without_page(self) -> str:
        if os.environ.get(ENV_MULTIPROCESS):
            return (
                f"{ENV_MULTIPROCESS} is set, and the page made from its files shows no runs: call "
                "serve_metrics(port=0, register=FOLDER) in each worker"
            )
        if RUNS.registered:
            return (
                "it is in a registry of the application whose page nothing has scraped yet: is "
                "that page among the targets of the sidecar, or of its Prometheus?"
            )
        return (
            "no page shows it: call serve_metrics(), set OTEL_METRICS_EXPORTER=prometheus, or call "
            "use_registry() if the application has its own page; and add the page to the targets "
            "of the sidecar or of its Prometheus"
        )

    def _reset(self) -> None:
        """Be without a page in a forked child."""
        pages, self._open = list(self._open.values()), {}
        self.pushes = {}
        # One with a folder before others: the child can be found there, too.
        pages.sort(key=lambda page: page.folder is None)
        self.inherited = pages[0] if pages else self.inherited


#: Of this process.
PAGES = Pages()


def named_exporters() -> tuple[str, ...]:
    """Return the exporters that the environment names, in lower case."""
    names = os.environ.get(ENV_EXPORTER, "").lower().split(",")
    return tuple(name.strip() for name in names if name.strip())


def pushes_otlp(names: tuple[str, ...]) -> bool:
    """Tell whether the application pushes its metrics by OTLP. names: of exporters it asks for."""
    return _OTLP in names or any(name.startswith(_OTLP.upper()) for name in _of_provider())


def may_push() -> bool:
    """Tell whether runs go out by OTLP where the application's metrics do."""
    return (setting(ENV_PUSH) or "").strip().lower() not in _NO


def show_no_runs(names: tuple[str, ...]) -> bool:
    """Tell whether exporters are named, and none by which runs are shown."""
    return bool(names) and _PROMETHEUS not in names and names != (_NONE,)


def other_exporters() -> str:
    """Say where the metrics of this process go if no run is shown there; empty if one may be."""
    names = named_exporters()
    if show_no_runs(names):
        return f"{ENV_EXPORTER} is {', '.join(names)}"
    if names:
        return ""
    exporters = _of_provider()
    if not exporters or any(name.startswith(_SHOWING) for name in exporters):
        return ""
    return f"the MeterProvider of this process exports by {', '.join(exporters)}"


def _of_provider() -> list[str]:
    """Return what the SDK's provider, if one is set, exports by; by the names of the classes."""
    provider = metrics.get_meter_provider()
    readers = getattr(provider, "_metric_readers", None)  # the SDK has no other way to ask
    if readers is None:
        readers = getattr(getattr(provider, "_sdk_config", None), "metric_readers", ())
    return [type(getattr(reader, "_exporter", None) or reader).__name__ for reader in readers or ()]
