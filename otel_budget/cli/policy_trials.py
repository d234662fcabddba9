"""``otel-budget replay`` with more than one policy, or with a picture: what is read, and shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from otel_budget.config.schema import SidecarConfig
    from otel_budget.replay.comparison import Policy
    from otel_budget.replay.limit_range import LimitRange
    from otel_budget.replay.trace import TraceLine

_MOST_CONFIGS: Final = 2
#: Columns of a table where nobody looks.
_WIDTH: Final = 160


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what makes a trial of a replay."""
    command.add_argument(
        "--sweep", metavar="RANGE",
        help="try a range of limits, as in max_tokens=200k..5M/12: twelve, each the one before it "
        "times the same; say what each keeps of the runs that were resolved, and what it spends",
    )  # fmt: skip
    command.add_argument(
        "--plot", metavar="FILE",
        help="draw a picture, .png or .svg: of --sweep what each limit keeps against what it "
        "spends, else each run's use over its time (extra plot)",
    )  # fmt: skip


class Trial(NamedTuple):
    """What is tried, and how it is shown."""

    names: Sequence[str]
    """Files of the configurations: one, or two to be compared."""
    configs: Sequence[SidecarConfig]
    swept: LimitRange | None
    picture: Path | None
    keep_going: bool = False
    forecast_at: Sequence[float] = ()
    as_json: bool = False

    @property
    def is_plain(self) -> bool:
        """Tell whether it is one policy as it stands."""
        return self.swept is None and len(self.configs) == 1

    @property
    def policies(self) -> list[Policy]:
        """Return what is tried."""
        from otel_budget.replay.comparison import Policy
        from otel_budget.sidecar.factory import rules_of

        return [
            Policy(name, rules_of(config))
            for name, config in zip(self.names, self.configs, strict=True)
        ]


def trial_of(arguments: argparse.Namespace) -> Trial:
    """Return what was typed, all of it checked before anything is read but the configurations.

    Raises InvalidValueError, MissingExtraError, or what is wrong with a configuration.
    """
    from otel_budget.config.load import load
    from otel_budget.replay.limit_range import limit_range
    from otel_budget.replay.plot import checked_path

    if len(arguments.config) > _MOST_CONFIGS:
        raise InvalidValueError("--config", arguments.config, "one file, or two to be compared")
    swept = None if arguments.sweep is None else limit_range(arguments.sweep)
    if swept is not None and (arguments.keep_going or arguments.forecast_at):
        flag = "--keep-going" if arguments.keep_going else "--forecast-at"
        raise InvalidValueError(flag, None, "", sentence="does not go with --sweep")
    picture = None if arguments.plot is None else checked_path(arguments.plot)
    configs = [load(path, needs_source=False) for path in arguments.config]
    return Trial(
        arguments.config, configs, swept, picture, arguments.keep_going, arguments.forecast_at,
        arguments.json,
    )  # fmt: skip


def play(trial: Trial, lines: Iterable[TraceLine]) -> None:
    """Replay the lines, and show what came of it. Raises as ``Replay.take``, and PictureError."""
    if trial.swept is not None:
        _play_sweep(trial, trial.swept, lines)
    else:
        _play_comparison(trial, lines)


def draw(picture: Path, policy: Policy, lines: Iterable[TraceLine], *, keep_going: bool) -> None:
    """Draw what runs use under a policy, and print nothing. Raises as ``play``."""
    from otel_budget.replay.engine import Replay
    from otel_budget.replay.plot import draw_use
    from otel_budget.replay.use_lines import UseLines

    replay, drawn = Replay(policy.rules, keep_going=keep_going), UseLines()
    for line in lines:
        replay.take(line)
        drawn.take(line, replay)
    draw_use(picture, [drawn.panel(policy.name, replay.finish())])


def _play_sweep(trial: Trial, swept: LimitRange, lines: Iterable[TraceLine]) -> None:
    from otel_budget.cli.render.trials import frontier_tables
    from otel_budget.cli.replay_printer import ReplayPrinter
    from otel_budget.replay.plot import draw_frontier
    from otel_budget.replay.sweep import Sweep
    from otel_budget.replay.trial_output import frontier_lines, sweep_line

    sweep = Sweep(trial.policies, swept)
    for line in lines:
        sweep.take(line)
    still_open = sweep.open_runs
    curves = sweep.finish()
    ReplayPrinter.warn_of_open(still_open)
    if sweep.limited_themselves:
        said = (
            f"{sweep.limited_themselves:,} of the runs began with a {swept.limit_key} of their "
            "own, which holds beside each that is tried"
        )
        ReplayPrinter.warn((said,))
    if trial.as_json:
        print("\n".join(frontier_lines(curves, swept)))
        print(sweep_line(curves, swept, len(still_open)))
    else:
        _show(frontier_tables(curves))
    if trial.picture is not None:
        draw_frontier(trial.picture, curves)


def _play_comparison(trial: Trial, lines: Iterable[TraceLine]) -> None:
    from otel_budget.cli.render.trials import comparison_tables
    from otel_budget.cli.replay_printer import ReplayPrinter
    from otel_budget.replay.comparison import Comparison
    from otel_budget.replay.output import found_line, summary_line
    from otel_budget.replay.plot import draw_use
    from otel_budget.replay.trial_output import comparison_line
    from otel_budget.replay.use_lines import UseLines

    comparison = Comparison(
        trial.policies, keep_going=trial.keep_going, forecast_at=trial.forecast_at
    )
    drawn = [] if trial.picture is None else [UseLines() for _ in trial.policies]
    for line in lines:
        for name, found in comparison.take(line):
            if trial.as_json:
                print(found_line(found, config=name))
        for collected, replay in zip(drawn, comparison.replays, strict=False):
            collected.take(line, replay)
    ReplayPrinter.warn_of_open(comparison.open_runs)
    summaries, pairs = comparison.finish()
    names = [policy.name for policy in trial.policies]
    if trial.as_json:
        for pair in pairs:
            print(comparison_line(pair, names))
        for name, summary in zip(names, summaries, strict=True):
            print(summary_line(summary, keep_going=trial.keep_going, config=name))
    else:
        _show(comparison_tables(names, summaries, pairs))
    if trial.picture is not None:
        panels = [d.panel(n, s) for d, n, s in zip(drawn, names, summaries, strict=True)]
        draw_use(trial.picture, panels)


def _show(tables: Iterator[Any]) -> None:
    """Print tables, with a line between."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    for number, table in enumerate(tables):
        with console.capture() as printed:
            console.print(table)
        print("\n" if number else "", end="")
        print("\n".join(line.rstrip() for line in printed.get().splitlines()))
