"""What every command takes that acts as an operator: who, why, and the admin token."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

from otel_budget.cli.options import ENV_ADMIN_TOKEN_FILE
from otel_budget.core.quantities import MONEY
from otel_budget.errors import InvalidValueError
from otel_budget.runtime.environment import setting

if TYPE_CHECKING:
    import argparse

    from otel_budget.core.resources import Resource


def add_operator(command: argparse.ArgumentParser, why: str) -> None:
    """Add ``--reason``, ``--by`` and ``--token-file``. why: what the reason is for."""
    command.add_argument("--reason", required=True, help=why)
    command.add_argument("--by", metavar="NAME", help="who decided it (default: your user name)")
    command.add_argument(
        "--token-file", metavar="FILE", default=setting(ENV_ADMIN_TOKEN_FILE) or None,
        help=f"file with the admin token (default: {ENV_ADMIN_TOKEN_FILE})",
    )  # fmt: skip


def user_name() -> str:
    """Return who runs this; empty for one without a name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return ""


def as_number(row: Resource, text: str, also: str = "") -> object:
    """Return what JSON has for an amount; the sidecar says what is wrong with it.

    also: what else may be given, for the error. Raises InvalidValueError.
    """
    if row.quantity is MONEY:
        return text
    try:
        return float(text) if "." in text else int(text)
    except ValueError as exc:
        raise InvalidValueError(row.flag, text, f"a number{also}") from exc
