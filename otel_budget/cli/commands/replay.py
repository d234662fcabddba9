"""``otel-budget replay``: a policy tried on what happened."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from otel_budget.cli.command import EXIT_OK, Command
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    import argparse

    from otel_budget.replay.engine import Replay

_EPILOG: Final = """Which runs would have been told to stop, when, at what use and by which
limit; what that would have saved, and, where the trace says which runs were resolved,
how many good ones it would have cut. The ledger and the policy are those of the sidecar;
nothing is listened on or stored.

examples:
  otel-budget replay --config sidecar.yaml --traces last-month.jsonl
  otel-budget replay --config sidecar.yaml --traces a.jsonl b.jsonl.gz --json
  zcat last-month.jsonl.gz | otel-budget replay --config sidecar.yaml --traces -
  otel-budget replay --config sidecar.yaml --traces last-month.jsonl --keep-going
  otel-budget replay --config sidecar.yaml --traces runs.jsonl --forecast-at 0.5,0.8 --json

exit status: 0 whatever the verdicts; 1 for a source or a range that cannot be read; 2 for wrong
usage, a configuration or a trace that is wrong, with file and line."""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    policy = "the sidecar's file whose limits are tried; it needs no source"
    command.add_argument("--config", metavar="FILE", action="append", required=True, help=policy)
    command.add_argument(
        "--traces", metavar="FILE", nargs="+",
        help="JSON lines of what runs used; several are merged by time; - is standard input, .gz "
        "is unpacked",
    )  # fmt: skip
    command.add_argument(
        "--json", action="store_true", help="print a JSON object for each verdict that changes"
    )
    command.add_argument(
        "--keep-going", action="store_true",
        help="count what a run used after it was told to stop, as its overshoot",
    )  # fmt: skip
    command.add_argument(
        "--forecast-at", metavar="SHARES", type=_shares, default=(),
        help="say what is forecast once these shares of a limit are used, as in 0.5,0.8",
    )  # fmt: skip


def _shares(text: str) -> tuple[float, ...]:
    """Return shares of a limit. Raises argparse's error."""
    import argparse

    from otel_budget.core import validation

    try:
        return tuple(dict.fromkeys(validation.ratio("", float(one)) for one in text.split(",")))
    except (ValueError, InvalidValueError) as exc:
        raise argparse.ArgumentTypeError(
            f"{text!r}: shares above 0 and at most 1, with commas between, as in 0.5,0.8"
        ) from exc


def _replay(arguments: argparse.Namespace) -> int:
    from otel_budget.config.load import load
    from otel_budget.replay.engine import Replay
    from otel_budget.sidecar.factory import rules_of

    if len(arguments.config) > 1:
        raise InvalidValueError("--config", arguments.config, "one file")
    if not arguments.traces:
        raise InvalidValueError("--traces", None, "", sentence="is missing: what is replayed")
    rules = rules_of(load(arguments.config[0], needs_source=False))
    engine = Replay(rules, keep_going=arguments.keep_going, forecast_at=arguments.forecast_at)
    _play(engine, arguments)
    return EXIT_OK


def _play(engine: Replay, arguments: argparse.Namespace) -> None:
    from otel_budget.replay.output import found_line, summary_line
    from otel_budget.replay.trace_files import read_traces
    from otel_budget.sdk.pricing.prices import prices_of

    for line in read_traces(arguments.traces, prices_of(None)):
        for found in engine.take(line):
            print(found_line(found))
    still_open = engine.open_runs
    summary = engine.finish()
    if still_open:
        print(f"otel-budget: {len(still_open)} runs have no end in the trace", file=sys.stderr)
    print(summary_line(summary, keep_going=arguments.keep_going))


COMMAND: Final = Command(
    "replay",
    "try a policy on runs that were recorded",
    _replay,
    _add_arguments,
    _EPILOG,
    "replay",
)
