"""``otel-budget doctor``: try the whole chain, from a counter to a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.cli import options
from otel_budget.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command

if TYPE_CHECKING:
    import argparse

    from otel_budget.doctor.finding import Finding

_EPILOG: Final = f"""A trial run (doctor-…) counts tokens, is scraped and judged, and gets its
verdict as any run would, with a run's credentials (OTEL_BUDGET_SIDECAR_TOKEN_FILE and others).
Where the sidecar has a receiver, the trial run is pushed to it instead; settings of coding agents
that name a sidecar or a receiver are checked, and pages of other programs by their presets.

exit status:
  {EXIT_OK}  all links hold, perhaps with a warning
  {EXIT_FAILED}  a link is broken; the last line names it
  {EXIT_USAGE}  wrong usage

examples:
  otel-budget doctor                                 the sidecar scrapes 127.0.0.1:9464; if a run
                                                     is there already, its page is checked
  otel-budget doctor --register targets              it reads targets/*.json (file_sd)
  otel-budget doctor --metrics http://127.0.0.1:9500/metrics       the page of a run elsewhere
  otel-budget doctor --prometheus http://127.0.0.1:9090 --timeout 90"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    options.add_sidecar(command)
    shown = "show the trial run at this address (127.0.0.1:9464, as a run would)"
    command.add_argument("--serve", metavar="HOST:PORT", help=shown)
    command.add_argument("--register", metavar="DIR",
                         help="register it in this folder of file_sd entries")  # fmt: skip
    command.add_argument("--metrics", action="append", default=[], metavar="URL",
                         help="check this page of a run instead; may be repeated")  # fmt: skip
    command.add_argument("--prometheus", metavar="URL",
                         help="also check the Prometheus that the sidecar queries")  # fmt: skip
    command.add_argument("--prometheus-token-file", metavar="FILE",
                         help="file with its bearer token")  # fmt: skip
    late = "how long a counter may take to become a verdict: seconds, or for example 1m30s (30s)"
    command.add_argument("--timeout", default=30.0, metavar="TIME", help=late)


def _doctor(arguments: argparse.Namespace) -> int:
    from otel_budget.doctor.diagnosis import diagnose

    def say(finding: Finding) -> None:
        print(finding.to_json() if arguments.json else finding.in_words(), flush=True)

    broken = diagnose(arguments, say)
    if not arguments.json:
        print("\nall links hold" if broken is None else f"\nbroken link: {broken.link}")
    return EXIT_OK if broken is None else EXIT_FAILED


COMMAND: Final = Command(
    "doctor",
    "try the whole chain, from a counter to a verdict, and name the broken link",
    _doctor,
    _add_arguments,
    _EPILOG,
)
