"""``python -m otel_budget``, and the command ``otel-budget``.

A command that a coding agent waits for at every step skips what a process that lives for an instant
has no use for: the collection of garbage, and taking itself apart at its end.
"""

import sys

#: They start no threads, and leave nothing that must be done at the end of the process.
_MOMENTARY = ("check", "hook", "statusline")


def main() -> int:
    """Run the command that was typed, and return its exit status."""
    _open_closed_streams()
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


def _open_closed_streams() -> None:
    """Open the null device for a standard stream that was closed (``>&-``).

    Else the next file or connection gets its number, and is what words are written to. A child
    finds it closed, as it would without us.
    """
    streams = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
    if all(getattr(sys, name) for name, _ in streams):
        return
    import os

    for number, (name, mode) in enumerate(streams):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number, inheritable=False)
                os.close(opened)
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays
            setattr(sys, name, stream)


if __name__ == "__main__":
    sys.exit(main())
