"""What is strange about a run, made a finding for people; and counters that dropped, counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.observation import is_pushed
from otel_budget.ledger.findings import Finding, FindingKind

if TYPE_CHECKING:
    from collections import Counter

    from otel_budget.core.observation import RunObservation
    from otel_budget.ledger.run import Observed, RunTotals


class Flags:
    """Flags what is strange about runs."""

    def __init__(self, findings: list[Finding], resets: Counter[str]) -> None:
        """findings: what is found is added. resets: as of the ledger, counted here."""
        self._findings, self._resets = findings, resets

    def note(self, seen: Observed, run: RunTotals) -> None:
        """Count and flag what a reading of a run brought to light."""
        if seen.resets:
            self._resets[semconv.COUNTER_RESET] += seen.resets
        if seen.replaced:
            self._resets[semconv.NEW_INCARNATION] += 1
        if seen.concurrent:
            self.report(FindingKind.CONCURRENT, run)
        if seen.goes_on:
            self.report(FindingKind.GOES_ON, run)
        if seen.second is not None:
            self.report(seen.second, run)
        for resource in sorted(seen.alternating):
            self.report(FindingKind.ALTERNATING, run, resource)

    def second_way(self, run: RunTotals, reading: RunObservation) -> None:
        """Flag a run that is pushed while a target shows it, once, in whichever order.

        A process that says itself when it began is the same one there.
        """
        if reading.attributes.incarnation_at is not None and not reading.follows:
            return
        since, places = reading.sampled_at - run.silence, list(run.processes.values())
        if any(reading.target in process.target_series for process in places):
            return
        here = is_pushed(reading.target)
        others = {t for i in places if i.last_at >= since for t in i.target_series}
        others = {target for target in others if is_pushed(target) is not here}
        if others:
            at = tuple(sorted({*others, reading.target}))
            self._findings.append(Finding(FindingKind.PUSHED_TOO, run.session_id, at))

    def restarts(self, run: RunTotals) -> None:
        """Flag a run before which others of its id did not complete, with what they used."""
        row = run.restarts
        used = ", ".join(f"{resource} {total:,}" for resource, total in sorted(row.used.items()))
        said = f"{row.number} runs within {run.first_seen_at - row.since:.0f} s ({used})"
        self.report(FindingKind.RESTARTS, run, said=said)

    def report(self, kind: FindingKind, run: RunTotals, what: str = "", said: str = "") -> None:
        """Flag a run at all targets where it was seen. what, said: as in ``Finding``."""
        targets = {t for i in run.processes.values() for t in i.target_series}
        self._findings.append(Finding(kind, run.session_id, tuple(sorted(targets)), what, said))
