"""Frozen values, and how each is read, checked and written: what all other packages talk in.

Resources and their quantities, limits, usage, observations, overrides, verdicts with the table of
reasons, and the JSON and events that carry a verdict.

A value is valid once it is there: what comes from outside is checked when it is made. No clock, I/O
or log in here, and no decision: policy decides, the ledger accounts, a source measures.
"""
