"""Checkpoints of a run: written whole or not at all, and read back to resume it.

``format`` is a checkpoint as text, ``store`` the files of a run and which of them are kept,
``run_checkpoints`` what one run writes and when, ``autosave`` the thread that does it regularly,
``resuming`` which checkpoint a run goes on from.

A failure to write is logged and counted, and never ends a run. No lower count follows a higher one.
"""
