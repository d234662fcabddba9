"""The sidecar over HTTP: verdicts, overrides, nudges, metrics and health; one module a topic.

A route checks who asks and what they send, asks the evaluator, and renders the answer. It decides
nothing about budgets.
"""
