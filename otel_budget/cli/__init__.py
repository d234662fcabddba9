"""The command ``otel-budget``: it parses, asks and prints.

``main`` finds the commands in ``commands``, each a file that declares a ``command.Command``;
``options`` has the arguments that several of them take; ``render`` makes text of values. To import
any of it loads nothing of the extra ``sidecar``: a command imports what it needs when it runs, so
that an agent's environment has ``check`` and ``session``. Nothing is decided here.
"""
