"""``otel-budget replay``: a policy tried on what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.cli import policy_trials, recorded_runs
from otel_budget.cli.command import EXIT_OK, Command
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

    from otel_budget.config.schema import SidecarConfig
    from otel_budget.replay.changes import Found
    from otel_budget.replay.trace import TraceLine

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
  otel-budget replay --config sidecar.yaml --prometheus http://prometheus:9090 --from -7d --to now
  otel-budget replay --config now.yaml --config new.yaml --traces last-month.jsonl
  otel-budget replay --config sidecar.yaml --traces runs.jsonl \\
      --sweep max_tokens=200k..5M/12 --plot frontier.svg

exit status: 0 whatever the verdicts; 1 for a source or a range that cannot be read; 2 for wrong
usage, a configuration or a trace that is wrong, with file and line."""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    policy = "the sidecar's file whose limits are tried; it needs no source; twice: compare two"
    command.add_argument("--config", metavar="FILE", action="append", required=True, help=policy)
    recorded_runs.add_arguments(command)
    command.add_argument(
        "--write-trace", metavar="FILE",
        help="write the runs of --prometheus as a trace, too, which can be replayed without it",
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
    policy_trials.add_arguments(command)


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
    recorded_runs.check(arguments, write_trace=arguments.write_trace)
    trial = policy_trials.trial_of(arguments)
    if arguments.prometheus:
        _replay_history(trial, arguments)
    elif trial.is_plain:
        _play(trial, _lines(arguments.traces))
    else:
        policy_trials.play(trial, _lines(arguments.traces))
    return EXIT_OK


def _replay_history(trial: policy_trials.Trial, arguments: argparse.Namespace) -> None:
    """Replay what a Prometheus has: as such, or for more than that as the trace it makes."""
    import tempfile
    from pathlib import Path

    config, trace = trial.configs[0], arguments.write_trace
    if trial.is_plain and trial.picture is None:
        _play_history(config, arguments, trace)
        return
    with tempfile.TemporaryDirectory(prefix="otel-budget-") as folder:
        trace = trace or str(Path(folder) / "history.jsonl")
        _play_history(config, arguments, trace, shown=trial.is_plain)
        if not trial.is_plain:
            policy_trials.play(trial, _lines([trace]))
        elif trial.picture is not None:
            (policy,), lines = trial.policies, _lines([trace])
            policy_trials.draw(trial.picture, policy, lines, keep_going=trial.keep_going)


def _lines(traces: Sequence[str]) -> Iterator[TraceLine]:
    return recorded_runs.lines(traces, "replaying")


def _play_history(
    config: SidecarConfig, arguments: argparse.Namespace, trace: str | None, *, shown: bool = True
) -> None:
    """Replay a history. trace: file to write it to. shown: False prints what is missing alone."""
    from functools import partial

    from otel_budget.cli.replay_printer import ReplayPrinter
    from otel_budget.replay.from_prometheus import Asked, as_json, play
    from otel_budget.replay.history_replay import HistoryReplay
    from otel_budget.sidecar.factory import rules_of

    engine = partial(
        HistoryReplay, rules_of(config), config.verdicts.forget_after,
        keep_going=arguments.keep_going, forecast_at=arguments.forecast_at,
    )  # fmt: skip
    asked = Asked(arguments.prometheus, arguments.begin, arguments.end or "now", trace)
    printer = ReplayPrinter(as_json=arguments.json, keep_going=arguments.keep_going)
    with recorded_runs.range_bar("replaying") as on_read:

        def on_found(found: Found) -> None:
            if shown:
                printer.found([found])

        played = play(asked, config, engine, on_found=on_found, on_read=on_read)
    if not shown:
        printer.warn(played.remarks)
        return
    history = as_json(played.coverage)
    printer.end(played.summary, played.open_runs, remarks=played.remarks, history=history)


def _play(trial: policy_trials.Trial, lines: Iterable[TraceLine]) -> None:
    from otel_budget.cli.replay_printer import ReplayPrinter
    from otel_budget.replay.engine import Replay
    from otel_budget.replay.plot import draw_use
    from otel_budget.replay.use_lines import UseLines

    (policy,) = trial.policies
    engine = Replay(policy.rules, keep_going=trial.keep_going, forecast_at=trial.forecast_at)
    printer = ReplayPrinter(as_json=trial.as_json, keep_going=trial.keep_going)
    drawn = None if trial.picture is None else UseLines()
    for line in lines:
        printer.found(engine.take(line))
        if drawn is not None:
            drawn.take(line, engine)
    still_open = engine.open_runs
    summary = engine.finish()
    printer.end(summary, still_open)
    if trial.picture is not None and drawn is not None:
        draw_use(trial.picture, [drawn.panel(policy.name, summary)])


COMMAND: Final = Command(
    "replay",
    "try a policy on runs that were recorded",
    _replay,
    _add_arguments,
    _EPILOG,
    "replay",
)
