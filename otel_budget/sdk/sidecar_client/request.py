"""How the command line asks a sidecar: one request, as a run's own monitor would ask."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget.errors import OtelBudgetError
from otel_budget.sdk.sidecar_client.address import Credentials, SidecarAddress
from otel_budget.sdk.sidecar_client.polling import detail_of

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT: Final = 5.0
#: Seconds. A sidecar's answers are not to be stored; one that was may be past its lease.
_OLDEST: Final = 1
#: Bytes: a thousand verdicts are some two million.
_LONGEST: Final = 16_000_000


class AskError(OtelBudgetError):
    """Say why a sidecar gave nothing. status: what it answered; None if it did not."""

    def __init__(self, problem: str, status: int | None = None) -> None:
        self.problem, self.status = problem, status
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer."""

    body: bytes
    headers: Mapping[str, str]
    """By name in lower case."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks one sidecar: without a proxy, and without going where another server sends it."""

    url: str
    address: SidecarAddress

    @classmethod
    def of(cls, url: str, token_file: str | None = None) -> Asker:
        """Take the URL; credentials are those of the environment. token_file: another token's."""
        credentials = Credentials.from_environment()
        if token_file is not None:
            credentials = replace(credentials, token_file=Path(token_file))
        return cls(url, SidecarAddress.parse(url, credentials))

    def get(self, path: str) -> bytes:
        """Return the answer to a GET. Raises AskError, also for one that lay in a cache."""
        answer = self.ask("GET", path)
        age = answer.headers.get("age", "")
        if age.isdecimal() and int(age) > _OLDEST:
            what = f"what answers at {self.url} is a cache: its answer is {age} s old"
            raise AskError(f"{what}; have the proxy keep nothing of a sidecar's")
        return answer.body

    def post(self, path: str, data: Mapping[str, object]) -> bytes:
        """Return the answer to a POST of JSON. Raises AskError."""
        return self.ask("POST", path, json.dumps(data)).body

    def ask(
        self, method: str, path: str, body: str | None = None, accept: str = "application/json"
    ) -> Answer:
        """Return a good answer. Raises AskError."""
        headers = self.address.headers(accept)
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection = self.address.connect(TIMEOUT)
        except OSError as exc:
            raise AskError(f"no TLS with {self.url}: {exc}") from exc
        try:
            connection.request(method, self.address.path + path, body, headers)
            answer = connection.getresponse()
            said = answer.read(_LONGEST)
        except (OSError, HTTPException) as exc:
            raise AskError(f"nothing answers at {self.url}: {exc}") from exc
        finally:
            connection.close()
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return Answer(said, {name.lower(): value for name, value in answer.getheaders()})
        detail = detail_of(said) or f"{self.url}{path} answers {answer.status} {answer.reason}"
        raise AskError(detail, answer.status)


def session_path(session_id: str, *more: str) -> str:
    """Return the path of what is known of a run."""
    return "/".join(("/v1/sessions", quote(session_id, safe=""), *more))
