"""``otel-budget suggest limits``: which limits fit the runs that ended well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.cli import recorded_runs
from otel_budget.cli.command import EXIT_FAILED, EXIT_OK, Command, CommandGroup
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    import argparse

    from otel_budget.config.schema import SidecarConfig
    from otel_budget.replay.ended_runs import EndedRuns

_EPILOG: Final = """The limit that is proposed has its warning line where 95% of the runs that ended
well stay below: those that completed and, where the trace says so, were resolved. A quantile is the
smallest use that so many of the runs did not exceed. Fewer than ten such runs propose nothing.

examples:
  otel-budget suggest limits --traces last-month.jsonl
  otel-budget suggest limits --by workflow --traces a.jsonl b.jsonl.gz --yaml
  otel-budget suggest limits --prometheus http://prometheus:9090 --from -30d --json

exit status: 0 if a limit is proposed; 1 if none is, or for a source or range that cannot be read; 2
for wrong usage, a configuration or a trace that is wrong, with file and line."""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--by", choices=("workflow",), help="propose limits for each workflow by itself"
    )
    recorded_runs.add_arguments(command)
    command.add_argument(
        "--config", metavar="FILE",
        help="the sidecar's file: how to ask its Prometheus, and its warning thresholds",
    )  # fmt: skip
    form = command.add_mutually_exclusive_group()
    form.add_argument("--yaml", action="store_true", help="print a section for the sidecar's file")
    form.add_argument("--json", action="store_true", help="print one JSON object")


def _suggest(arguments: argparse.Namespace) -> int:
    import sys

    from otel_budget.cli.render.suggest import suggestion_text
    from otel_budget.replay.ended_runs import EndedRuns
    from otel_budget.replay.suggest import advise, as_json, as_yaml, proposes
    from otel_budget.sidecar.factory import rules_of

    recorded_runs.check(arguments)
    config = _config(arguments)
    by_workflow = arguments.by is not None
    ended = EndedRuns(by_workflow=by_workflow)
    read = _from_traces if arguments.traces else _from_history
    open_runs = read(arguments, config, ended)
    thresholds = {} if config is None else rules_of(config).thresholds
    advice = advise(ended.groups(), thresholds)
    if arguments.json:
        print(as_json(advice, by_workflow=by_workflow, open_runs=open_runs))
    elif arguments.yaml:
        print(as_yaml(advice, by_workflow=by_workflow))
    elif advice:
        print(suggestion_text(advice, by_workflow=by_workflow))
    if proposes(advice):
        return EXIT_OK
    print("otel-budget: no limit is proposed: no run is over" if not advice else
          "otel-budget: no limit is proposed", file=sys.stderr)  # fmt: skip
    return EXIT_FAILED


def _config(arguments: argparse.Namespace) -> SidecarConfig | None:
    from otel_budget.config.load import from_flags, load

    if arguments.config is not None:
        return load(arguments.config, needs_source=False)
    return from_flags({"--prometheus": arguments.prometheus}) if arguments.prometheus else None


def _from_traces(
    arguments: argparse.Namespace, _config: SidecarConfig | None, ended: EndedRuns
) -> int:
    """Take the runs of traces; return how many have no end, having said so."""
    from otel_budget.policy.verdicts import Rules
    from otel_budget.replay.engine import Replay

    # Without a policy, and whatever a run's own limits: it is what was used that counts.
    engine = Replay(Rules(), keep_going=True, on_end=ended.end)
    for line in recorded_runs.lines(arguments.traces, "reading"):
        engine.take(line)
    return _say_open(engine.open_runs)


def _from_history(
    arguments: argparse.Namespace, config: SidecarConfig | None, ended: EndedRuns
) -> int:
    """Take the runs of a Prometheus; return how many have no end, having said what is missing."""
    import sys
    from functools import partial

    from otel_budget.logs.text import printable
    from otel_budget.policy.verdicts import Rules
    from otel_budget.replay.from_prometheus import Asked, play
    from otel_budget.replay.history_replay import HistoryReplay

    if config is None:
        raise InvalidValueError("--prometheus", None, "a URL")
    engine = partial(
        HistoryReplay, Rules(), config.verdicts.forget_after, keep_going=True, on_runs=ended.note
    )
    asked = Asked(arguments.prometheus, arguments.begin, arguments.end or "now")
    with recorded_runs.range_bar("reading") as on_read:
        played = play(asked, config, engine, on_found=lambda _found: None, on_read=on_read)
    for remark in played.remarks:
        print(f"otel-budget: {printable(remark)}", file=sys.stderr)
    return _say_open(played.open_runs)


def _say_open(open_runs: tuple[str, ...]) -> int:
    import sys

    from otel_budget.cli.render.replay import open_runs_text

    if open_runs:
        print(f"otel-budget: {open_runs_text(open_runs)}", file=sys.stderr)
    return len(open_runs)


COMMAND: Final = CommandGroup(
    "suggest",
    "propose limits by the runs that ended well",
    (
        Command(
            "limits",
            "propose limits by the runs that ended well",
            _suggest,
            _add_arguments,
            _EPILOG,
            "suggest limits",
        ),
    ),
)
