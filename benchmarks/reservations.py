"""Reservations in shared budgets: by request, by slice, and of many streams at once.

A real sidecar with one budget and 128 runs, on the loopback interface; its storage syncs.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Goal, Report
from benchmarks.rounds import steps
from otel_budget import semconv
from otel_budget.core.budget import Mode, WindowSpan
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import BudgetResource, BudgetState, LimitStatus, Verdict
from otel_budget.sdk.reservations import Amounts
from otel_budget.sdk.sidecar_client.address import SidecarAddress
from otel_budget.sdk.sidecar_client.request import Asker
from otel_budget.sdk.sidecar_client.reservations import Held, Reservations
from otel_budget.sdk.sidecar_client.slices import Slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STREAMS = 128
_LIMIT = 10**12
_CALL = Amounts(1000, 1)


def run(*, quick: bool) -> Report:
    """Measure all of them against one sidecar, in turns."""
    with _sidecar() as url:
        address = SidecarAddress.parse(url)
        asker = Asker.of(url)
        ask = Reservations(address)
        both, first, plain = list[float](), list[float](), list[float]()
        for _ in steps(50 if quick else 500, "reservations"):
            began = time.perf_counter()
            held = ask.reserve("run-0", {semconv.TOKENS: 1000, semconv.API_CALLS: 1}, 60)
            first.append(time.perf_counter() - began)
            assert isinstance(held, Held), held
            ask.commit(held.id, {semconv.TOKENS: 900})
            both.append(time.perf_counter() - began)
            plain.append(_timed(lambda: asker.get("/v1/verdicts/run-0")))
        many = _many(address, 3 if quick else 20)
    taken = _slices(2000 if quick else 50_000)
    rows = [
        _row("`GET /v1/verdicts/RUN`", plain, plain),
        _row("reserve", first, plain),
        _row("reserve and commit", both, plain),
        _row(f"commit, {STREAMS} streams at once", many, plain),
        _row("take and settle of a slice", taken, plain),
    ]
    return Report(
        title="Reservations in shared budgets",
        about=(
            "From the request to its answer, which is on disk by then, over a connection that is "
            "kept; a plain GET opens its own. From a slice a call takes without a request."
        ),
        columns=("", "p50", "p90", "beside a plain GET"),
        rows=tuple(rows),
        goals=(
            Goal("reserve and commit, p50 in ms", statistics.median(both) * 1e3, 5, digits=1),
            Goal("take and settle, p50 in us", statistics.median(taken) * 1e6, 20, digits=1),
        ),
    )


def _row(name: str, seconds: list[float], plain: list[float]) -> tuple[str, str, str, str]:
    half, most = statistics.median(seconds), _p90(seconds)
    times = half / statistics.median(plain)
    if half < 1e-3:
        return name, f"{half * 1e6:.1f} us", f"{most * 1e6:.1f} us", f"{times:.4f} x"
    return name, f"{half * 1e3:.1f} ms", f"{most * 1e3:.1f} ms", f"{times:.1f} x"


def _p90(seconds: list[float]) -> float:
    return sorted(seconds)[len(seconds) * 9 // 10]


def _timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _many(address: SidecarAddress, rounds: int) -> list[float]:
    """Return the seconds of a commit while as many others reserve and commit."""
    found: list[float] = []
    begin = threading.Barrier(STREAMS)

    def stream(number: int) -> None:
        ask = Reservations(address)
        begin.wait()
        for _ in range(rounds):
            held = ask.reserve(f"run-{number}", {semconv.TOKENS: 1000}, 60)
            assert isinstance(held, Held), held
            found.append(_timed(lambda: ask.commit(held.id, {semconv.TOKENS: 900})))  # noqa: B023 - called at once
        ask.close()

    streams = [threading.Thread(target=stream, args=(number,)) for number in range(STREAMS)]
    for each in streams:
        each.start()
    for each in streams:
        each.join()
    return found


class _Grants:
    """Grants whatever is asked for."""

    def reserve(self, *_: object, **__: object) -> Held:
        return Held("h", 60.0)

    commit = extend = reserve

    def release(self, _held_id: str) -> None:
        """Take it back."""


def _slices(calls: int) -> list[float]:
    """Return the seconds that a call spends on its slice, without the work in the background."""
    slices = Slices("run-0", _Grants(), on_more=lambda: None, work=lambda _: None)
    tokens = BudgetResource(0, _LIMIT, _LIMIT, 0.0, LimitStatus.OK, _LIMIT, 0, 0, _LIMIT)
    budget = BudgetState(
        "all", {}, Mode.ENFORCE, WindowSpan(0.0), {semconv.TOKENS: tokens}, "budget:all"
    )
    verdict = Verdict(
        "run-0", Action.CONTINUE, LimitStatus.OK, Reason.WITHIN_LIMITS, "", {}, 0.0,
        budgets=(budget,),
    )  # fmt: skip
    slices.heard(verdict, seconds=1e9)
    found = []
    for _ in range(calls):
        if not slices.take(_CALL):
            slices.fetch()
            slices.take(_CALL)
        slices.settle(_CALL)
        began = time.perf_counter()
        took = slices.take(_CALL)
        slices.settle(_CALL)
        if took:
            found.append(time.perf_counter() - began)
    return found


@contextmanager
def _sidecar() -> Iterator[str]:
    """Run a sidecar over as many runs as there are streams; yield its URL."""
    text = "".join(
        f'{semconv.SESSION_TOKENS.name}{{session_id="run-{number}"}} 0\n'
        for number in range(STREAMS)
    ).encode()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder, "sidecar.yaml"), Path(folder, "log")
        target = f"http://127.0.0.1:{server.server_port}/metrics"
        config = {
            "source": {"scrape": {"targets": [target], "interval": "5s"}},
            "budgets": [{"name": "all", "window": "total", "limits": {"max_tokens": _LIMIT}}],
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": str(Path(folder, "ledger.db"))},
        }
        file.write_text(json.dumps(config))
        command = [sys.executable, "-m", "otel_budget", "sidecar", "--config", str(file)]
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield _ready(log)
        finally:
            process.terminate()
            process.wait()
            server.shutdown()


def _ready(log: Path) -> str:
    """Return the sidecar's URL once it judges all runs."""
    for _ in range(3000):
        said = log.read_text()
        if "listening on " in said:
            url = said.partition("listening on ")[2].partition(";")[0]
            try:
                Asker.of(url).get(f"/v1/verdicts/run-{STREAMS - 1}")
            except Exception:  # noqa: BLE001, S110 - not yet
                pass
            else:
                return url
        time.sleep(0.02)
    raise AssertionError(log.read_text())
