"""How the command line asks a sidecar: one request, as a run's own monitor would ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from otel_budget.errors import OtelBudgetError
from otel_budget.sdk.sidecar_client.address import Credentials, SidecarAddress
from otel_budget.sdk.sidecar_client.exchange import Answer, ExchangeError, Limits, exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT: Final = 5.0
#: Seconds. A sidecar's answers are not to be stored; one that was may be past its lease.
_OLDEST: Final = 1
#: Bytes: a thousand verdicts are some two million.
_LONGEST: Final = 16_000_000
_LIMITS: Final = Limits(TIMEOUT, _LONGEST)
_GOOD, _REDIRECTS = 200, 300


class AskError(OtelBudgetError):
    """Say why a sidecar gave nothing. status: what it answered; None if it did not."""

    def __init__(self, problem: str, status: int | None = None) -> None:
        self.problem, self.status = problem, status
        super().__init__(problem)


class Asker(NamedTuple):
    """Asks one sidecar: without a proxy, and without going where another server sends it."""

    url: str
    address: SidecarAddress

    @classmethod
    def of(cls, url: str, token_file: str | None = None) -> Asker:
        """Take the URL; credentials are those of the environment. token_file: another token's."""
        credentials = Credentials.from_environment()
        if token_file is not None:
            from pathlib import Path

            credentials = credentials._replace(token_file=Path(token_file))
        return cls(url, SidecarAddress.parse(url, credentials))

    def get(self, path: str) -> bytes:
        """Return the answer to a GET. Raises AskError, also for one that lay in a cache."""
        answer = self.ask("GET", path)
        age = answer.headers.get("age", "")
        if age.isdecimal() and int(age) > _OLDEST:
            what = f"what answers at {self.url} is a cache: its answer is {age} s old"
            raise AskError(f"{what}; have the proxy keep nothing of a sidecar's")
        return answer.body

    def post(
        self, path: str, data: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the answer to a POST of JSON. headers: further ones. Raises AskError."""
        import json

        said = {**self.address.headers("application/json"), **(headers or {})}
        said["Content-Type"] = "application/json"
        return self.send(f"POST {path}", said, json.dumps(data).encode(), _LIMITS).body

    def ask(
        self, method: str, path: str, body: str | None = None, accept: str = "application/json"
    ) -> Answer:
        """Return a good answer. Raises AskError."""
        headers = self.address.headers(accept)
        if body is not None:
            headers["Content-Type"] = "application/json"
        return self.send(f"{method} {path}", headers, (body or "").encode(), _LIMITS)

    def send(self, head: str, headers: Mapping[str, str], body: bytes, limits: Limits) -> Answer:
        """Return a good answer. head: method and path. Raises AskError."""
        try:
            context = self.address.context()
        except OSError as exc:
            raise AskError(f"no TLS with {self.url}: {exc}") from exc
        try:
            answer = exchange(self.address, context, head, headers, body=body, limits=limits)
        except OSError as exc:
            raise AskError(f"nothing answers at {self.url}: {exc}") from exc
        except ExchangeError as exc:
            raise AskError(f"no good answer from {self.url}: {exc}") from exc
        if _GOOD <= answer.status < _REDIRECTS:
            return answer
        from otel_budget.sdk.sidecar_client.problem_detail import detail_of

        path = head.partition(" ")[2]
        said = f"{self.url}{path} answers {answer.status} {answer.reason}"
        raise AskError(detail_of(answer.body) or said, answer.status)


def session_path(session_id: str, *more: str) -> str:
    """Return the path of what is known of a run."""
    return "/".join(("/v1/sessions", quote(session_id, safe=""), *more))
