"""Pure accounting: from what sources read to what each run has used.

``Ledger`` takes in observations and keeps ``RunTotals``; policy reads a ``RunSnapshot``. Below it:
a run's processes, what each target showed of a process, its counters (every reset rule is in
counter.py), attributes, freshness; and which runs, targets and samples are let in.

Readings only raise what is known to be used; what is missing loosens nothing; what was never seen
is unknown, not 0. No clock, I/O or log in here, and no verdict: a moment is an argument, a finding
a value.
"""
