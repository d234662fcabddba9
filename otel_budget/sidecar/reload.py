"""SIGHUP: read the configuration file again, and use it only if all of it is good."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from otel_budget.config.load import load
from otel_budget.errors import ConfigFileError, InvalidConfigError
from otel_budget.runtime.workers import Workers
from otel_budget.sidecar.config_summary import describe_bindings, describe_ceilings
from otel_budget.sidecar.factory import (
    are_read_alike,
    details_of,
    make_pushes,
    make_source,
    settings_of,
)

if TYPE_CHECKING:
    from os import PathLike

    from otel_budget.config.schema import SidecarConfig
    from otel_budget.sidecar.audit_trail import AuditTrail
    from otel_budget.sidecar.loop import Loop
    from otel_budget.sidecar.metrics import SidecarMetrics
    from otel_budget.sidecar.receiver.receiver import Receiver
    from otel_budget.sources.base import Clock, Source
    from otel_budget.sources.otlp.source import OtlpSource

logger = logging.getLogger(__name__)


class Reloader:
    """Exchanges what can be exchanged while the sidecar runs."""

    def __init__(
        self,
        path: str | PathLike[str] | None,
        config: SidecarConfig,
        source: Source,
        pushes: OtlpSource | None,
        *,
        loop: Loop,
        receiver: Receiver,
        metrics: SidecarMetrics,
        clock: Clock,
        audit: AuditTrail,
    ) -> None:
        """Keep what runs now. path: None when it came from flags, which cannot change."""
        self._path, self._config, self._source = path, config, source
        self._pushes, self._receiver = pushes, receiver
        self._loop, self._metrics, self._clock = loop, metrics, clock
        self._audit = audit
        self._threads = Workers("configuration")
        self._task: asyncio.Task[None] | None = None
        self._requested = False

    def request(self) -> None:
        """Reload beside the event loop: to read a list of many targets takes seconds.

        Of requests that come meanwhile one is done after it.
        """
        self._requested = True
        if self._task is None:
            self._task = asyncio.create_task(self._reload_all())

    async def _reload_all(self) -> None:
        try:
            while self._requested:
                self._requested = False
                self._take(await self._threads.run(self._load))
        except Exception:
            logger.exception("reload failed; the running configuration stays in force")
            self._metrics.note_reload(ok=False)
        finally:
            self._task = None

    def reload(self) -> None:
        """Read the file; a bad one changes nothing, and is logged with all that is wrong with it.

        What is changed under ``listen``, ``storage`` and ``audit`` needs a restart. All else is
        taken up.
        """
        self._take(self._load())

    def _load(self) -> SidecarConfig | ConfigFileError | InvalidConfigError | None:
        """Return what the file says, or what is wrong with it; None if there is no file."""
        try:
            return None if self._path is None else load(self._path)
        except (ConfigFileError, InvalidConfigError) as exc:
            return exc

    def _take(self, new: SidecarConfig | ConfigFileError | InvalidConfigError | None) -> None:
        if new is None:
            logger.warning("nothing to reload: the configuration came from flags, not from a file")
            return
        if isinstance(new, Exception):
            self._metrics.note_reload(ok=False)
            problems = "; ".join(str(new).splitlines())
            self._audit.note_refused(problems, self._clock())
            logger.error("reload refused; the running configuration stays in force: %s", problems)
            return
        self._note_fixed(new)
        self._note_unfilled(new)
        new = new.model_copy(
            update={
                "listen": self._config.listen,
                "storage": self._config.storage,
                "audit": self._config.audit,
            }
        )
        self._take_source(new)
        self._config = new
        self._loop.change_settings(settings_of(new, self._source, self._pushes))
        self._metrics.note_reload(ok=True)
        logger.info(
            "configuration reloaded: %s; ceilings: %s",
            new.source.describe(), describe_ceilings(new.resource_limits),
        )  # fmt: skip
        for binding in describe_bindings(new.source):
            logger.info("bound: %s", binding)

    def _note_unfilled(self, new: SidecarConfig) -> None:
        """Say which new budgets count from now on although they ask for their history."""
        before = {budget.name for budget in self._config.budgets}
        late = [b.name for b in new.budgets if b.backfill and b.name not in before]
        if late:
            logger.warning(
                "budgets %s count from now on: backfill fills a budget that is new when the "
                "sidecar is started. Restart it to have one filled under another name",
                ", ".join(late),
            )

    def _take_source(self, new: SidecarConfig) -> None:
        """Exchange what changed of the sources; what was pushed stays if it is read alike."""
        old, pushes, details = self._config, self._pushes, details_of(new)
        if not are_read_alike(new, old):
            pushes = make_pushes(new, self._clock)
        if new.source != old.source or details != details_of(old) or pushes is not self._pushes:
            polled_anew = new.source.polled != old.source.polled or details != details_of(old)
            if polled_anew or pushes is not self._pushes:
                self._source = make_source(new.source, self._clock, pushes, details)
            self._pushes = pushes
            self._receiver.change(new.source.otlp, pushes)

    def _note_fixed(self, new: SidecarConfig) -> None:
        """Say which changes have to wait for a restart."""
        old = self._config
        rows = [
            (f"listen.{key}", getattr(old.listen, key), getattr(new.listen, key))
            for key in type(old.listen).model_fields
        ]
        rows.append(("storage.path", old.storage.path, new.storage.path))
        rows.append(("audit.file", old.audit.file, new.audit.file))
        for key, running, wanted in rows:
            if wanted != running:
                logger.warning(
                    "%s: %s takes effect after a restart; until then it stays %s",
                    key,
                    wanted,
                    running,
                )
