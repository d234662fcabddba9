"""A policy tried on what happened: traces or a Prometheus's history, through the ledger and policy
that judge live runs.

What must not live here: another way to add up use, or another rule. Time is that of the history.
"""
