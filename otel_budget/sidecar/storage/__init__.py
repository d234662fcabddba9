"""What the sidecar keeps on disk, so that one that was killed knows again what it knew.

``base`` is what every storage offers, ``sqlite`` the one there is; ``records`` and ``codec`` are
the stored texts, the same for all of them. Every text is whole, or known to be damaged; one that is
costs its own run, and no other. Nothing here decides anything about a run. Another storage is a
module here and a line in ``sidecar.factory``.
"""
