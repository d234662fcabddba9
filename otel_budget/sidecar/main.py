"""Build the sidecar out of its parts, run it, and end it in order.

The end, on SIGTERM or SIGINT: one last tick, its verdicts to every open stream, the streams closed,
the storage closed. It takes less than five seconds whatever the source, a slow reader, the disk, or
runs without number do: a step that takes longer is left, as a crash would leave it. Nothing of it
was published, and all that was is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_budget._version import __version__
from otel_budget.config.values import DASH
from otel_budget.sidecar.api.app import build_app
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from otel_budget.sidecar.audit_file import AuditFile
from otel_budget.sidecar.audit_trail import AuditTrail
from otel_budget.sidecar.clock import steady_clock
from otel_budget.sidecar.config_summary import (
    describe_bindings,
    describe_ceilings,
    describe_listen,
    warnings,
)
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.factory import (
    details_of,
    make_pushes,
    make_source,
    open_storage,
    settings_of,
)
from otel_budget.sidecar.http_server import (
    Refusals,
    Server,
    certificates_of,
    client_limits_of,
    gate_of,
    listen,
    server_of,
)
from otel_budget.sidecar.loop import Loop
from otel_budget.sidecar.metrics import MetricsPage, SidecarMetrics
from otel_budget.sidecar.nudging import NudgeOutcome
from otel_budget.sidecar.process_absence import Watch
from otel_budget.sidecar.receiver.receiver import Receiver
from otel_budget.sidecar.reload import Reloader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from os import PathLike

    from otel_budget.config.schema import AuditConfig, SidecarConfig
    from otel_budget.core.audit import AuditPage, AuditQuery
    from otel_budget.core.budget import BudgetKey, Group, TopUp
    from otel_budget.core.observation import RunObservation
    from otel_budget.core.override import Override, Overrides
    from otel_budget.core.owner_labels import Details
    from otel_budget.core.quantities import Number
    from otel_budget.core.top_up import TopUpRequest
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.book_values import ClosedWindow
    from otel_budget.ledger.owner_use import OwnerUse
    from otel_budget.policy.override_effect import Effect
    from otel_budget.sidecar.api.host import ReceiverInfo
    from otel_budget.sidecar.budget_report import BudgetReport
    from otel_budget.sidecar.handovers import HandoverOutcome
    from otel_budget.sidecar.reservations import Order, Reserved
    from otel_budget.sidecar.storage.base import Restored, Storage
    from otel_budget.sources.base import Clock

logger = logging.getLogger(__name__)

#: What a tick makes lives until the next one: the collector would look through all of it, a
#: third of the time a tick over 10,000 runs takes, for cycles that hardly ever are there. Of what
#: outlives one look the most is gone, by its count, after another tick: the second is put off.
GC_THRESHOLDS = (50_000, 100, 20)
#: Seconds for which a thread may keep the others from running: an answer over HTTP takes some ten
#: turns, and must not wait as often for a page that is being read, or written.
SWITCH_INTERVAL = 0.001


Fill = Callable[["SidecarConfig", "Storage", "Restored"], bool]
"""Fills what is stored from history; returns whether there is more in it now."""


def run(
    config: SidecarConfig,
    config_path: str | PathLike[str] | None = None,
    fill: Fill | None = None,
) -> None:
    """Run a sidecar until it is told to end. config_path: the file to read again on SIGHUP.

    fill: fills new budgets from history first.
    Raises ListenError, or UnusableStorageError, before anything runs.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    sys.setswitchinterval(SWITCH_INTERVAL)
    listener = listen(config.listen.host, config.listen.port)
    with contextlib.closing(listener):
        storage, restored = open_storage(config.storage)
        if fill is not None and fill(config, storage, restored):
            storage.close()
            storage, restored = open_storage(config.storage)
        is_free = True
        try:
            is_free = asyncio.run(_run(config, config_path, listener, storage, restored))
        finally:
            if is_free:
                storage.close()
    gc.freeze()  # else the interpreter looks through all of it once more before it ends
    if is_free:
        logger.info("ended in order")
    else:
        logger.warning(
            "ended without the last tick, which took too long: everything published is stored, and "
            "the rest is read again at the next start"
        )


def begun_audit_files(
    config: AuditConfig, audit: AuditTrail, loop: Loop, metrics: SidecarMetrics
) -> list[AuditFile]:
    """Return what writes the audit log to a file as well, and has begun to; nothing if not asked
    for.
    """
    if config.file is None:
        return []
    path = None if config.file == DASH else config.file
    file = AuditFile(path, lambda: audit.number, loop.audit_log, metrics.note_audit_file)
    file.begin()
    return [file]


@dataclass(frozen=True, slots=True)
class _Host:
    """What the HTTP API may know of the process; see sidecar.api.host."""

    loop: Loop
    metrics: MetricsPage
    clock: Clock
    receiving: Receiver

    @property
    def ready(self) -> bool:
        return self.loop.ready

    @property
    def unjudged_for(self) -> float:
        return self.loop.unjudged_for

    @property
    def step_takes(self) -> float:
        return self.loop.step_takes

    @property
    def unmatched(self) -> int:
        return self.loop.unmatched

    @property
    def retry_after(self) -> float:
        return self.loop.settings.interval

    @property
    def budgets(self) -> Mapping[str, BudgetReport] | None:
        return self.loop.budgets

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        return await self.metrics.page(accept)

    def now(self) -> float:
        return self.clock()

    async def nudge(self, session_id: str) -> NudgeOutcome:
        return await self.loop.nudge(session_id)

    async def hook_seen(
        self, session_id: str, *, state: str | None, tokens: int | None, preset: str, peer: str
    ) -> None:
        await self.loop.hook_seen(session_id, state=state, tokens=tokens, preset=preset, peer=peer)

    @property
    def receiver(self) -> ReceiverInfo | None:
        return self.receiving.info

    @property
    def details(self) -> Details:
        return self.loop.settings.details

    async def hand_over(
        self, runs: Sequence[RunObservation], dropped: Mapping[str, int]
    ) -> list[HandoverOutcome]:
        return await self.loop.hand_over(runs, dropped)

    async def apply_override(
        self, session_id: str, override: Override, client: str
    ) -> tuple[Verdict, Effect]:
        return await self.loop.apply_override(session_id, override, client)

    async def top_up(self, asked: TopUpRequest, client: str) -> TopUp:
        return await self.loop.top_up(asked, client)

    @property
    def held(self) -> Mapping[BudgetKey, Mapping[str, Number]]:
        return self.loop.held

    async def reserve(self, order: Order) -> Reserved:
        return await self.loop.reserve(order)

    async def closed_windows(
        self, budget: str, groups: Sequence[Group], most: int
    ) -> list[ClosedWindow]:
        return await self.loop.closed_windows(budget, groups, most)

    async def use_by(self, label: str) -> list[OwnerUse]:
        return await self.loop.use_by(label)

    async def overrides_of(self, session_id: str, limit: int) -> tuple[Overrides, list[Override]]:
        return await self.loop.overrides_of(session_id, limit)

    async def audit_log(self, query: AuditQuery) -> AuditPage:
        return await self.loop.audit_log(query)


async def _run(
    config: SidecarConfig,
    config_path: str | PathLike[str] | None,
    listener: socket.socket,
    storage: Storage,
    restored: Restored,
) -> bool:
    """Run until told to end; return whether nothing uses the storage any more."""
    clock = steady_clock()
    certificates = certificates_of(config.listen)
    broadcaster = VerdictBroadcaster(config.verdicts.lease, clock)
    metrics = SidecarMetrics(__version__, clock, lambda: broadcaster.subscribers)
    refusals = Refusals(metrics, clock)
    pushes = make_pushes(config, clock)
    source = make_source(config.source, clock, pushes, details_of(config))
    audit = AuditTrail(restored, clock())
    evaluator = Evaluator(storage, restored, clock(), time.time, audit)
    watch = Watch(clock)
    loop = Loop(
        settings_of(config, source, pushes), evaluator=evaluator, broadcaster=broadcaster,
        metrics=metrics, clock=clock, absent=watch.take,
    )  # fmt: skip
    limits = client_limits_of(config.listen, refusals)
    receiver = Receiver(loop.judge_pushed, limits, metrics, loop.refused_pushes.of)
    reloader = Reloader(
        config_path, config, source, pushes,
        loop=loop, receiver=receiver, metrics=metrics, clock=clock, audit=audit,
    )  # fmt: skip
    host = _Host(loop, MetricsPage(metrics), clock, receiver)
    app = build_app(broadcaster, host, __version__, gate_of(config.listen, refusals), limits)
    server = server_of(app, limits, certificates, config.listen.trusted_proxies)
    _log_start(config, listener, restored)
    with _signals(loop, server, reloader, receiver):
        watches = [watch.beat(), *([] if certificates is None else [certificates.watch()])]
        beside = [asyncio.create_task(each) for each in watches]
        audit_files = begun_audit_files(config.audit, audit, loop, metrics)
        await loop.publish_restored()
        if config.source.otlp is not None and pushes is not None:
            receiver.open(config.source.otlp, pushes)
        await _until_told(loop, broadcaster, server, listener)
        await receiver.close()
        for task in beside:
            task.cancel()
        await asyncio.gather(*(file.finish() for file in audit_files))
    return not loop.gave_up


async def _until_told(
    loop: Loop, broadcaster: VerdictBroadcaster, server: Server, listener: socket.socket
) -> None:
    """Serve and tick; when either ends, end the other in order."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    ticking = asyncio.create_task(loop.run())
    await asyncio.wait({serving, ticking}, return_when=asyncio.FIRST_COMPLETED)
    loop.stop()
    await asyncio.wait({ticking})
    broadcaster.close()
    server.should_exit = True
    await serving
    await ticking  # raises what it ended with


@contextlib.contextmanager
def _signals(loop: Loop, server: Server, reloader: Reloader, receiver: Receiver) -> Iterator[None]:
    """End in order on SIGTERM and SIGINT, on the second without waiting for readers; reload on
    SIGHUP.
    """
    told: list[int] = []

    def end(number: int) -> None:
        if told:
            server.force_exit = True
        told.append(number)
        logger.info("%s: doing one last tick, then ending", signal.Signals(number).name)
        receiver.stop()
        loop.stop()

    events = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        events.add_signal_handler(number, end, number)
    events.add_signal_handler(signal.SIGHUP, reloader.request)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # one may have come before this
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            events.remove_signal_handler(number)


def _log_start(config: SidecarConfig, listener: socket.socket, restored: Restored) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    known = len(restored.runs)
    logger.info(
        "listening on %s://%s:%d; source: %s; ceilings: %s; access: %s; storage: %s with %d %s",
        "http" if config.listen.tls is None else "https", shown, port,
        config.source.describe(), describe_ceilings(config.resource_limits),
        describe_listen(config.listen), config.storage.path, known, "run" if known == 1 else "runs",
    )  # fmt: skip
    for binding in describe_bindings(config.source):
        logger.info("bound: %s", binding)
    for warning in warnings(config):
        logger.warning("%s", warning)
