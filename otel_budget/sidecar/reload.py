"""SIGHUP: read the configuration file anew, and use it only if all of it is good."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otel_budget.config.load import load
from otel_budget.errors import ConfigFileError, InvalidConfigError
from otel_budget.sidecar.settings import (
    describe_ceilings,
    describe_source,
    make_source,
    settings_of,
)

if TYPE_CHECKING:
    from os import PathLike

    from otel_budget.config.schema import SidecarConfig
    from otel_budget.sidecar.loop import Loop
    from otel_budget.sidecar.telemetry import Telemetry
    from otel_budget.sources.base import Clock, Source

logger = logging.getLogger(__name__)


class Reloader:
    """Exchanges what can be exchanged while the sidecar runs."""

    def __init__(
        self,
        path: str | PathLike[str] | None,
        config: SidecarConfig,
        source: Source,
        *,
        loop: Loop,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        """Keep what runs now. path: None when it came from flags, which cannot change."""
        self._path, self._config, self._source = path, config, source
        self._loop, self._telemetry, self._clock = loop, telemetry, clock

    def reload(self) -> None:
        """Read the file; a bad one changes nothing, and is logged with all that is wrong with it.

        What is changed under ``listen`` and ``storage`` needs a restart. All else is taken up.
        """
        if self._path is None:
            logger.warning("nothing to reload: the configuration came from flags, not from a file")
            return
        try:
            new = load(self._path)
        except (ConfigFileError, InvalidConfigError) as exc:
            self._telemetry.reloaded(ok=False)
            problems = "; ".join(str(exc).splitlines())
            logger.error("reload refused, the running configuration stays: %s", problems)  # noqa: TRY400 - the file is at fault, not the code
            return
        self._note_fixed(new)
        new = new.model_copy(
            update={"listen": self._config.listen, "storage": self._config.storage}
        )
        if new.source != self._config.source:
            self._source = make_source(new.source, self._clock)
        self._config = new
        self._loop.exchange(settings_of(new, self._source))
        self._telemetry.reloaded(ok=True)
        logger.info(
            "configuration reloaded: %s; ceilings: %s",
            describe_source(new.source), describe_ceilings(new.resource_limits),
        )  # fmt: skip

    def _note_fixed(self, new: SidecarConfig) -> None:
        """Say which changes have to wait for a restart."""
        old = self._config
        rows = [
            (f"listen.{key}", getattr(old.listen, key), getattr(new.listen, key))
            for key in type(old.listen).model_fields
        ]
        for key, running, wanted in (*rows, ("storage.path", old.storage.path, new.storage.path)):
            if wanted != running:
                logger.warning(
                    "%s: %s needs a restart; until then it stays %s", key, wanted, running
                )
