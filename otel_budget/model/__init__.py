"""Frozen values: limits, usage, readings, verdicts. No clock, no I/O, no decisions."""
