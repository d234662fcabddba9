"""What of another program's metrics counts, and as what.

A preset is data (``data/*.yaml``, or the user's own), checked whole before it is used. ``counting``
applies one to samples; ``detection`` finds the one that a page is of. Nothing in here does I/O but
``loader``, which reads files.
"""
