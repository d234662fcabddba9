"""Entries of the audit log, each as a line for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_budget.logs.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST = 160


def line(entry: Mapping[str, Any]) -> str:
    """Return an entry as one printable line."""
    kind, body = str(entry.get("kind")), entry.get("body")
    body = body if isinstance(body, dict) else {}
    said = _WORDS.get(kind, _any)(body)
    about = str(entry.get("session_id") or entry.get("budget") or "-")
    return f"{one_line(str(entry.get('at')))}  {one_line(kind):<13}  {one_line(about)}: {said}"


def _verdict(body: Mapping[str, Any]) -> str:
    verdict, before = _object(body, "verdict"), _object(body, "before")
    was = f"{before.get('action')} ({before.get('reason')})" if before else "new"
    by = f", by {verdict.get('limit_from')}" if verdict.get("limit_from") else ""
    would, last = _object(verdict, "would"), _object(verdict, "wrap_up")
    calls = f"; last calls: {last.get('calls')}" if last else ""
    shadow = f"; in shadow: {would.get('action')} ({would.get('reason')})" if would else ""
    return _short(
        f"{was} -> {verdict.get('action')} ({verdict.get('reason')}{by}): "
        f"{verdict.get('message')}{calls}{shadow}"
    )


def _order(body: Mapping[str, Any]) -> str:
    limits = ", ".join(
        f"{name} {'none' if limit is None else limit}"
        for name, limit in _object(body, "limits").items()
    )
    until = f", until {body['until']}" if body.get("until") else ""
    event = f"{body.get('event')}{' now' if body.get('now') is True else ''}"
    return _short(
        f"{event} by {body.get('by') or 'an operator'}{until}"
        f"{f': {limits}' if limits else ''}: {body.get('reason')}"
    )


def _configuration(body: Mapping[str, Any]) -> str:
    if body.get("event") == "taken":
        return _short(f"taken: policy {body.get('revision')}")
    return _any(body)


def _any(body: Mapping[str, Any]) -> str:
    rest = ", ".join(
        f"{key} {_plain(value)}"
        for key, value in body.items()
        if key != "event" and value not in (None, "", {})
    )
    return _short(f"{body.get('event') or ''}{': ' if rest else ''}{rest}")


def _plain(value: Any) -> str:
    """Return a value without the marks of a language: ``{tokens=5, cost=2}``."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}={_plain(one)}' for key, one in value.items())}}}"
    return str(value)


def _short(text: str) -> str:
    return one_line(text, _LONGEST)


def _object(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = body.get(key)
    return found if isinstance(found, dict) else {}


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "verdict": _verdict,
    "order": _order,
    "configuration": _configuration,
}
