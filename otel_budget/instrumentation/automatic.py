"""What a process starts by itself at the first use of a run: once, and only when asked."""

from __future__ import annotations

import logging
import os
import weakref
from typing import TYPE_CHECKING

from otel_budget.errors import OtelBudgetError
from otel_budget.instrumentation.autosave import Autosaver
from otel_budget.instrumentation.forked import ProcessLock, in_child

if TYPE_CHECKING:
    from otel_budget.instrumentation.clock import Clock

logger = logging.getLogger("otel_budget")

ENV_EXPORTER = "OTEL_METRICS_EXPORTER"
#: Seconds a run that ends waits for one more scrape, when somebody scrapes at all.
SCRAPE_WAIT = 5.0

_once = ProcessLock()
_done: dict[str, bool] = {}
_autosavers: weakref.WeakValueDictionary[Clock, Autosaver] = weakref.WeakValueDictionary()


def serve_if_asked() -> None:
    """Open ``/metrics`` if ``OTEL_METRICS_EXPORTER`` says prometheus; never raises out of a run."""
    asked = "prometheus" in map(str.strip, os.environ.get(ENV_EXPORTER, "").split(","))
    with _once:
        if not asked or _done.get("serve"):
            return
        _done["serve"] = True
    from otel_budget.instrumentation.endpoint import serve_metrics

    try:
        endpoint = serve_metrics()
    except OtelBudgetError as exc:
        logger.error(  # noqa: TRY400 - the message says it all
            "%s; this process's runs are in prometheus_client's default registry, and nobody "
            "scrapes them unless an endpoint of the application serves it", exc,
        )  # fmt: skip
    else:
        logger.info("metrics at %s", endpoint.url)


def autosaver(clock: Clock) -> Autosaver:
    """Return the process's writer of automatic checkpoints."""
    with _once:
        saver = _autosavers.get(clock)
        if saver is None:
            saver = _autosavers[clock] = Autosaver(clock)  # kept by who holds it, and its thread
        return saver


def _begin_anew() -> None:
    """Serve and save nothing of the parent's in a forked child."""
    _done.clear()
    for saver in list(_autosavers.values()):
        saver.begin_anew()


in_child(_begin_anew)
