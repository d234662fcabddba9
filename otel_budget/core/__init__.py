"""Frozen values: limits, usage, observations, verdicts. No clock, no I/O, no decisions."""
