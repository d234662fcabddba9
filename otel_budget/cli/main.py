"""The command ``otel-budget``: what it takes, what it prints, how it exits.

Nothing of the extra is imported here; each command brings its own parts, so an agent's environment
without the extra still has ``check`` and ``version``.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from otel_budget import __version__
from otel_budget.cli import sessions
from otel_budget.cli.arguments import (
    CONFIG_FLAGS,
    DEFAULT_SIDECAR,
    ENV_SIDECAR,
    EXIT_BROKEN_PIPE,
    EXIT_CONTINUE,
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_STOP,
    EXIT_USAGE,
    FLAG_NAMES,
    parser,
)
from otel_budget.cli.render.verdict import in_words
from otel_budget.core import validation, verdict_json
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import (
    ConfigFileError,
    InvalidConfigError,
    InvalidValueError,
    MissingExtraError,
    OtelBudgetError,
)
from otel_budget.logs.line_budget import LineFilter
from otel_budget.logs.text import printable
from otel_budget.sdk.sidecar_client.request import Asker, AskError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from otel_budget.cli.arguments import Command
    from otel_budget.config.schema import SidecarConfig
    from otel_budget.doctor.finding import Finding


_WRONG_USAGE = (InvalidValueError, InvalidConfigError, ConfigFileError, MissingExtraError)
_DEFAULT_ADDRESS = DEFAULT_SIDECAR.removeprefix("http://")
_EXTRA_PACKAGES = {"h11", "pydantic", "rich", "starlette", "uvicorn"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a sign shows another
    arguments = parser(_commands()).parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except OtelBudgetError as exc:
        for line in str(exc).splitlines():
            print(f"otel-budget: {printable(line)}", file=sys.stderr)
        return EXIT_USAGE if isinstance(exc, _WRONG_USAGE) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output is gone; the interpreter's own flush must not fail on it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return status


def _commands() -> dict[str, Command]:
    return {
        "demo": _demo,
        "sidecar": _sidecar,
        "check": _check,
        "health": _health,
        "read": _read,
        "doctor": _doctor,
        "session list": sessions.list_sessions,
        "session show": sessions.show_session,
        "session order": sessions.order,
        "config check": _config_check,
        "version": _version,
    }


# --- the commands ---------------------------------------------------------------------------------
def _sidecar(arguments: argparse.Namespace) -> int:
    _log_to_stderr(arguments.log_level)
    with _hangups_wait():
        with _extra("the sidecar"):
            from otel_budget.sidecar.main import run
            from otel_budget.sources.resolver import bound_lookups

            config = _config(arguments)
        bound_lookups()
        run(config, arguments.config)
    return EXIT_CONTINUE


@contextlib.contextmanager
def _hangups_wait() -> Iterator[None]:
    """Hold SIGHUP back until the sidecar hears it: before that it would end the process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _config(arguments: argparse.Namespace) -> SidecarConfig:
    from otel_budget.config.load import from_flags, load

    flags = {
        name: getattr(arguments, name)
        for name in CONFIG_FLAGS
        if getattr(arguments, name) is not None
    }
    if arguments.config is None:
        return from_flags(**flags)
    if flags:
        given = ", ".join(FLAG_NAMES[name] for name in flags)
        sentence = f"--config takes no other flags beside it; put into the file what {given} says"
        raise InvalidValueError("", arguments.config, "--config alone", sentence=sentence)
    return load(arguments.config)


def _config_check(arguments: argparse.Namespace) -> int:
    with _extra("the sidecar's configuration"):
        from otel_budget.config.load import load
        from otel_budget.sidecar.factory import summary, warnings
    config = load(arguments.file, check_storage=True)
    print(f"OK: {arguments.file}")
    for line in summary(config):
        print(f"  {line}")
    for line in warnings(config):
        print(f"  warning:  {line}")
    return EXIT_CONTINUE


def _demo(arguments: argparse.Namespace) -> int:
    with _extra("the demo"):
        from otel_budget.demo import run_demo
        from otel_budget.demo.service import serve_demo
    given = {} if arguments.speed is None else {"speed": arguments.speed}
    if arguments.serve is not None:
        sidecar = arguments.sidecar or os.environ.get(ENV_SIDECAR) or DEFAULT_SIDECAR
        return serve_demo(arguments.serve, sidecar, keep=arguments.keep, **given)
    if arguments.sidecar is not None:
        allowed = "--serve with it: without, the demo starts a sidecar of its own"
        raise InvalidValueError("--sidecar", arguments.sidecar, allowed)
    return run_demo(keep=arguments.keep, **given)


def _read(arguments: argparse.Namespace) -> int:
    from otel_budget.cli.page_report import page_of, report_on
    from otel_budget.cli.render.page import in_words

    with _extra("reading a URL"):
        page = page_of(arguments.page)
    if page.remark:
        print(f"otel-budget: {page.remark}", file=sys.stderr)
    report = report_on(page, arguments.preset)
    print(report.to_json() if arguments.json else in_words(report))
    return EXIT_FAILED if report.not_understood else EXIT_CONTINUE


def _doctor(arguments: argparse.Namespace) -> int:
    from otel_budget.doctor import diagnose

    def say(finding: Finding) -> None:
        print(finding.to_json() if arguments.json else finding.in_words(), flush=True)

    broken = diagnose(arguments, say)
    if not arguments.json:
        print("\nall links hold" if broken is None else f"\nbroken link: {broken.link}")
    return EXIT_CONTINUE if broken is None else EXIT_FAILED


def _version(_arguments: argparse.Namespace) -> int:
    print(f"otel-budget {__version__}")
    return EXIT_CONTINUE


def _check(arguments: argparse.Namespace) -> int:
    session_id = validation.session_id(arguments.session)
    path = f"/v1/verdicts/{quote(session_id, safe='')}"
    try:
        text = Asker.of(arguments.sidecar).get(path)
    except AskError as exc:
        if arguments.json:
            print(json.dumps({"session_id": session_id, "error": exc.problem}))
        else:
            print(printable(f"{session_id}: unknown: {exc.problem}"))
        return EXIT_INCONCLUSIVE
    try:
        verdict = verdict_json.from_json(text)
    except InvalidValueError as exc:
        said = f"otel-budget: {arguments.sidecar} does not answer like a sidecar: {exc}"
        print(printable(said), file=sys.stderr)
        return EXIT_INCONCLUSIVE
    print(verdict_json.to_json(verdict) if arguments.json else in_words(verdict))
    if verdict.status is LimitStatus.INCONCLUSIVE:
        return EXIT_INCONCLUSIVE
    return EXIT_CONTINUE if verdict.should_continue else EXIT_STOP


def _health(arguments: argparse.Namespace) -> int:
    from otel_budget.cli import health

    config, listen = arguments.config, None
    if config is None:
        with contextlib.suppress(OSError):  # no such place to look at: not on this system
            told = health.told_first_process(health.FIRST_PROCESS.read_bytes())
            if told is not None:
                sidecar = parser(_commands()).parse_args(told)
                config, listen = sidecar.config, sidecar.listen
    found, problem = health.places(config, listen, _DEFAULT_ADDRESS)
    if problem:
        print(printable(f"otel-budget: {problem}; asking at the default address"), file=sys.stderr)
    health.wait_until_well(
        found, health.READY if arguments.ready else health.HEALTHY, arguments.timeout
    )
    print("ready" if arguments.ready else "healthy")
    return EXIT_CONTINUE


# --- around them ----------------------------------------------------------------------------------
@contextlib.contextmanager
def _extra(what: str) -> Iterator[None]:
    """Turn the absence of a package of the extra into words that help."""
    try:
        yield
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package not in _EXTRA_PACKAGES:
            raise
        raise MissingExtraError(what, "sidecar", package) from exc


def _log_to_stderr(level: str | None) -> None:
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    handler.addFilter(LineFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if level is not None:
        logging.getLogger("otel_budget").setLevel(level.upper())
