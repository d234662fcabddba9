"""``otel-budget budget``: look at the budgets that runs share, and add to one for a time."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlencode

from otel_budget.cli import options
from otel_budget.cli.command import EXIT_OK, Command, CommandGroup
from otel_budget.cli.operator import add_operator, as_number, user_name
from otel_budget.config.flags import METAVARS
from otel_budget.core.budget import WindowKind
from otel_budget.core.resources import COUNTED, RESOURCES
from otel_budget.core.top_up import RESET, key_from, until_from
from otel_budget.errors import InvalidValueError
from otel_budget.logs.text import printable
from otel_budget.sdk.sidecar_client.request import Asker, AskError

T = TypeVar("T")

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

#: Groups asked for at once.
_PAGE: Final = 500
#: Groups of a budget that are shown where nothing else is asked for.
_LISTED, _SHOWN = 5, 50
#: Seconds before each further try to raise: a sidecar that is started again is back by then.
PAUSES: Final = (0.5, 1.0, 2.0, 4.0)
#: What a sidecar answers that could not do it just now.
_TRY_AGAIN: Final = (None, 502, 503, 504)

_EPILOG: Final = f"""examples:
  otel-budget budget list
  otel-budget budget show research-month --group user=ann
  otel-budget budget raise research-month --group user=ann --max-tokens 5000000 --reason "release"
  otel-budget budget raise gpu-day --max-cost-usd 20 --until 2h --reason "a demo"
  otel-budget budget history research-month --group user=ann

A group is named as in limit_from: LABEL=VALUE, with commas between several; VALUE is empty or
(none) for runs without that label. raise needs the admin token: --token-file, or
{options.ENV_ADMIN_TOKEN_FILE}. It adds to what is configured until the window ends, or --until;
runs that only the budget had stopped go on at once. A try that fails is repeated under the same
key, and with --key you can repeat it too: one key adds once."""


def _add_name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", help="the budget, as its `name` in the file")


def _add_group(command: argparse.ArgumentParser) -> None:
    command.add_argument("--group", metavar="LABEL=VALUE", help="one group, as user=ann; or other")


def _add_show_arguments(command: argparse.ArgumentParser) -> None:
    _add_name(command)
    _add_group(command)
    options.add_sidecar(command)


def _add_history_arguments(command: argparse.ArgumentParser) -> None:
    _add_name(command)
    _add_group(command)
    command.add_argument(
        "--last", metavar="N", type=int, default=30, help="how many windows (default: %(default)s)"
    )
    options.add_sidecar(command)


def _add_raise_arguments(command: argparse.ArgumentParser) -> None:
    _add_name(command)
    _add_group(command)
    amounts = command.add_argument_group("how much is added to the limit")
    for row in (RESOURCES[name] for name in COUNTED):
        amounts.add_argument(row.flag, metavar=METAVARS[row.quantity], help=row.about)
    command.add_argument(
        "--until", metavar="TIME", default=RESET,
        help="when it ends: reset (with the window), a duration such as 2h, or a time such as "
        "2026-03-01T08:00:00Z (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--key", metavar="KEY", help="names this top-up; the same again adds nothing (default: new)"
    )
    add_operator(command, "why, in one line, which the history shows")
    options.add_sidecar(command)


def _list(arguments: argparse.Namespace) -> int:
    """Print how all budgets stand."""
    items = list(_pages(Asker.of(arguments.sidecar), "/v1/budgets", "budgets"))
    if arguments.json:
        for item in items:
            print(json.dumps(item))
    elif items:
        from otel_budget.cli.render.budget import budget_table

        wide = _terminal_width()
        print(_shown(arguments.sidecar, lambda: budget_table(items, time.time(), _LISTED, wide)))
    else:
        print("no budgets: the sidecar's file has none; add `budgets` to it")
    return EXIT_OK


def _show(arguments: argparse.Namespace) -> int:
    """Print one budget: what is configured, its groups, or one of them with all there is to say."""
    asker = Asker.of(arguments.sidecar)
    path = _path(arguments.name)
    if arguments.group is not None:
        path += f"?{urlencode({'group': arguments.group})}"
    budget = _object(asker, path)
    if "resources" not in budget:
        budget["groups"] = list(_pages(asker, path, "groups"))
        budget["next_cursor"] = None
    if arguments.json:
        print(json.dumps(budget))
        return EXIT_OK
    bound = _bound_by(asker, budget) if _is_exhausted(budget) else []
    print(_shown(arguments.sidecar, lambda: "\n".join(_described(budget, bound))))
    return EXIT_OK


def _described(budget: dict[str, Any], bound: Sequence[str]) -> Iterator[str]:
    from otel_budget.cli.render.budget import budget_head, budget_table, group_details, unshared

    yield from budget_head(budget)
    if "resources" in budget:
        yield from group_details(budget, bound, time.time())
        return
    groups = budget["groups"]
    if budget["refused_groups"]:
        cap = f"{budget['groups_max']:,} groups at most"
        yield f"  past those  {budget['refused_groups']:,} groups are in `other`: {cap}"
    if not groups:
        yield f"  use         {unshared(budget)}"
        return
    yield ""
    yield budget_table(groups, time.time(), _SHOWN, _terminal_width())


def _terminal_width() -> int | None:
    """Return the columns of the terminal; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _is_exhausted(budget: dict[str, Any]) -> bool:
    states = budget.get("resources", {})
    return any(one.get("status") != "ok" for one in states.values())


def _bound_by(asker: Asker, budget: dict[str, Any]) -> list[str]:
    """Return the ids of the runs that a group of a budget decided on."""
    origin = budget.get("limit_from")
    verdicts = _pages(asker, "/v1/verdicts", "verdicts")
    return [str(one.get("session_id")) for one in verdicts if one.get("limit_from") == origin]


def _history(arguments: argparse.Namespace) -> int:
    """Print the windows that are over, the newest first."""
    asker = Asker.of(arguments.sidecar)
    asked = {"limit": arguments.last, "group": arguments.group}
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    answer = _object(asker, f"{_path(arguments.name)}/windows?{query}")
    windows = _shown(asker.url, lambda: [dict(one) for one in answer["windows"]])
    if arguments.json:
        for window in windows:
            print(json.dumps(window))
    elif windows:
        from otel_budget.cli.render.budget import history_table

        print(_shown(arguments.sidecar, lambda: history_table(windows)))
    else:
        print(printable(f"no window of {arguments.name} is over yet"))
    return EXIT_OK


def _raise(arguments: argparse.Namespace) -> int:
    """Add to a budget; print what was given, and how the budget stands then."""
    until_from("--until", arguments.until, time.time())
    key = _new_key() if arguments.key is None else key_from(arguments.key)
    data: dict[str, object] = {
        "amounts": _amounts(arguments), "reason": arguments.reason, "until": arguments.until,
    }  # fmt: skip
    if by := arguments.by or user_name():
        data["by"] = by
    if arguments.group is not None:
        data["group"] = arguments.group
    asker = Asker.of(arguments.sidecar, arguments.token_file)
    given = _given(asker, arguments.name, data, key)
    if arguments.json:
        print(json.dumps(given))
        return EXIT_OK
    from otel_budget.cli.render.budget import (
        budget_head,
        group_details,
        top_up_words,
        unshared,
    )

    print(_shown(arguments.sidecar, lambda: printable(f"added: {top_up_words(given)}")))
    budget = _object(asker, f"{_path(arguments.name)}?limit=1")
    if budget["window"]["rule"] == WindowKind.RUN:  # of these no group is listed
        print(_shown(arguments.sidecar, lambda: f"{budget_head(budget)[0]}; {unshared(budget)}"))
        return EXIT_OK
    budget = _object(asker, f"{_path(arguments.name)}?{urlencode({'group': _group(given)})}")
    now = time.time()
    lines = _shown(
        arguments.sidecar,
        lambda: "\n".join((*budget_head(budget)[:1], *group_details(budget, (), now))),
    )
    print(lines)
    return EXIT_OK


def _given(asker: Asker, name: str, data: dict[str, object], key: str) -> dict[str, Any]:
    """Return the top-up that a sidecar gave. Raises AskError that says how to try once more."""
    try:
        body = tried(
            lambda: asker.post(f"{_path(name)}/top-ups", data, {"Idempotency-Key": key}), PAUSES
        )
    except AskError as exc:
        if exc.status not in _TRY_AGAIN:
            raise
        advice = f"try again with --key {key}: if it was added, it is not added twice"
        raise AskError(f"{exc.problem}; {advice}", exc.status) from exc
    return _decoded(asker.url, body)


def tried(ask: Callable[[], bytes], pauses: Sequence[float]) -> bytes:
    """Return what is asked for, after more tries where a sidecar gives nothing just now.

    pauses: seconds before each further try. Raises AskError.
    """
    for pause in pauses:
        try:
            return ask()
        except AskError as exc:
            if exc.status not in _TRY_AGAIN:
                raise
            print(f"otel-budget: {printable(exc.problem)}; trying again", file=sys.stderr)
        time.sleep(pause)
    return ask()


def _amounts(arguments: argparse.Namespace) -> dict[str, object]:
    rows = [RESOURCES[name] for name in COUNTED]
    given = {row: row.limit_of(arguments) for row in rows}
    amounts = {row.limit_key: as_number(row, value) for row, value in given.items() if value}
    if not amounts:
        sentence = "say how much is added, for example with --max-tokens 1000000"
        raise InvalidValueError("", None, "an amount", sentence=sentence)
    return amounts


def _group(given: dict[str, Any]) -> str:
    """Return the group of a top-up as a query names it."""
    from otel_budget.core.budget import encoded

    labels: dict[str, str] = given["group"]
    if labels == {"other": "true"}:
        return "other"
    return ",".join(f"{label}={encoded(value)}" for label, value in labels.items())


def _new_key() -> str:
    import uuid

    return str(uuid.uuid4())


def _path(name: str) -> str:
    return f"/v1/budgets/{quote(name, safe='')}"


def _pages(asker: Asker, path: str, member: str) -> Iterator[dict[str, Any]]:
    """Yield what is in a list, page by page."""
    cursor: str | None = ""
    while cursor is not None:
        query = urlencode({"limit": _PAGE, **({"cursor": cursor} if cursor else {})})
        page = _object(asker, f"{path}?{query}")
        try:
            yield from page[member]
            after = page["next_cursor"]
        except (KeyError, TypeError) as exc:
            raise _no_sidecar(asker.url, exc) from exc
        if after is not None and not (isinstance(after, str) and after != cursor):
            raise _no_sidecar(asker.url, ValueError("its pages do not end"))
        cursor = after


def _object(asker: Asker, path: str) -> dict[str, Any]:
    return _decoded(asker.url, asker.get(path))


def _decoded(url: str, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise _no_sidecar(url, exc) from exc
    if not isinstance(found, dict):
        raise _no_sidecar(url, TypeError("not an object"))
    return found


def _shown(url: str, show: Callable[[], T]) -> T:
    """Return what is made of a sidecar's answer. Raises AskError where that has another shape."""
    try:
        return show()
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as exc:
        raise _no_sidecar(url, exc) from exc


def _no_sidecar(url: str, exc: Exception) -> AskError:
    return AskError(f"{url} does not answer like a sidecar with budgets: {exc}")


COMMAND: Final = CommandGroup(
    "budget",
    "look at the budgets that runs share; add to one for a time",
    (
        Command("list", "list all budgets with their groups, the fullest first", _list,
                options.add_sidecar),
        Command("show", "show one budget and its groups, or one group", _show, _add_show_arguments),
        Command("raise", "add to a budget until it resets, or for a time", _raise,
                _add_raise_arguments),
        Command("history", "show what was used in windows that are over", _history,
                _add_history_arguments),
    ),
    _EPILOG,
)  # fmt: skip
