"""The environment of the program that is run: who it is, where it is judged, where it pushes to."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from otel_budget.agents.launching import (
    HOOK_VARIABLE,
    RESOURCE_ATTRIBUTES,
    Request,
    endpoint_notes,
    merged_attributes,
    otlp_environment,
)
from otel_budget.launcher.screen import is_terminal
from otel_budget.launcher.sidecars import OwnSidecar
from otel_budget.net.loopback import is_loopback
from otel_budget.runtime.environment import setting, short_name
from otel_budget.sdk.run_name import ENV_PARENT
from otel_budget.sdk.sidecar_client.address import CREDENTIALS, Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.agents.recognition import Recognised
    from otel_budget.launcher.order import Order
    from otel_budget.launcher.sidecars import Sidecar

#: Each is also given by its second name: Claude Code hands no ``OTEL_…`` on to its children.
ENV_SIDECAR: Final = "OTEL_BUDGET_SIDECAR_URL"
ENV_SESSION: Final = "OTEL_BUDGET_SESSION_ID"
ENV_RUN: Final = "OTEL_BUDGET_RUN"
ENV_REGISTER: Final = "OTEL_BUDGET_REGISTER"
_DISABLED: Final = "OTEL_SDK_DISABLED"
_PROXIES: Final = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


def of_run(order: Order, sidecar: Sidecar) -> dict[str, str]:
    """Return what says which run it is, and who judges it."""
    said = {
        ENV_SIDECAR: sidecar.url,
        ENV_SESSION: order.run,
        ENV_RUN: order.run,
        # The first run of the program is the run itself; whatever else it begins is below it.
        ENV_PARENT: order.run,
        HOOK_VARIABLE: f"{sidecar.url}/v1/hooks",
    }
    if isinstance(sidecar, OwnSidecar):
        said[ENV_REGISTER] = str(sidecar.register)
    else:
        credentials = {name: setting(name) for name in CREDENTIALS}
        said |= {name: value for name, value in credentials.items() if value}
    return said | {short_name(name): value for name, value in said.items()}


def of_program(order: Order, sidecar: Sidecar) -> dict[str, str]:
    """Return what has a program that is no agent push to the receiver."""
    given = os.environ.get(RESOURCE_ATTRIBUTES, "")
    return otlp_environment(os.environ, sidecar.receiver) | {
        RESOURCE_ATTRIBUTES: merged_attributes(given, order.attributes),
        _DISABLED: "false",
    }


def of_process(order: Order, sidecar: Sidecar, more: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of the process."""
    environ = {**os.environ, **of_run(order, sidecar), **more}
    return environ | past_proxies(environ, sidecar.url, sidecar.receiver)


def past_proxies(environ: Mapping[str, str], *urls: str) -> dict[str, str]:
    """Return what has no proxy asked for what is on this machine; nothing where there is none.

    A proxy cannot know our addresses: what is pushed through one is lost, and nothing is counted.
    """
    hosts = {urlsplit(url).hostname or "" for url in urls}
    local = [host for host in sorted(hosts) if is_loopback(host)]
    if not local or not any(environ.get(name) for name in _PROXIES):
        return {}
    known = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    missing = [host for host in local if host not in known.replace(" ", "").split(",")]
    if not missing or known.strip() == "*":
        return {}
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join([*filter(None, [known]), *missing]))


def otlp_headers() -> str:
    """Return what the receiver is told besides, as the environment has it."""
    return os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", "")


def notes() -> tuple[str, ...]:
    """Return what is to be said of a program that is no agent."""
    notes = endpoint_notes(os.environ)
    if os.environ.get(_DISABLED, "").strip().lower() == "true":
        notes += (f"{_DISABLED} is false for this run: it would not be counted",)
    return notes


def request(order: Order, agent: Recognised, sidecar: Sidecar) -> Request:
    """Return what an agent's own way of being started needs."""
    url = f"{sidecar.url}/v1/hooks/{agent.name}?run={order.run}"
    # What asks for credentials is asked by our own command, which knows where they are.
    is_plain = isinstance(sidecar, OwnSidecar) or Credentials.from_environment() == Credentials()
    return Request(
        arguments=order.command[agent.at :],
        environ=os.environ,
        receiver=sidecar.receiver,
        hook_url=url if is_plain else "",
        hook_command=_hook_command(agent.name, url if is_plain else "", sidecar, order.run),
        run=order.run,
        attributes=order.attributes,
        new_session=str(uuid.uuid4()),
        hooks=order.hooks,
        trust_hooks=order.trust_hooks,
        on_terminal=is_terminal(0) and is_terminal(1),
        read_file=lambda path: Path(path).read_text(encoding="utf-8"),
    )


def _hook_command(agent: str, url: str, sidecar: Sidecar, run: str) -> str:
    """Return a command line that asks for a hook's answer; curl is the fastest there is."""
    if url and shutil.which("curl"):
        return f"curl -sf -m4 --noproxy '*' --data-binary @- {shlex.quote(url)}"
    # -P: the folder that the agent works in may hold modules of any name.
    parts = [
        sys.executable,
        "-P",
        "-m",
        "otel_budget",
        "hook",
        agent,
        "--url",
        sidecar.url,
        "--run",
        run,
    ]
    return shlex.join(parts)
