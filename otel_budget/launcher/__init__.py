"""``otel-budget run``: start a program under a budget, watch it, and end it in order.

It sets the environment and arguments of its child alone; none of the user's files is written.
"""
