"""What the command ``otel-budget`` takes, and what its ``--help`` teaches."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING

from otel_budget._version import __version__
from otel_budget.cli import session_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - has no public name

#: Runs one command and returns its exit status.
Command = Callable[[argparse.Namespace], int]

EXIT_CONTINUE, EXIT_FAILED, EXIT_USAGE, EXIT_STOP, EXIT_INCONCLUSIVE = 0, 1, 2, 3, 4
#: As the shell reports a process that died of the signal.
EXIT_INTERRUPTED, EXIT_BROKEN_PIPE = 130, 141

DEFAULT_SIDECAR = "http://127.0.0.1:9465"
ENV_SIDECAR = "OTEL_BUDGET_SIDECAR_URL"
#: Flags of ``sidecar`` that stand for keys of a configuration file.
CONFIG_FLAGS = (
    "targets", "file_sd", "prometheus_url", "interval", "max_tokens", "max_api_calls",
    "max_cost_usd", "max_duration_seconds", "max_active_seconds", "lease", "listen",
    "read_token_file", "admin_token_file", "allow_unauthenticated", "storage",
)  # fmt: skip
#: As people type them.
FLAG_NAMES = {name: f"--{name.replace('_', '-')}" for name in CONFIG_FLAGS} | {
    "targets": "--target",
    "prometheus_url": "--prometheus",
}

_EXAMPLES = f"""examples:
  otel-budget demo                                   see all of it at work, in under a minute
  otel-budget sidecar --target http://127.0.0.1:9464/metrics --max-tokens 2000000
  otel-budget sidecar --config sidecar.yaml
  otel-budget config check sidecar.yaml
  otel-budget check my-session                       what the sidecar says of a run
  otel-budget session stop my-session --reason "runs in circles"
  otel-budget read http://127.0.0.1:9464/metrics     what it would count of a page
  otel-budget doctor                                 which link of the chain is broken

exit status: {EXIT_CONTINUE} done, {EXIT_FAILED} failed, {EXIT_USAGE} wrong usage or configuration;
of check also {EXIT_STOP} stop, {EXIT_INCONCLUSIVE} inconclusive, unknown, or no sidecar there.
`otel-budget COMMAND --help` says more about each."""
_SIDECAR_EPILOG = """Takes a configuration file, or flags; not both.

examples:
  otel-budget sidecar --target http://127.0.0.1:9464/metrics --max-tokens 2000000
  otel-budget sidecar --file-sd 'targets/*.json' --interval 500ms --max-cost-usd 2.50
  otel-budget sidecar --prometheus http://127.0.0.1:9090 --interval 5s
  otel-budget sidecar --config sidecar.yaml

Verdicts are at http://127.0.0.1:9465/v1/verdicts and /v1/stream, the description at /openapi.json.
SIGHUP reads the file again; a bad one changes nothing. SIGTERM ends it after one last tick."""
_CHECK_EPILOG = f"""exit status:
  {EXIT_CONTINUE}  continue
  {EXIT_STOP}  stop
  {EXIT_INCONCLUSIVE}  inconclusive, whatever the action; or no such run, or no sidecar there
  {EXIT_USAGE}  wrong usage

The verdict is on the run that was seen last under this id. Once that run has ended
(`run_state` is completed, stopped or failed) its verdict is history, and the exit status with it:
it says nothing about the next run under the same id, so don't let it decide whether to start one.

examples:
  otel-budget check my-session
  otel-budget check my-session --json | jq '.run_state, .headroom.tokens'
  otel-budget check my-session --sidecar http://127.0.0.1:9465"""
_DOCTOR_EPILOG = f"""A test session (doctor-…) counts, is scraped and judged, and its verdict is
heard as a run would hear it, with a run's credentials (OTEL_BUDGET_SIDECAR_TOKEN_FILE and others).

exit status:
  {EXIT_CONTINUE}  all links hold, perhaps with a warning
  {EXIT_FAILED}  a link is broken; the last line names it
  {EXIT_USAGE}  wrong usage

examples:
  otel-budget doctor                                 the sidecar scrapes 127.0.0.1:9464; if a run
                                                     is there already, its page is looked at
  otel-budget doctor --register targets              it reads targets/*.json (file_sd)
  otel-budget doctor --metrics http://127.0.0.1:9500/metrics       the page of a run elsewhere
  otel-budget doctor --prometheus http://127.0.0.1:9090 --timeout 90"""
_HEALTH_EPILOG = f"""Asks at the address that `listen` in the configuration gives, with or without
TLS. It needs no token. Where client certificates are required and
OTEL_BUDGET_SIDECAR_CLIENT_CERTIFICATE does not name one, it only tries the TLS handshake. Without
--config it uses the arguments of the container's first process, or else 127.0.0.1:9465.

exit status:
  {EXIT_CONTINUE}  healthy, or ready with --ready
  {EXIT_FAILED}  not, or no answer within --timeout
  {EXIT_USAGE}  wrong usage

examples:
  otel-budget health                                 as a container's health check
  otel-budget health --config sidecar.yaml --ready   has it read its source?
  otel-budget health --config sidecar.yaml --timeout 30      wait until it answers"""
_READ_EPILOG = f"""Without --preset the program is recognised by the metrics it shows.

exit status:
  {EXIT_CONTINUE}  read, even if nothing was used yet
  {EXIT_FAILED}  no such page, no exposition, no program that is recognised, or nothing of what
     looks like use is understood
  {EXIT_USAGE}  wrong usage

examples:
  otel-budget read http://127.0.0.1:9464/metrics
  otel-budget read scrape.prom --preset claude_code --json
  otel-budget read scrape.prom --preset my-program.yaml"""
_DEMO_EPILOG = """One run finishes, one is stopped by its own limit, one by the sidecar.

examples:
  otel-budget demo                                   all of it, a sidecar included, in 20 seconds
  otel-budget demo --serve 127.0.0.1:9464            again and again, for your own sidecar
                                                     and dashboards; SIGTERM ends it"""
_CONFIG_CHECK_EPILOG = (
    "Exits 0 if the sidecar would take the file, else 2 with a line for each problem."
)


def parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """Return the parser of the whole command; what it parses has the chosen one as ``run``."""
    top = argparse.ArgumentParser(
        prog="otel-budget",
        description="Keep autonomous agent runs inside their budget of tokens, API calls, time and "
        "money.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"otel-budget {__version__}")
    chosen = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(chosen, commands["demo"])
    _add_sidecar(chosen, commands["sidecar"])
    _add_check(chosen, commands["check"])
    _add_health(chosen, commands["health"])
    _add_read(chosen, commands["read"])
    _add_doctor(chosen, commands["doctor"])
    _add_sessions(chosen, commands)
    _add_config(chosen, commands["config check"])
    _add(chosen, "version", commands["version"], "say which version this is")
    return top


def _add_config(chosen: _Commands, run: Command) -> None:
    config = chosen.add_parser("config", help="look at a configuration file")
    actions = config.add_subparsers(title="commands", required=True, metavar="COMMAND")
    text = "say what a file would run, or all that is wrong with it"
    check = _add(actions, "check", run, text, _CONFIG_CHECK_EPILOG)
    check.add_argument("file", metavar="FILE", help="YAML, as `otel-budget sidecar --config` takes")


def _add_demo(chosen: _Commands, run: Command) -> None:
    text = "watch three runs and a sidecar, on recorded input"
    demo = _add(chosen, "demo", run, text, _DEMO_EPILOG)
    faster = "how many times faster than recorded (12; with --serve 2)"
    demo.add_argument("--speed", type=float, metavar="FACTOR", help=faster)
    serve = "go on, round after round, with /metrics there and the sidecar elsewhere"
    demo.add_argument("--serve", metavar="HOST:PORT", help=serve)
    demo.add_argument("--sidecar", metavar="URL", help="with --serve: where the sidecar listens "
                      f"(default: {ENV_SIDECAR}, else {DEFAULT_SIDECAR})")  # fmt: skip
    demo.add_argument("--keep", metavar="DIR", help="keep checkpoints, logs and storage there")


def _add_sidecar(chosen: _Commands, run: Command) -> None:
    text = "watch runs and publish verdicts on them"
    sidecar = _add(chosen, "sidecar", run, text, _SIDECAR_EPILOG)
    whole = "all of the configuration; SIGHUP reads it again"
    sidecar.add_argument("--config", metavar="FILE", help=whole)
    level = "what to log (info); debug has the lines that the bounds of the log hold back"
    levels = ("debug", "info", "warning", "error")
    sidecar.add_argument("--log-level", choices=levels, help=level)
    source = sidecar.add_argument_group("without a file: where samples come from, one of")
    source.add_argument("--target", action="append", dest="targets", metavar="URL",
                        help="scrape this /metrics; may be given again")  # fmt: skip
    source.add_argument("--file-sd", action="append", metavar="GLOB",
                        help="scrape the targets in these Prometheus file_sd files")  # fmt: skip
    source.add_argument("--prometheus", dest="prometheus_url", metavar="URL",
                        help="ask this Prometheus, or what speaks its query API")  # fmt: skip
    source.add_argument("--interval", metavar="TIME", help="how often: seconds, or such as 500ms")
    limits = sidecar.add_argument_group("without a file: ceilings for every run")
    limits.add_argument("--max-tokens", type=int, metavar="N", help="input and output together")
    limits.add_argument("--max-api-calls", type=int, metavar="N", help="calls to models")
    limits.add_argument("--max-cost-usd", type=_decimal, metavar="USD", help="US dollars")
    limits.add_argument("--max-duration-seconds", "--max-duration", type=float, metavar="SECONDS",
                        help="since the run began, downtime included")  # fmt: skip
    limits.add_argument("--max-active-seconds", type=float, metavar="SECONDS",
                        help="without pauses and downtime")  # fmt: skip
    others = sidecar.add_argument_group("without a file: the rest")
    lease = "how long a verdict may be trusted: seconds, or such as 1m (15s)"
    others.add_argument("--lease", metavar="TIME", help=lease)
    where = "where to publish (127.0.0.1:9465); port 0 takes a free one"
    others.add_argument("--listen", metavar="HOST:PORT", help=where)
    others.add_argument("--read-token-file", metavar="FILE",
                        help="ask readers for one of the tokens in this file")  # fmt: skip
    others.add_argument("--admin-token-file", metavar="FILE",
                        help="let who has one of these tokens stop and limit runs")  # fmt: skip
    others.add_argument("--allow-unauthenticated", action="store_true", default=None,
                        help="serve other hosts without asking who they are")  # fmt: skip
    others.add_argument("--storage", metavar="FILE", help="SQLite file (./otel-budget.db)")


def _add_check(chosen: _Commands, run: Command) -> None:
    check = _add(chosen, "check", run, "ask the sidecar about one run", _CHECK_EPILOG)
    check.add_argument("session", metavar="SESSION", help="session id of the run")
    _where(check)


def _add_health(chosen: _Commands, run: Command) -> None:
    text = "check that the sidecar of this machine, or container, is healthy"
    health = _add(chosen, "health", run, text, _HEALTH_EPILOG)
    health.add_argument("--config", metavar="FILE", help="the configuration that it runs with")
    health.add_argument(
        "--ready", action="store_true", help="check that it has read its source as well"
    )
    health.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS",
                        help="how long to wait for it (2)")  # fmt: skip


def _where(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--sidecar", metavar="URL", default=os.environ.get(ENV_SIDECAR) or DEFAULT_SIDECAR,
        help=f"where it listens (default: {ENV_SIDECAR}, else {DEFAULT_SIDECAR})",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print JSON, a line for each")


def _add_doctor(chosen: _Commands, run: Command) -> None:
    text = "try the whole chain, from a counter to a verdict, and name the broken link"
    doctor = _add(chosen, "doctor", run, text, _DOCTOR_EPILOG)
    _where(doctor)
    shown = "show the test session there, as a run would (127.0.0.1:9464)"
    doctor.add_argument("--serve", metavar="HOST:PORT", help=shown)
    doctor.add_argument("--register", metavar="DIR",
                        help="register it in this folder of file_sd entries")  # fmt: skip
    doctor.add_argument("--metrics", action="append", default=[], metavar="URL",
                        help="look at the page of a run; may be given again")  # fmt: skip
    doctor.add_argument("--prometheus", metavar="URL",
                        help="look at the Prometheus that the sidecar asks")  # fmt: skip
    doctor.add_argument("--prometheus-token-file", metavar="FILE", help="its bearer token")
    doctor.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS",
                        help="what a counter may take to become a verdict (30)")  # fmt: skip


def _add_sessions(chosen: _Commands, commands: Mapping[str, Command]) -> None:
    text = "look at runs; stop, release or limit them"
    session = chosen.add_parser("session", help=text, epilog=session_arguments.EPILOG,
                                formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    actions = session.add_subparsers(title="commands", required=True, metavar="COMMAND")
    session_arguments.add_to(partial(_add, actions), commands, _where)


def _add_read(chosen: _Commands, run: Command) -> None:
    read = _add(chosen, "read", run, "show what would be counted of a /metrics page", _READ_EPILOG)
    read.add_argument("page", metavar="FILE|URL", help="a /metrics page, or a file that holds one")
    named = "how to read it: a preset of otel-budget, or a YAML file with your own"
    read.add_argument("--preset", metavar="NAME|FILE", help=named)
    read.add_argument("--json", action="store_true", help="print it as one line of JSON")


def _add(
    chosen: _Commands, name: str, run: Command, text: str, epilog: str = ""
) -> argparse.ArgumentParser:
    added = chosen.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.set_defaults(run=run)
    return added


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount such as 2.50") from exc
