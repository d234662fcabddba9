"""What ``otel-budget session`` takes, and what its ``--help`` teaches."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from otel_budget.core.override import OverrideKind
from otel_budget.core.verdict import LimitStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from otel_budget.cli.arguments import Command

    #: Adds a command: name, what runs it, one line about it, and a longer text.
    Add = Callable[[str, Command, str, str], argparse.ArgumentParser]

ENV_ADMIN_TOKEN_FILE: Final = "OTEL_BUDGET_ADMIN_TOKEN_FILE"  # noqa: S105 - the name of a variable

EPILOG: Final = f"""examples:
  otel-budget session list --status exceeded
  otel-budget session show my-run
  otel-budget session stop my-run --reason "runs in circles"
  otel-budget session release my-run --reason "looked at it, it is fine"
  otel-budget session limits my-run --max-tokens 3000000 --for 2h --reason "worth it"
  otel-budget session limits my-run --configured --reason "done"

stop, release and limits need the admin token: --token-file, or {ENV_ADMIN_TOKEN_FILE}.
An order is for the run that is there now: a resumed run has it too, a new one under the same id
does not. A run's own limits stay its own: nobody but its code can raise them. An order that changes
nothing says so and exits 1."""
_ORDERS: Final = {
    OverrideKind.STOP: "stop a run, whatever its numbers say",
    OverrideKind.RELEASE: "take a stop back",
    OverrideKind.LIMITS: "hold a run to other ceilings for a time",
}


def add_to(add: Add, commands: Mapping[str, Command], where: Callable[..., None]) -> None:
    """Add the commands. where: adds --sidecar and --json to one."""
    listed = add("list", commands["session list"], "list the runs, the worst first", "")
    listed.add_argument("--status", choices=[str(s) for s in LimitStatus], help="only these")
    where(listed)
    shown = add("show", commands["session show"], "show a run's verdict and its orders", "")
    shown.add_argument("session", metavar="SESSION", help="session id of the run")
    where(shown)
    for kind, text in _ORDERS.items():
        ordered = add(str(kind), commands["session order"], text, "")
        ordered.set_defaults(kind=str(kind))
        ordered.add_argument("session", metavar="SESSION", help="session id of the run")
        ordered.add_argument("--reason", required=True, help="one line; the run is told, too")
        ordered.add_argument("--by", metavar="NAME", help="who orders it (the user's name)")
        if kind is not OverrideKind.RELEASE:
            lasting = "how long it holds: seconds, or such as 30m, 2h, 1d"
            ordered.add_argument("--for", dest="lasting", metavar="TIME", help=lasting)
        if kind is OverrideKind.LIMITS:
            _add_limits(ordered)
        ordered.add_argument(
            "--token-file", metavar="FILE", default=os.environ.get(ENV_ADMIN_TOKEN_FILE) or None,
            help=f"holds the admin token (default: {ENV_ADMIN_TOKEN_FILE})",
        )  # fmt: skip
        where(ordered)


def _add_limits(ordered: argparse.ArgumentParser) -> None:
    group = ordered.add_argument_group("ceilings instead of the configured ones; none: no ceiling")
    for flag, metavar, text in (
        ("--max-tokens", "N|none", "input and output together"),
        ("--max-api-calls", "N|none", "calls to models"),
        ("--max-cost-usd", "USD|none", "US dollars"),
        ("--max-duration-seconds", "SECONDS|none", "since the run began, downtime included"),
        ("--max-active-seconds", "SECONDS|none", "without pauses and downtime"),
    ):
        group.add_argument(flag, metavar=metavar, help=text)
    back = "go back to the configured ceilings"
    group.add_argument("--configured", action="store_true", help=back)
