"""``otel-budget session``: look at runs, and give orders to them."""

from __future__ import annotations

import getpass
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from otel_budget.cli import options
from otel_budget.cli.command import EXIT_FAILED, EXIT_OK, Command, CommandGroup
from otel_budget.cli.render.verdict import in_words
from otel_budget.config.flags import METAVARS
from otel_budget.core import validation, verdict_json
from otel_budget.core.override import OverrideKind, override_from
from otel_budget.core.quantities import MONEY
from otel_budget.core.resources import RESOURCES
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.logs.text import printable
from otel_budget.policy.status import describe
from otel_budget.sdk.sidecar_client.request import Asker, AskError, session_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from otel_budget.core.resources import Resource
    from otel_budget.core.verdict import Verdict

#: Exit status of an order that made no difference.
NOTHING_CHANGES: Final = EXIT_FAILED
ENV_ADMIN_TOKEN_FILE: Final = "OTEL_BUDGET_ADMIN_TOKEN_FILE"  # noqa: S105 - the name of a variable
_PAGE: Final = 500
#: What a sidecar says of a run whose verdict is past its lease.
_EXPIRED: Final = ("session_id", "last_action", "last_reason", "evaluated_at", "valid_until")
_WORST_FIRST: Final = ("exceeded", "approaching", "inconclusive", "ok")


_EPILOG: Final = f"""examples:
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


def _add_list_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--status", choices=[str(s) for s in LimitStatus], help="only these")
    options.add_sidecar(command)


def _add_show_arguments(command: argparse.ArgumentParser) -> None:
    options.add_session(command)
    options.add_sidecar(command)


def _add_order_arguments(kind: OverrideKind, command: argparse.ArgumentParser) -> None:
    command.set_defaults(kind=kind)
    options.add_session(command)
    command.add_argument("--reason", required=True, help="one line; the run is told, too")
    command.add_argument("--by", metavar="NAME", help="who orders it (the user's name)")
    if kind is not OverrideKind.RELEASE:
        lasting = "how long it holds: seconds, or such as 30m, 1h30m, 2d"
        command.add_argument("--for", dest="lasting", metavar="TIME", help=lasting)
    if kind is OverrideKind.LIMITS:
        _add_limits(command)
    command.add_argument(
        "--token-file", metavar="FILE", default=os.environ.get(ENV_ADMIN_TOKEN_FILE) or None,
        help=f"holds the admin token (default: {ENV_ADMIN_TOKEN_FILE})",
    )  # fmt: skip
    options.add_sidecar(command)


def _add_limits(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("ceilings instead of the configured ones; none: no ceiling")
    for row in RESOURCES.values():
        group.add_argument(row.flag, metavar=f"{METAVARS[row.quantity]}|none", help=row.about)
    back = "go back to the configured ceilings"
    group.add_argument("--configured", action="store_true", help=back)


def _list(arguments: argparse.Namespace) -> int:
    """Print a line for each run, the worst first."""
    over: list[dict[str, Any]] = []
    verdicts = list(_all(Asker.of(arguments.sidecar), arguments.status, over))
    if arguments.json:
        for verdict in verdicts:
            print(verdict_json.to_json(verdict))
        for known in over:
            print(json.dumps({**known, "error": _since(known)}))
        return EXIT_OK
    verdicts.sort(key=lambda v: (_WORST_FIRST.index(v.status), v.session_id))
    header = ("SESSION", "STATE", "VERDICT", "REASON", "NEAREST TO A LIMIT")
    rows = [(str(known["session_id"]), "?", "unknown", "-", _since(known)) for known in over]
    rows += map(_row, verdicts)
    if rows:
        rows.insert(0, header)
    else:
        print("no run")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        print(printable("  ".join(cells).rstrip()))
    return EXIT_OK


def _show(arguments: argparse.Namespace) -> int:
    """Print a run's verdict and its orders."""
    session_id = validation.session_id(arguments.session)
    text = Asker.of(arguments.sidecar).get(session_path(session_id))
    try:
        known: dict[str, Any] = json.loads(text)
    except ValueError as exc:
        raise AskError(f"{arguments.sidecar} does not answer like a sidecar: {exc}") from exc
    if arguments.json:
        print(json.dumps(known))
        return EXIT_OK
    try:
        if known["verdict"] is None and "expired" in known:
            print(printable(f"{session_id}: unknown: {_since(known['expired'])}"))
        else:
            print(in_words(verdict_json.from_json(json.dumps(known["verdict"]))))
        for order in known["orders"]:
            holds = order in (known["stop"], known["limits"])
            print(f"  {'ordered' if holds else 'once   '}     {_order(order)}")
    except (InvalidValueError, ValueError, KeyError, TypeError) as exc:
        raise AskError(f"{arguments.sidecar} does not answer like a sidecar: {exc}") from exc
    return EXIT_OK


def _give_order(arguments: argparse.Namespace) -> int:
    """Give an order to a run, and print its verdict since, and what the order changed."""
    session_id = validation.session_id(arguments.session)
    kind: OverrideKind = arguments.kind
    data: dict[str, object] = {"reason": arguments.reason}
    if by := arguments.by or _user():
        data["by"] = by
    if getattr(arguments, "lasting", None) is not None:
        data["for_seconds"] = validation.duration("--for", arguments.lasting)
    if kind is OverrideKind.LIMITS:
        data |= _limits(arguments)
    override_from(kind, data, 0.0)  # the sidecar would refuse the same
    asker = Asker.of(arguments.sidecar, arguments.token_file)
    answer = asker.post(session_path(session_id, kind), data)
    try:
        verdict = verdict_json.from_json(answer)
    except InvalidValueError as exc:
        raise AskError(f"{arguments.sidecar} does not answer like a sidecar: {exc}") from exc
    told = json.loads(answer)
    changes = told.get("changes") is not False  # absent in the answer of an earlier version
    if arguments.json:
        print(json.dumps(told))
        return EXIT_OK if changes else NOTHING_CHANGES
    print(in_words(verdict))
    notes = "; ".join(map(str, told.get("notes") or ()))
    if notes:
        print(printable(f"  {'note' if changes else 'nothing changes'}: {notes}"))
    return EXIT_OK if changes else NOTHING_CHANGES


def _limits(arguments: argparse.Namespace) -> dict[str, object]:
    given = {row: row.limit_of(arguments) for row in RESOURCES.values()}
    limits = {row: value for row, value in given.items() if value is not None}
    if arguments.configured == bool(limits):
        sentence = "give the ceilings to hold for a time, or --configured to end it; not both"
        raise InvalidValueError(
            "", sorted(row.limit_key for row in limits), "one of the two", sentence=sentence
        )
    if limits and arguments.lasting is None:
        raise InvalidValueError(
            "--for", None, "a time such as 2h", sentence="is missing: how long?"
        )
    return {
        row.limit_key: None if value == "none" else _number(row, value)
        for row, value in limits.items()
    }


def _number(row: Resource, text: str) -> object:
    """Return what JSON has for a limit; the sidecar says what is wrong with it."""
    if row.quantity is MONEY:
        return text
    try:
        return float(text) if "." in text else int(text)
    except ValueError as exc:
        raise InvalidValueError(row.flag, text, "a number, or none") from exc


def _all(asker: Asker, status: str | None, over: list[dict[str, Any]]) -> Iterator[Verdict]:
    """Yield every verdict, page by page. over: takes what is known of those past their lease."""
    cursor: str | None = ""
    while cursor is not None:
        wanted = {"limit": _PAGE, "cursor": cursor or None, "status": status}
        query = urlencode({key: value for key, value in wanted.items() if value is not None})
        text = asker.get(f"/v1/verdicts?{query}")
        try:
            page = json.loads(text)
            for found in page["verdicts"]:
                yield verdict_json.from_json(json.dumps(found))
            gone = page.get("expired", ())  # absent in the answer of an earlier version
            over += [{key: str(found[key]) for key in _EXPIRED} for found in gone]
            cursor = page["next_cursor"]
        except (ValueError, KeyError, TypeError) as exc:
            raise AskError(f"{asker.url} does not answer like a sidecar: {exc}") from exc


def _since(known: Mapping[str, Any]) -> str:
    """Say of a run whose verdict is past its lease what it was, and since when it holds no more."""
    return (
        f"no verdict since {known['valid_until']}: the last, {known['last_action']} "
        f"({known['last_reason']}) of {known['evaluated_at']}, is past its lease"
    )


def _row(verdict: Verdict) -> tuple[str, str, str, str, str]:
    limited = {n: s.ratio for n, s in verdict.resources.items() if s.ratio is not None}
    nearest = max(limited, key=limited.__getitem__, default=None)
    said = "no limit" if nearest is None else describe(nearest, verdict.resources[nearest])
    return (
        verdict.session_id, verdict.run_state or "?", verdict.action, str(verdict.reason), said,
    )  # fmt: skip


def _order(known: dict[str, Any]) -> str:
    by = known["by"] or "an operator"
    until = "" if known["until"] is None else f", until {known['until']}"
    limits = "".join(
        f", {name} {'none' if limit is None else limit}" for name, limit in known["limits"].items()
    )
    said = f"{known['kind']} at {known['at']} by {by}{until}{limits}: {known['reason']}"
    return printable(said)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return ""


COMMAND: Final = CommandGroup(
    "session",
    "look at runs; stop, release or limit them",
    (
        Command("list", "list the runs, the worst first", _list, _add_list_arguments),
        Command("show", "show a run's verdict and its orders", _show, _add_show_arguments),
        *(
            Command(str(kind), text, _give_order, partial(_add_order_arguments, kind))
            for kind, text in _ORDERS.items()
        ),
    ),
    _EPILOG,
)
