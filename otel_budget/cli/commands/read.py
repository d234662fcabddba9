"""``otel-budget read``: what the sidecar would count on a page, and what it would not.

A file is read with nothing but what every installation has; a URL needs the extra.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from otel_budget.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command

if TYPE_CHECKING:
    import argparse

_EPILOG: Final = f"""Without --preset the program is recognised by its metrics.

exit status:
  {EXIT_OK}  read, even if nothing has been used yet
  {EXIT_FAILED}  no such page, not a metrics page, no program recognised, or nothing understood of
     what looks like usage
  {EXIT_USAGE}  wrong usage

examples:
  otel-budget read http://127.0.0.1:9464/metrics
  otel-budget read scrape.prom --preset claude_code --json
  otel-budget read scrape.prom --preset my-program.yaml"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "page", metavar="FILE|URL", help="a /metrics page, or a file that holds one"
    )
    named = "how to read it: a preset's name, or a YAML file with your own preset"
    command.add_argument("--preset", metavar="NAME|FILE", help=named)
    command.add_argument("--json", action="store_true", help="print one line of JSON")


def _read(arguments: argparse.Namespace) -> int:
    from otel_budget.cli.page_report import page_of, report_on
    from otel_budget.cli.render.page import in_words

    page = page_of(arguments.page)
    if page.remark:
        print(f"otel-budget: {page.remark}", file=sys.stderr)
    report = report_on(page, arguments.preset)
    print(report.to_json() if arguments.json else in_words(report))
    return EXIT_FAILED if report.not_understood else EXIT_OK


COMMAND: Final = Command(
    "read",
    "show what would be counted on a /metrics page",
    _read,
    _add_arguments,
    _EPILOG,
    "reading a URL",
)
