"""What the sidecar keeps on disk: a killed one knows again what it knew.

Every row is whole or known to be damaged; one that is costs its own run, and no other. Nothing in
here decides anything about a run.
"""
