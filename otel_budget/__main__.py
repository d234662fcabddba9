"""``python -m otel_budget``, and the command ``otel-budget``.

What an agent waits for at every step goes its own short way; the rest is ``cli.main``'s.
"""

import sys


def main() -> int:
    """Run the command that was typed, and return its exit status."""
    from otel_budget.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
