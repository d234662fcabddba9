"""``python -m otel_budget``: the same as the command ``otel-budget``."""

import sys

from otel_budget.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
