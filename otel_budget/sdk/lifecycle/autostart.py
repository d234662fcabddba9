"""What a process starts by itself at the first use of a run: once, and only when asked."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from otel_budget.errors import ListenError, OtelBudgetError
from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import ProcessLock, in_child
from otel_budget.sdk.metrics import visibility
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.metrics.visibility import PAGES, Page

#: The files that this process has open, on Linux.
_OWN_FILES = Path("/proc/self/fd")
_once = ProcessLock()
_done: dict[str, bool] = {}


def serve_if_asked() -> None:
    """Open ``/metrics`` if ``OTEL_METRICS_EXPORTER`` says prometheus, or if this process was forked
    from one whose page is found by its ``file_sd`` entry; push by OTLP what is on no page, if the
    application pushes so. Never raises out of a run.

    Such a child's page has a free port and its own entry. Any other page of the parent's
    cannot be had a second time, which is said.
    """
    asked = "prometheus" in visibility.named_exporters()
    inherited = PAGES.inherited
    with _once:
        what = "serve" if asked or inherited else "look elsewhere"
        if _done.get(what):
            return
        first = not _done
        _done[what] = True
    if first and _goes_on_pushing():
        return
    if what == "look elsewhere":
        if not PAGES.anywhere and not _push_as_application():
            _say_if_elsewhere()
        return
    if inherited is None or inherited.folder is not None or asked:
        _serve(inherited)
    elif not RUNS.scrapes:
        logger.warning("no page shows the runs of this process: %s (said once)", PAGES.why_unseen())


def _goes_on_pushing() -> bool:
    """Push as the process did from which this one was forked; True if it did, and had no page."""
    pushes = sys.modules.get("otel_budget.sdk.metrics.otlp_export")
    return pushes is not None and pushes.revive_inherited() and PAGES.inherited is None


def _push_as_application() -> bool:
    """Push runs where the application pushes its metrics by OTLP; True if it does so now."""
    names = visibility.named_exporters()
    if not (visibility.may_push() and visibility.pushes_otlp(names)):
        return False
    try:
        from otel_budget.sdk.metrics import otlp_export, otlp_exporters

        to = otlp_exporters.of_application(names)
        if to is None:
            return False
        otlp_export.push_to(to)
    except (OtelBudgetError, ImportError) as exc:
        logger.warning("runs are not pushed by OTLP: %s", exc)
        return False
    return True


def _say_if_elsewhere() -> None:
    """Say that no run of this process is seen where its metrics go, if nothing else shows it."""
    where = visibility.other_exporters()
    if where:
        logger.warning(
            "%s, which gets the totals of the process but not single runs: the sidecar and the "
            "dashboards see no run of this process, because no page shows them yet. Call "
            "serve_metrics() or export_otlp() before the first run, or add prometheus to %s (said "
            "once)", where, visibility.ENV_EXPORTER,
        )  # fmt: skip


def _serve(inherited: Page | None) -> None:
    from otel_budget.sdk.metrics.endpoint import serve_metrics

    try:
        if inherited is not None and inherited.folder is not None:
            endpoint = serve_metrics(inherited.host, 0, inherited.folder)
        else:
            endpoint = serve_metrics()
    except (OtelBudgetError, OSError) as exc:
        if isinstance(exc, ListenError) and _is_ours(int(exc.address.rpartition(":")[2])):
            # As under opentelemetry-instrument, whose exporter serves the same registry.
            logger.info(
                "metrics at http://%s/metrics, which this process already serves: its runs are in "
                "prometheus_client's default registry", exc.address,
            )  # fmt: skip
            return
        logger.error(  # noqa: TRY400 - the address is at fault
            "%s; this process's runs are in prometheus_client's default registry, and can be "
            "scraped only if an endpoint of the application serves it", exc,
        )  # fmt: skip
    else:
        logger.info("metrics at %s", endpoint.url)


def _is_ours(port: int) -> bool:
    """Tell whether a socket of this process listens on a port. False where that cannot be known."""
    try:
        return any(_listens(entry, port) for entry in _OWN_FILES.iterdir())
    except OSError:  # not Linux, or /proc is not there
        return False


def _listens(entry: Path, port: int) -> bool:
    with suppress(OSError):  # closed meanwhile
        if str(entry.readlink()).startswith("socket:"):
            with socket.socket(fileno=os.dup(int(entry.name))) as mine:
                accepts = mine.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                return bool(accepts) and mine.getsockname()[1:2] == (port,)
    return False


in_child(_done.clear)
