"""The Prometheus HTTP API, as far as the tests ask it."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class QueryError(AssertionError):
    """Prometheus refused a query; says why."""


class Prometheus:
    """A server to ask."""

    def __init__(self, url: str) -> None:
        """Take its URL."""
        self.url = url

    def vector(self, expr: str, at: float | None = None) -> list[dict[str, Any]]:
        """Return the result of an instant query. at: Unix time, by default now."""
        asked = {"query": expr} | ({} if at is None else {"time": str(at)})
        found: list[dict[str, Any]] = self._get("query", **asked)["result"]
        return found

    def matrix(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the result of a range query."""
        asked = {"query": expr, "start": str(start), "end": str(end), "step": str(step)}
        found: list[dict[str, Any]] = self._get("query_range", **asked)["result"]
        return found

    def label_values(self, label: str, selector: str, start: float, end: float) -> list[str]:
        """Return the values of a label in the series of a selector."""
        asked = {"match[]": selector, "start": str(start), "end": str(end)}
        found: list[str] = self._get(f"label/{label}/values", **asked)
        return found

    def _get(self, path: str, **asked: str) -> Any:
        body = urllib.parse.urlencode(asked)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{body}", timeout=10) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as exc:
            detail = json.load(exc).get("error", "")
            raise QueryError(f"{asked}: {detail}") from exc
        if said.get("warnings"):
            raise QueryError(f"{asked}: {said['warnings']}")
        return said["data"]
