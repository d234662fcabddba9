"""``otel-budget session``: look at runs; stop, release or limit them."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from otel_budget.cli import options
from otel_budget.cli.command import EXIT_FAILED, EXIT_OK, Command, CommandGroup
from otel_budget.cli.operator import add_operator, as_number, user_name
from otel_budget.cli.options import ENV_ADMIN_TOKEN_FILE
from otel_budget.cli.render.owner_list import owner_table
from otel_budget.cli.render.verdict import in_words
from otel_budget.cli.render.verdict_list import expired_in_words, override_in_words, table
from otel_budget.config.flags import METAVARS
from otel_budget.core import validation, verdict_json
from otel_budget.core.override import OverrideKind, override_from
from otel_budget.core.quantities import as_json
from otel_budget.core.resources import RESOURCES
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.logs.text import printable
from otel_budget.policy.budgets import plus
from otel_budget.sdk.sidecar_client.request import Asker, AskError, session_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from otel_budget.core.resources import Resource
    from otel_budget.core.verdict import Verdict

#: Verdicts asked for at once.
_PAGE: Final = 500
#: What a sidecar tells of a run whose verdict is past its lease.
_EXPIRED: Final = ("session_id", "last_action", "last_reason", "evaluated_at", "valid_until")

_EPILOG: Final = f"""examples:
  otel-budget session list --status exceeded
  otel-budget session list --by user
  otel-budget session show my-run
  otel-budget session stop my-run --reason "runs in circles"
  otel-budget session stop my-run --now --reason "not even a last answer"
  otel-budget session release my-run --reason "looked at it, it is fine"
  otel-budget session limits my-run --max-tokens 3000000 --for 2h --reason "worth it"
  otel-budget session limits my-run --max-tokens +50000 --for 1h --reason "nearly there"
  otel-budget session limits my-run --configured --reason "done"

A stopped run may make its last calls, to finish with what it has; with --now it may make none.
stop, release and limits need the admin token: --token-file, or {ENV_ADMIN_TOKEN_FILE}.
They override what the sidecar decides for the run as it is now: the override still holds when that
run is resumed, but not for a new run under the same id. +50000 is added to the limit in force. A
run's own limits they can raise only where it, or the sidecar's file, lets limits come from outside.
A run in state waiting asks for more: limits let it go on, a stop refuses it. An override that
changes nothing says so and exits {EXIT_FAILED}."""
_OVERRIDES: Final = {
    OverrideKind.STOP: "stop a run, whatever its usage",
    OverrideKind.RELEASE: "take back a stop",
    OverrideKind.LIMITS: "hold a run to other ceilings for a while",
}


def _add_list_arguments(command: argparse.ArgumentParser) -> None:
    status = "list only runs with this status"
    shown = command.add_mutually_exclusive_group()
    shown.add_argument("--status", choices=[str(s) for s in LimitStatus], help=status)
    by = "sum up by user, team or another label instead, and say what each one's runs used"
    shown.add_argument("--by", metavar="LABEL", help=by)
    options.add_sidecar(command)


def _add_show_arguments(command: argparse.ArgumentParser) -> None:
    options.add_session(command)
    options.add_sidecar(command)


def _add_override_arguments(kind: OverrideKind, command: argparse.ArgumentParser) -> None:
    command.set_defaults(kind=kind)
    options.add_session(command)
    add_operator(command, "why, in one line, which the run sees too")
    if kind is not OverrideKind.RELEASE:
        lasting = "how long it lasts: seconds, or for example 30m, 1h30m, 2d"
        command.add_argument("--for", dest="lasting", metavar="TIME", help=lasting)
    if kind is OverrideKind.STOP:
        now = "allow no last calls: without it the run may still finish with what it has"
        command.add_argument("--now", action="store_true", help=now)
    if kind is OverrideKind.LIMITS:
        _add_ceilings(command)
    options.add_sidecar(command)


def _add_ceilings(command: argparse.ArgumentParser) -> None:
    title = "ceilings that replace the configured ones (none: no ceiling; +N: N more than now)"
    group = command.add_argument_group(title)
    for row in RESOURCES.values():
        group.add_argument(row.flag, metavar=f"{METAVARS[row.quantity]}|+N|none", help=row.about)
    back = "go back to the configured ceilings"
    group.add_argument("--configured", action="store_true", help=back)


def _list(arguments: argparse.Namespace) -> int:
    """Print a line for each run, the worst first; or for each owner, who used most first."""
    if arguments.by is not None:
        return _list_owners(arguments)
    expired: list[dict[str, Any]] = []
    verdicts = list(_verdicts(Asker.of(arguments.sidecar), arguments.status, expired))
    if arguments.json:
        for verdict in verdicts:
            print(verdict_json.to_json(verdict))
        for run in expired:
            print(json.dumps({**run, "error": expired_in_words(run)}))
    else:
        print(table(verdicts, expired))
    return EXIT_OK


def _list_owners(arguments: argparse.Namespace) -> int:
    text = Asker.of(arguments.sidecar).get(f"/v1/usage?{urlencode({'by': arguments.by})}")
    try:
        usage: dict[str, Any] = json.loads(text)
        lines = [*map(json.dumps, usage["owners"])] if arguments.json else [owner_table(usage)]
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as exc:
        raise AskError(f"{arguments.sidecar} does not answer like a sidecar: {exc}") from exc
    for line in lines:
        print(line)
    return EXIT_OK


def _show(arguments: argparse.Namespace) -> int:
    """Print a run's verdict and its overrides."""
    session_id = validation.session_id(arguments.session)
    text = Asker.of(arguments.sidecar).get(session_path(session_id))
    try:
        run: dict[str, Any] = json.loads(text)
        if arguments.json:
            print(json.dumps(run))
            return EXIT_OK
        if run["verdict"] is None and "expired" in run:
            print(printable(f"{session_id}: unknown: {expired_in_words(run['expired'])}"))
        else:
            print(in_words(verdict_json.from_json(json.dumps(run["verdict"]))))
        for override in run["orders"]:
            holds = override in (run["stop"], run["limits"])
            state = "override" if holds else "past"
            print(printable(f"  {state:<11} {override_in_words(override)}"))
    except (InvalidValueError, ValueError, KeyError, TypeError) as exc:
        raise AskError(f"{arguments.sidecar} does not answer like a sidecar: {exc}") from exc
    return EXIT_OK


def _override(arguments: argparse.Namespace) -> int:
    """Override a run's verdict; print the verdict that follows, and what the override changed."""
    session_id = validation.session_id(arguments.session)
    kind: OverrideKind = arguments.kind
    data: dict[str, object] = {"reason": arguments.reason}
    if by := arguments.by or user_name():
        data["by"] = by
    if getattr(arguments, "lasting", None) is not None:
        data["for_seconds"] = validation.duration("--for", arguments.lasting)
    asker = Asker.of(arguments.sidecar, arguments.token_file)
    if kind is OverrideKind.LIMITS:
        data |= _ceilings(arguments, partial(_in_force, asker, session_id))
    if kind is OverrideKind.STOP and arguments.now:
        data["now"] = True
    override_from(kind, data, 0.0)  # the sidecar would refuse the same
    body = asker.post(session_path(session_id, kind), data)
    try:
        verdict = verdict_json.from_json(body)
    except InvalidValueError as exc:
        raise AskError(f"{arguments.sidecar} does not answer like a sidecar: {exc}") from exc
    answer = json.loads(body)
    changes = answer.get("changes") is not False  # absent in the answer of an earlier version
    notes = "; ".join(map(str, answer.get("notes") or ()))
    if arguments.json:
        print(json.dumps(answer))
    else:
        print(in_words(verdict))
        if notes:
            print(printable(f"  {'note' if changes else 'nothing changes'}: {notes}"))
    return EXIT_OK if changes else EXIT_FAILED


def _in_force(asker: Asker, session_id: str) -> Verdict:
    """Return the verdict on a run."""
    text = asker.get(session_path(session_id))
    try:
        found = json.loads(text)["verdict"]
        if found is None:
            raise AskError(f"there is no verdict in force on {session_id}: nothing to add to")
        return verdict_json.from_json(json.dumps(found))
    except (InvalidValueError, ValueError, KeyError, TypeError) as exc:
        raise AskError(f"{asker.url} does not answer like a sidecar: {exc}") from exc


def _ceilings(arguments: argparse.Namespace, in_force: Callable[[], Verdict]) -> dict[str, object]:
    """Return the ceilings that were given, as the sidecar's JSON has them.

    in_force: asks for the verdict, to whose limits is added what is given as ``+N``.
    """
    given = {row: row.limit_of(arguments) for row in RESOURCES.values()}
    limits = {row: value for row, value in given.items() if value is not None}
    if arguments.configured == bool(limits):
        sentence = "give either ceilings, to replace the configured ones, or --configured"
        raise InvalidValueError(
            "", sorted(row.limit_key for row in limits), "one of the two", sentence=sentence
        )
    if limits and arguments.lasting is None:
        sentence = "is missing: how long do these ceilings hold? Say for example --for 2h"
        raise InvalidValueError("--for", None, "a time such as 2h", sentence=sentence)
    return {
        row.limit_key: None if value == "none" else _ceiling(row, value, in_force)
        for row, value in limits.items()
    }


def _ceiling(row: Resource, given: str, in_force: Callable[[], Verdict]) -> object:
    """Return a ceiling: the amount that was given, or with a plus that added to the limit now."""
    if not given.startswith("+"):
        return as_number(row, given, ", +N or none")
    more = row.quantity.limit_from_json(row.flag, as_number(row, given[1:], " after the plus"))
    state = in_force().resources.get(row.name)
    if state is None or state.limit is None or more is None:
        sentence = (
            f"no limit on {row.name} is in force that this could be added to: give a whole one"
        )
        raise InvalidValueError(row.flag, given, "a number", sentence=sentence)
    return as_json(plus(state.limit, more))


def _verdicts(asker: Asker, status: str | None, expired: list[dict[str, Any]]) -> Iterator[Verdict]:
    """Yield every verdict, page by page; add to ``expired`` the runs that are past their lease."""
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
            expired += [{key: str(found[key]) for key in _EXPIRED} for found in gone]
            cursor = page["next_cursor"]
        except (ValueError, KeyError, TypeError) as exc:
            raise AskError(f"{asker.url} does not answer like a sidecar: {exc}") from exc


COMMAND: Final = CommandGroup(
    "session",
    "look at runs; stop, release or limit them",
    (
        Command("list", "list runs, the worst first", _list, _add_list_arguments),
        Command("show", "show a run's verdict and overrides", _show, _add_show_arguments),
        *(
            Command(str(kind), text, _override, partial(_add_override_arguments, kind))
            for kind, text in _OVERRIDES.items()
        ),
    ),
    _EPILOG,
)
