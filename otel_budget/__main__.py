"""``python -m otel_budget``, and the command ``otel-budget``.

A command that a coding agent waits for at every step skips what a process that lives for an instant
has no use for: the collection of garbage, and taking itself apart at its end.
"""

import sys

#: They start no threads, and leave nothing that must be done at the end of the process.
_MOMENTARY = ("check", "hook", "statusline")


def main() -> int:
    """Run the command that was typed, and return its exit status."""
    momentary = sys.argv[1:2] and sys.argv[1] in _MOMENTARY
    if momentary:
        import gc

        gc.disable()
    from otel_budget.cli.main import main as run

    status = run()
    if momentary:
        import os

        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
