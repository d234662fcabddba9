"""The rules, as pure functions: the process of a run and the sidecar call the same ones.

Bounds follow from limits, thresholds and ceilings; status from use and bounds; the decision from
status and progress (``decision_table``); verdicts from all of them, with the numbers and the words.

A default branch never continues, and unknown is not zero. No clock, I/O or log in here, and nothing
that measures: what is known of a run comes in as a ``RunSnapshot`` or as a run's own counts.
"""
