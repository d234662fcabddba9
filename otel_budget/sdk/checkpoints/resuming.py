"""Resume a run: from which checkpoint, if at all, and what to say of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError, RunCompletedError
from otel_budget.logs.logger import logger
from otel_budget.policy.format import amount, describe
from otel_budget.sdk.checkpoints.store import CheckpointFolder, folder_or_none

if TYPE_CHECKING:
    from os import PathLike

    from otel_budget.core.verdict import ResourceState
    from otel_budget.sdk.checkpoints.format import Checkpoint
    from otel_budget.sdk.run_record import RunRecord

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
        path, newest = folder.latest()
        saved = folder.with_all_use(newest)
        _tell_of_others(folder, newest, saved)
    else:
        path = Path(checkpoint)
        saved = folder.read(path)
    if saved.outcome == COMPLETED and not completed:
        raise RunCompletedError(str(path), saved.written_at)
    return saved


def _tell_of_others(folder: CheckpointFolder, newest: Checkpoint, saved: Checkpoint) -> None:
    """Say it if others carried the run at the same time, or another run of the id is unfinished."""
    if saved is not newest:
        logger.warning(
            "run %r: several processes continued this run at the same time, and the usage of "
            "each counts: tokens %s, api_calls %s, cost $%s; the state is that of the newest "
            "checkpoint",
            folder.session_id, f"{saved.usage.tokens:,}", f"{saved.usage.api_calls:,}",
            saved.usage.cost_usd,
        )  # fmt: skip
    other = folder.unfinished_beside(newest)
    if other is not None:
        logger.warning(
            "run %r: another run under this id did not complete either, and is not resumed; "
            "its newest checkpoint is %s (to resume it, pass checkpoint=; give each run its own "
            "id)", folder.session_id, other,
        )  # fmt: skip


def warn_of_downtime(record: RunRecord, saved: Checkpoint, duration: ResourceState) -> None:
    """Say it if the time between two processes leaves a run no room, or nearly none.

    duration: the run's, held against its own limit.
    """
    missed = record.duration() - saved.usage.duration_seconds
    if duration.status is LimitStatus.OK or missed <= 0:
        return
    effect = "has to stop at once" if duration.status is LimitStatus.EXCEEDED else "is near its end"
    logger.warning(
        "run %r: resumed, and %s: %s, since that includes the %s between the checkpoint and "
        "now; to limit only the time it works, resume it with max_duration_seconds=None and "
        "max_active_seconds",
        record.session_id, effect, describe(semconv.DURATION, duration),
        amount(semconv.DURATION, missed),
    )  # fmt: skip
