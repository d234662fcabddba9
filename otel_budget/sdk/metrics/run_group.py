"""All records of one run in this process, and which of them is shown; many that are closed as one.

Pure counts: memory stays flat however often a run comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.sdk.run_record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Records of one session id kept one by one.
MAX_SHARED = 8


class Group:
    """All records of one session id that share a life: they are added up in the exposition.

    A record that closes while another one is live stays in the sum: leaving, it would look like a
    counter reset. Past ``MAX_SHARED`` records those that are closed are kept as one.
    """

    __slots__ = ("closed_at", "records", "scraped", "shared")

    def __init__(self, record: RunRecord) -> None:
        self.records = [record]
        self.closed_at: float | None = None
        self.scraped = self.shared = False

    @property
    def live(self) -> bool:
        """True while at least one of the records is open."""
        return any(record.closed_at is None for record in self.records)

    @property
    def completed(self) -> bool:
        """True once the run is over, and completed."""
        return shown(self.records).state == semconv.COMPLETED

    def share(self, record: RunRecord) -> None:
        """Take in another record of the same id."""
        self.shared = True
        record.started_at = self.records[0].started_at  # one run, as seen from outside
        if len(self.records) >= MAX_SHARED:
            over = [known for known in self.records if known.closed_at is not None]
            if len(over) > 1:  # the first stays where it is: what it carried over is the group's
                kept = [known for known in self.records if known not in over[1:]]
                self.records = [merged(over) if known is over[0] else known for known in kept]
        self.records.append(record)


def merged(records: Sequence[RunRecord]) -> RunRecord:
    """Return one closed record with the counts of several that are closed."""
    first = records[0]
    total = RunRecord(
        first.session_id, first.limits, first.clock, labels=first.labels, carried=first.carried,
        parent=first.parent,
    )  # fmt: skip
    for record in records:
        total.take_in(record)
    total.started_at = min(record.started_at for record in records)
    total.follows_completed = first.follows_completed
    total.process_began_at = min(record.process_began_at for record in records)
    total.close(first.state)
    over = total.closed_at = max(record.closed_at or 0.0 for record in records)
    total.began_at = over - max(record.duration() for record in records)
    active = max(record.active() for record in records) - total.carried.active_seconds
    total.awake_until = total.awake_since + active
    return total


def shown(records: Sequence[RunRecord]) -> RunRecord:
    """Return the record whose state is shown: a session has not ended while one goes on."""
    for record in reversed(records):
        if record.closed_at is None:
            return record
    return records[-1]
