"""The commands of ``otel-budget``, a file for each, with the name that people type.

A module declares ``COMMAND``, a ``Command`` or a ``CommandGroup``; nothing else has to know of it.
All of them are imported whichever is run: what is slow to import, or belongs to the extra
``sidecar``, is imported when the command runs.
"""
