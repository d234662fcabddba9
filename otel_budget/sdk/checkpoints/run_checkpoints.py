"""The checkpoints of one run: when they are written, what is in them, what if that fails."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from otel_budget import semconv
from otel_budget.core.resources import COUNTED, RESOURCES
from otel_budget.errors import CheckpointError, NoCheckpointError
from otel_budget.logs.logger import logger
from otel_budget.sdk.checkpoints.autosave import autosaver
from otel_budget.sdk.checkpoints.format import Checkpoint, TakenUp
from otel_budget.sdk.checkpoints.store import CheckpointFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_budget.core.usage import ResourceUsage
    from otel_budget.sdk.checkpoints.autosave import Autosaver
    from otel_budget.sdk.run_record import RunRecord
    from otel_budget.sdk.tracing import Attributes


class RunCheckpoints:
    """Writes checkpoints; never raises out of a run."""

    def __init__(
        self,
        record: RunRecord,
        project_root: Path | None,
        event: Callable[[str, Attributes], None],
    ) -> None:
        """Name the folder; nothing is written. event: puts an event on the run's span."""
        self._record, self._event = record, event
        self._folder = (
            None if project_root is None else CheckpointFolder(project_root, record.session_id)
        )
        record.saves = self.saves = self._folder is not None
        if self._folder is not None and record.resumed:
            self._folder.take_up()
        self.state: Any = None
        """The caller's own, JSON types."""
        self.outcome: str | None = None
        """How the run ended; None while it goes on, and if that was not said."""
        # Counts are taken and written under one lock: a later checkpoint never has lower ones.
        self._writing = threading.RLock()
        self._scheduled: tuple[Autosaver, int, float] | None = None
        self._begun = False

    def begin(self) -> None:
        """Begin with the automatic checkpoints, and look whether an earlier run left some."""
        self._begun = True
        self.schedule()
        if self._folder is None or self._record.resumed or not _left_behind(self._folder):
            return
        logger.warning(
            "run %r: %s holds checkpoints of an earlier run that did not complete; this is a "
            "new run and starts at 0 (to continue the earlier one, use ResourceMonitor.resume)",
            self._record.session_id, self._folder.path,
        )  # fmt: skip

    def schedule(self) -> None:
        """Let the automatic checkpoints come at the interval of the limits from now on."""
        interval = self._record.limits.checkpoint_interval
        if self._folder is None or not self._begun or self._record.closed_at is not None:
            return
        if self._scheduled is not None:
            if self._scheduled[2] == interval:
                return  # the next one keeps its time
            self._scheduled[0].forget(self._scheduled[1])
        saver = autosaver(self._record.clock)
        self._scheduled = saver, saver.watch(self, interval), interval

    def autosave(self) -> float | None:
        """Write an automatic checkpoint; return the seconds until the next one."""
        if self._record.closed_at is not None:
            return None
        self.checkpoint()
        return self._record.limits.checkpoint_interval

    def end(self, usage: ResourceUsage) -> None:
        """Write the last checkpoint, which says how the run ended.

        One that used nothing leaves none, unless there is one that would be taken for its last.
        """
        if self._scheduled is not None:
            self._scheduled[0].forget(self._scheduled[1])
        if self._folder is None:
            return
        used = any(getattr(usage, RESOURCES[name].usage_key) for name in COUNTED)
        if used or usage.checkpoints or self.state is not None or _left_behind(self._folder):
            self.checkpoint()

    def checkpoint(self, state: Any = None) -> Path | None:
        """Write a checkpoint and return its path.

        A failure is logged, counted and put on the span, and None is returned; the earlier
        checkpoints stay whole. state: kept for the automatic ones.
        """
        if self._folder is None:
            self._failed("there is no project_root to write it to")
            return None
        try:
            with self._writing:
                if state is not None:
                    self.keep_state(state)
                checkpoint = self._now()
                path = self._folder.write(checkpoint)
                self._record.saved(checkpoint.written_at)
        except Exception as exc:  # noqa: BLE001 - a state may raise anything while it is written out
            self._failed(str(exc) or type(exc).__name__)
            return None
        self._event(semconv.EVENT_CHECKPOINT, {semconv.ATTR_CHECKPOINT_PATH: str(path)})
        logger.debug("run %r: checkpoint %s", self._record.session_id, path)
        return path

    def keep_state(self, state: Any) -> None:
        """Keep a copy of the caller's state. Raises TypeError or ValueError if it is not JSON."""
        self.state = json.loads(json.dumps(state, allow_nan=False))

    def _now(self) -> Checkpoint:
        record, now = self._record, self._record.clock.time()
        usage = record.usage()
        return Checkpoint(
            usage=replace(usage, checkpoints=usage.checkpoints + 1, last_checkpoint_at=now),
            limits=record.limits,
            labels=record.labels
            if record.parent is None
            else {**record.labels, semconv.PARENT_SESSION_ID: record.parent},
            written_at=now,
            # One from before what was used since would not be known for it when it is read.
            progress=None if record.used_since_report else record.progress,
            state=self.state,
            outcome=self.outcome,
            taken_up=TakenUp(record.process_began_at, record.carried) if record.resumed else None,
        )

    def _failed(self, problem: str) -> None:
        where = "" if self._folder is None else f" in {self._folder.path}"
        logger.error(
            "run %r: no checkpoint was written%s: %s; the run goes on, and earlier checkpoints "
            "are intact", self._record.session_id, where, problem,
        )  # fmt: skip
        self._record.not_saved()
        self._event(semconv.EVENT_CHECKPOINT_FAILED, {semconv.ATTR_CHECKPOINT_ERROR: problem})


def _left_behind(folder: CheckpointFolder) -> bool:
    """Tell whether there is an earlier run that did not complete, as far as can be seen."""
    try:
        return folder.latest()[1].outcome != "completed"
    except NoCheckpointError:
        return False
    except CheckpointError:  # damaged, but there; a folder that cannot be read is told when saving
        return folder.path.is_dir()
