"""Ask the sidecar by GET, for as long as no stream is to be had."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget.core import verdict_json
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.sidecar_client.backoff import asked_for
from otel_budget.sdk.sidecar_client.problem_detail import detail_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.sdk.sidecar_client.connection import Call, Connection
    from otel_budget.sdk.sidecar_client.followers import Followers

#: Bytes of an answer.
MOST_BYTES: Final = 4_000_000
#: Runs that one request names, and the bytes that their ids may take in it.
MOST_NAMED: Final = 50
_MOST_NAME_BYTES: Final = 6_000
#: The sidecar is there, and has not seen this run, or anything, yet. Any server may answer 404, so
#: only a problem in the sidecar's own format counts.
_NOT_YET: Final = (http.client.NOT_FOUND, http.client.SERVICE_UNAVAILABLE)
#: It is there, and wants to be asked with another token, or less often.
_NOT_LET_IN: Final = (
    http.client.UNAUTHORIZED, http.client.FORBIDDEN, http.client.TOO_MANY_REQUESTS,
)  # fmt: skip


class UnreachableError(Exception):
    """The sidecar did not give what was asked for; the message says what it did instead.

    asked: seconds for which the answer asked not to be bothered.
    """

    def __init__(self, problem: str, asked: float = 0.0) -> None:
        self.asked = asked
        super().__init__(problem)


@dataclass(slots=True)
class Found:
    """What came of asking for some runs."""

    heard: int = 0
    """Verdicts."""
    lease: float = 0.0
    """Seconds, the longest that was left of any."""
    asked: float = 0.0
    """Seconds for which an answer asked not to be bothered."""


class Poll:
    """Asks for verdicts on runs and hands them on."""

    def __init__(self, runs: Followers) -> None:
        """Ask for several runs at once, until it is known that the sidecar cannot be."""
        self._runs, self._one_by_one = runs, False

    def ask(self, line: Connection, session_ids: list[str]) -> Found:
        """Ask for runs. Raises what a request raises, and UnreachableError."""
        found = Found()
        left = list(session_ids)
        while left:
            with line.open() as call:
                while left:
                    batch = together(left, 1 if self._one_by_one else MOST_NAMED)
                    answer = self._asked(call, batch, found)
                    del left[: len(batch)]
                    self._runs.set_reachable(batch, reachable=True)
                    if answer.will_close:
                        break
        return found

    def _asked(self, call: Call, batch: list[str], found: Found) -> http.client.HTTPResponse:
        alone = batch[0] if len(batch) == 1 else None
        path = f"/v1/verdicts/{quote(batch[0], safe='')}"
        if alone is None:
            named = "&".join(f"session_id={quote(one, safe='')}" for one in batch)
            path = f"/v1/verdicts?limit=1&{named}"
        answer, _ = call.ask("GET", path, "application/json")
        body = answer.read(MOST_BYTES)
        kind = answer.headers.get_content_type()
        asked = asked_for(answer.headers.get("Retry-After"), time.time())
        known = kind == "application/problem+json"
        shown = path.partition("?")[0]
        if answer.status in _NOT_YET and known:
            found.asked = max(found.asked, asked)
        elif answer.status in _NOT_LET_IN and known:
            raise UnreachableError(f"{shown} answered {answer.status}: {detail_of(body)}", asked)
        elif answer.status != http.client.OK:
            what = f"{shown} answered {answer.status} {kind}, which is not a sidecar's answer"
            raise UnreachableError(what, asked)
        else:
            for text in self._verdicts(body, alone, batch):
                self._hand_on(text, alone, _age(answer), found)
        return answer

    def _verdicts(self, body: bytes, alone: str | None, batch: list[str]) -> Iterator[str | bytes]:
        """Yield the verdicts in an answer as JSON."""
        if alone is not None:
            yield body
            return
        try:
            page = json.loads(body)
            verdicts = [json.dumps(one) for one in page["verdicts"]]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise UnreachableError("/v1/verdicts answered what is no list of verdicts") from exc
        if "unknown" not in page:  # an earlier version, which gives them all
            self._one_by_one = True
            del batch[1:]  # the others are asked for one by one
        yield from verdicts

    def _hand_on(self, text: str | bytes, alone: str | None, age: float, found: Found) -> None:
        try:
            verdict = verdict_json.from_json(text)
        except InvalidValueError:
            if alone is not None:
                raise
            return  # one that cannot be read costs no other
        if alone is not None and verdict.session_id != alone:
            raise UnreachableError(f"answered about session {verdict.session_id!r}")
        lease = verdict.lease_seconds
        if lease is not None and age:
            lease -= age
            if lease <= 0:
                raise UnreachableError(f"a cache answered, with a verdict that is {age:g} s old")
            verdict = replace(verdict, lease_seconds=lease)
        if self._runs.deliver(verdict):
            found.heard += 1
            found.lease = max(found.lease, lease or 0.0)


def together(session_ids: list[str], most: int) -> list[str]:
    """Return the first of some runs, as many as one request can name, and so many at most."""
    size = 0
    batch: list[str] = []
    for session_id in session_ids[:most]:
        size += len(session_id)
        if batch and size > _MOST_NAME_BYTES:
            break
        batch.append(session_id)
    return batch


def _age(answer: http.client.HTTPResponse) -> float:
    """Return for how many seconds an answer lay in a cache."""
    text = answer.headers.get("Age", "").strip()
    return float(text[:9]) if text.isdecimal() else 0.0
