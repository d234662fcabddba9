"""Take a run up again: which checkpoint, whether there is a run to go on with, what was missed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.errors import InvalidValueError, RunCompletedError
from otel_budget.instrumentation.checkpoint import CheckpointFolder, folder_or_none
from otel_budget.model.verdict import LimitStatus
from otel_budget.policy.evaluate import describe
from otel_budget.policy.words import amount

if TYPE_CHECKING:
    from os import PathLike

    from otel_budget.instrumentation.checkpoint import Checkpoint
    from otel_budget.instrumentation.record import SessionRecord
    from otel_budget.model.verdict import ResourceState

logger = logging.getLogger("otel_budget")

COMPLETED = "completed"


def found(
    session_id: str,
    project_root: str | PathLike[str],
    checkpoint: str | PathLike[str] | None,
    *,
    completed: bool,
) -> Checkpoint:
    """Return the checkpoint to go on from, by default the newest one of the newest run.

    completed: whether a run that completed is taken up, too. Raises CheckpointError; if there is
    nothing to go on with, NoCheckpointError.
    """
    root = folder_or_none(project_root)
    if root is None:
        raise InvalidValueError("project_root", project_root, "the folder of the checkpoints")
    folder = CheckpointFolder(root, session_id)
    if checkpoint is None:
        path, saved = folder.latest()
    else:
        path = Path(checkpoint)
        saved = folder.read(path)
    if saved.outcome == COMPLETED and not completed:
        raise RunCompletedError(str(path), saved.written_at)
    return saved


def warn_of_downtime(record: SessionRecord, saved: Checkpoint, duration: ResourceState) -> None:
    """Say it if the time between two processes leaves a run no room, or nearly none.

    duration: the run's, held against its own limit.
    """
    missed = record.duration() - saved.usage.duration_seconds
    if duration.status is LimitStatus.OK or missed <= 0:
        return
    effect = "is to stop at once" if duration.status is LimitStatus.EXCEEDED else "is near its end"
    logger.warning(
        "session %s: resumed, and %s: %s, since it counts the %s between the checkpoint and now, "
        "too; to limit the time it works, resume it with max_duration_seconds=None and "
        "max_active_seconds",
        record.session_id, effect, describe(semconv.DURATION, duration),
        amount(semconv.DURATION, missed),
    )  # fmt: skip
