"""Several closed records of one run, kept as one: memory stays flat however often it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.sdk.run_record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Sequence


def merged(records: Sequence[RunRecord]) -> RunRecord:
    """Return one closed record with the counts of several that are closed."""
    first = records[0]
    total = RunRecord(
        first.session_id, first.limits, first.clock, labels=first.labels, carried=first.carried
    )
    for record in records:
        total.take_in(record)
    total.started_at = min(record.started_at for record in records)
    total.follows_completed = first.follows_completed
    total.incarnation_at = min(record.incarnation_at for record in records)
    total.close(first.state)
    over = total.closed_at = max(record.closed_at or 0.0 for record in records)
    total.began_at = over - max(record.duration() for record in records)
    active = max(record.active() for record in records) - total.carried.active_seconds
    total.awake_until = total.awake_since + active
    return total
