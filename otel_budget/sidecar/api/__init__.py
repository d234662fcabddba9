"""The sidecar over HTTP: verdicts, their stream, nudges, overrides, metrics and health.

One module a topic, with its handlers, its models and its operations (operation.py); app.py puts the
topics behind the guard, and the OpenAPI document is made from them. A handler checks what a client
sends, asks the process (host.py), and renders the answer. Models describe and never run on the way
of a verdict, which is rendered once. What must not be here: a decision about a budget, reading a
source, storage.
"""
