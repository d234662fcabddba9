"""Accounting: raw counters in, what each run used out. Pure; never judges."""
