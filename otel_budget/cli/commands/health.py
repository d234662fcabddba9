"""``otel-budget health``: is a sidecar healthy, at the address its own configuration gives?

Only ``listen`` is read of the configuration. A file that was broken after the start does not make a
sidecar unhealthy: it goes on with the configuration it has.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import ssl
import sys
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_budget.cli import options
from otel_budget.cli.command import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Command
from otel_budget.cli.commands import sidecar
from otel_budget.core import validation
from otel_budget.errors import OtelBudgetError
from otel_budget.logs.text import printable
from otel_budget.sdk.sidecar_client.address import ENV_CERTIFICATE, Credentials

if TYPE_CHECKING:
    from collections.abc import Sequence

HEALTHY: Final = "/-/healthy"
READY: Final = "/-/ready"
#: The command line of a container's first process, which its image's CMD made, or its user.
FIRST_PROCESS: Final = Path("/proc/1/cmdline")
_PROGRAM: Final = ("otel-budget", "otel_budget")  # the command, and python -m
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what is listened on
_PAUSE: Final = 0.1
_DEFAULT_ADDRESS: Final = options.DEFAULT_SIDECAR.removeprefix("http://")
_EPILOG: Final = f"""Asks at the configured `listen` address, with or without TLS, without a token.
Where client certificates are required and OTEL_BUDGET_SIDECAR_CLIENT_CERTIFICATE names none, it
only tries the TLS handshake. Without --config it takes the arguments of the container's first
process, or else 127.0.0.1:9465.

exit status:
  {EXIT_OK}  healthy, or ready with --ready
  {EXIT_FAILED}  neither, or no answer within --timeout
  {EXIT_USAGE}  wrong usage

examples:
  otel-budget health                                 as a container's health check
  otel-budget health --config sidecar.yaml --ready   has it read its source?
  otel-budget health --config sidecar.yaml --timeout 30      wait until it answers"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", metavar="FILE", help="configuration file that it runs with")
    command.add_argument(
        "--ready", action="store_true", help="also check that it has read its source"
    )
    command.add_argument("--timeout", default=2.0, metavar="TIME",
                         help="how long to wait: seconds, or for example 1m (2s)")  # fmt: skip


def _health(arguments: argparse.Namespace) -> int:
    timeout = validation.duration("--timeout", arguments.timeout)
    config, listen = arguments.config, None
    if config is None:
        with contextlib.suppress(OSError):  # no such place to look at: not on this system
            config, listen = _of_first_process()
    found, problem = places(config, listen, _DEFAULT_ADDRESS)
    if problem:
        print(printable(f"otel-budget: {problem}; asking at the default address"), file=sys.stderr)
    wait_until_well(found, READY if arguments.ready else HEALTHY, timeout)
    print("ready" if arguments.ready else "healthy")
    return EXIT_OK


def _of_first_process() -> tuple[str | None, str | None]:
    """Return what the first process was given as --config and --listen. Raises OSError."""
    words = arguments_of_sidecar(FIRST_PROCESS.read_bytes())
    if words is None:
        return None, None
    parser = argparse.ArgumentParser(prog="otel-budget sidecar")
    sidecar.add_arguments(parser)
    given = parser.parse_args(words[1:])
    return given.config, given.listen


class NotHealthyError(OtelBudgetError):
    """Say what was asked, and what was wrong with the answer."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a sidecar of this machine, or container, listens."""

    host: str
    port: int
    secure: bool = False
    asks_certificate: bool = False
    """True if a client must show a certificate."""

    @classmethod
    def at(cls, address: str, *, secure: bool = False, asks_certificate: bool = False) -> Listening:
        """Take ``host:port`` as ``listen.address`` has it. Raises ValueError."""
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        return cls(_EVERYWHERE.get(host, host), int(port), secure, asks_certificate)

    @classmethod
    def of_file(cls, path: str, default: str) -> Listening:
        """Read where a configuration has it listen. Raises OtelBudgetError."""
        from otel_budget.files.yaml_file import YamlFile

        listen = YamlFile.read(path).section("listen")
        address, tls = listen.data.get("address", default), listen.data.get("tls")
        try:
            return cls.at(
                str(address),
                secure=tls is not None,
                asks_certificate=isinstance(tls, dict) and tls.get("client_ca_file") is not None,
            )
        except ValueError as exc:
            where = listen.where("address")
            raise NotHealthyError(f"{where}: {address!r} is not host:port") from exc

    @property
    def shown(self) -> str:
        """As a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.secure else ''}://{host}:{self.port}"


def places(config: str | None, listen: str | None, default: str) -> tuple[list[Listening], str]:
    """Return where a sidecar with these arguments listens, and what is wrong with its file.

    If the file cannot be read it is the default address, with or without TLS: a broken file does
    not make a running sidecar unhealthy.
    """
    try:
        if config is not None:
            return [Listening.of_file(config, default)], ""
        return [Listening.at(listen or default)], ""
    except (OtelBudgetError, ValueError) as exc:
        return [Listening.at(default), Listening.at(default, secure=True)], str(exc)


def arguments_of_sidecar(found: bytes) -> list[str] | None:
    """Return the arguments that a container's first process was given; None if it is no sidecar.

    An init process of the container engine has them behind its own.
    """
    words = [word.decode("utf-8", "replace") for word in found.split(b"\0")]
    for place, word in enumerate(words[:-1]):
        if Path(word).name in _PROGRAM and words[place + 1] == "sidecar":
            return [word for word in words[place + 1 :] if word]
    return None


def wait_until_well(found: Sequence[Listening], path: str, timeout: float) -> None:
    """Return once one of them is healthy. Raises NotHealthyError after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while True:
        problems = []
        for where in found:
            try:
                _ask(where, path, max(end - time.monotonic(), _PAUSE))
            except (OSError, http.client.HTTPException, NotHealthyError) as exc:
                problems.append(f"{where.shown}{path}: {exc}")
            else:
                return
        if time.monotonic() + _PAUSE >= end:
            raise NotHealthyError("\n".join(problems))
        time.sleep(_PAUSE)


def _ask(where: Listening, path: str, timeout: float) -> None:
    """Ask once. Raises OSError, HTTPException or NotHealthyError."""
    files = Credentials.from_environment()
    only_handshake = where.asks_certificate and files.certificate_file is None
    if only_handshake and path != HEALTHY:
        raise NotHealthyError(f"it asks for a client certificate: name one in {ENV_CERTIFICATE}")
    with contextlib.closing(_connection(where, files, timeout)) as connection:
        try:
            connection.connect()
        except ssl.SSLError:
            if only_handshake:
                return  # it refused us for want of a certificate: the process is there and works
            raise
        if only_handshake:
            return
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(4096).decode("utf-8", "replace").strip()
    if answer.status != HTTPStatus.OK:
        raise NotHealthyError(f"{answer.status} {answer.reason}: {said[:200]}")


def _connection(where: Listening, files: Credentials, timeout: float) -> http.client.HTTPConnection:
    if not where.secure:
        return http.client.HTTPConnection(where.host, where.port, timeout=timeout)
    # The certificate need not name this machine's own address, and no credential is sent.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if files.certificate_file is not None:
        context.load_cert_chain(files.certificate_file, files.key_file)
    return http.client.HTTPSConnection(where.host, where.port, timeout=timeout, context=context)


COMMAND: Final = Command(
    "health",
    "check that the sidecar on this machine, or in this container, is healthy",
    _health,
    _add_arguments,
    _EPILOG,
)
