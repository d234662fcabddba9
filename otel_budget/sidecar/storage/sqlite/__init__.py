"""The storage as one SQLite file, which others may read and back up while the sidecar runs.

One transaction a tick. A file that is damaged, gone, or another's is set aside, never overwritten;
what can be read of it is written into a new one. Nothing that SQLite raises leaves this package:
callers get the errors of ``storage.base``.
"""
