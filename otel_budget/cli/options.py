"""Arguments that several commands take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.runtime.environment import setting

if TYPE_CHECKING:
    import argparse

DEFAULT_SIDECAR: Final = "http://127.0.0.1:9465"
ENV_SIDECAR: Final = "OTEL_BUDGET_SIDECAR_URL"
#: Set by ``otel-budget run`` for what it starts.
ENV_RUN: Final = "OTEL_BUDGET_RUN"
ENV_ADMIN_TOKEN_FILE: Final = "OTEL_BUDGET_ADMIN_TOKEN_FILE"  # noqa: S105 - the name of a variable
ENV_SESSION: Final = "OTEL_BUDGET_SESSION_ID"


def sidecar_url() -> str:
    """Return where the sidecar listens, as far as the environment says."""
    return setting(ENV_SIDECAR) or DEFAULT_SIDECAR


def run_id() -> str | None:
    """Return the run that the environment says this process belongs to; None if it says none."""
    return setting(ENV_RUN) or None


def add_session(command: argparse.ArgumentParser) -> None:
    """Add the run that a command is about."""
    command.add_argument("session", metavar="SESSION", help="session id of the run")


def add_sidecar(command: argparse.ArgumentParser) -> None:
    """Add ``--sidecar`` and ``--json`` to a command that asks a sidecar."""
    command.add_argument(
        "--sidecar", metavar="URL", default=sidecar_url(),
        help=f"where the sidecar listens (default: {ENV_SIDECAR}, else {DEFAULT_SIDECAR})",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print JSON, one line for each result")
