"""Reserve room in shared budgets of a sidecar, over connections that are kept.

A request whose answer was lost is sent again under the same key: it comes to the same reservation.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from contextlib import ExitStack
from decimal import ROUND_UP, Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core.quantities import as_json
from otel_budget.core.reservation import ReservationRefusal
from otel_budget.policy.bounds import EXACT
from otel_budget.sdk.sidecar_client.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.sdk.sidecar_client.address import SidecarAddress
    from otel_budget.sdk.sidecar_client.connection import Call

PATH: Final = "/v1/reservations"
#: Connections that are kept for the next request; a sidecar closes them when they idle.
_KEPT_MOST: Final = 8
_READ: Final = 100_000
#: Seconds between two tries, and how many.
_AGAIN_AFTER, _TRIES = 0.05, 5
#: Seconds for one answer, and after which none is asked for again: a call may wait for it.
_TIMEOUT, _LONGEST = 2.0, 3.0
_AWAY: Final = (OSError, http.client.HTTPException)
_AGAIN: Final = (http.client.SERVICE_UNAVAILABLE, http.client.BAD_GATEWAY)
_FINEST: Final = Decimal("1E-12")
_GOOD, _REDIRECTS, _FAILS = 200, 300, 500


class Held(NamedTuple):
    """What a sidecar holds."""

    id: str
    lease_seconds: float
    """That are left of it, as of the answer."""


class Refused(NamedTuple):
    """What it does not hold, and why."""

    reason: str
    """A ``ReservationRefusal``, or what a newer sidecar says."""
    detail: str
    retry_after: float | None = None
    """Seconds after which it is worth to ask again; None: not said."""

    @property
    def is_busy(self) -> bool:
        """True if others hold the room."""
        return self.reason == ReservationRefusal.BUSY


class UnsupportedError(Exception):
    """What answers is a sidecar without reservations, or no sidecar."""


class Reservations:
    """Asks one sidecar. Any thread may use it; none waits for another's answer."""

    def __init__(self, address: SidecarAddress) -> None:
        """Open nothing yet."""
        self._address = address
        self._lock = threading.RLock()
        self._idle: list[_Line] = []

    def reserve(
        self,
        session_id: str,
        amounts: Mapping[str, Number],
        lease_seconds: float,
        *,
        key: str | None = None,
    ) -> Held | Refused:
        """Have amounts per resource held. key: names the request; None: a new one.

        Raises what a request raises, and UnsupportedError.
        """
        body = {
            "session_id": session_id,
            "resources": _as_json(amounts),
            "lease_seconds": lease_seconds,
        }
        status, said = self._ask("POST", PATH, body, {"Idempotency-Key": key or uuid.uuid4().hex})
        if status == http.client.CREATED:
            return Held(str(said["id"]), float(said["remaining_lease_seconds"]))
        return _refused(said)

    def commit(
        self, held_id: str, used: Mapping[str, Number], seconds_ago: float = 0.0
    ) -> Held | Refused:
        """Say what was used of one, and how long ago the last of it was recorded."""
        body = {"used": _as_json(used), "seconds_ago": round(seconds_ago, 6)}
        return self._change(f"{held_id}/commit", body)

    def extend(self, held_id: str, lease_seconds: float) -> Held | Refused:
        """Let its lease go on for so many seconds from now."""
        return self._change(f"{held_id}/extend", {"lease_seconds": lease_seconds})

    def release(self, held_id: str) -> Refused | None:
        """Give one back of which nothing was used."""
        status, said = self._ask("DELETE", f"{PATH}/{held_id}", None, {})
        return None if status == http.client.NO_CONTENT else _refused(said)

    def close(self) -> None:
        """Close what is kept open."""
        with self._lock:
            lines, self._idle = self._idle, []
        for line in lines:
            line.close()

    def forget(self) -> None:
        """Let go of the connections in a forked child."""
        for line in self._idle:
            line.forget()
        self._lock, self._idle = threading.RLock(), []

    def _change(self, path: str, body: Mapping[str, object]) -> Held | Refused:
        status, said = self._ask("POST", f"{PATH}/{path}", body, {})
        if status == http.client.OK:
            return Held(str(said["id"]), float(said["remaining_lease_seconds"]))
        return _refused(said)

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        """Return status and JSON of an answer; one that is lost is asked for again."""
        text, until = None if body is None else json.dumps(body), time.monotonic() + _LONGEST
        for left in reversed(range(_TRIES)):
            try:
                status, said = self._once(method, path, text, headers)
            except _AWAY:
                if not left or time.monotonic() >= until:
                    raise
            else:
                if status not in _AGAIN or not left:
                    return status, said
            time.sleep(_AGAIN_AFTER)
        raise AssertionError("the last try returns or raises")

    def _once(
        self, method: str, path: str, text: str | None, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        with self._lock:
            line = self._idle.pop() if self._idle else None
        line = line or _Line(self._address)
        try:
            status, kind, read = line.ask(method, path, text, headers)
        except BaseException:
            line.close()
            raise
        if line.is_over:
            line.close()
        else:
            with self._lock:
                if len(self._idle) < _KEPT_MOST:
                    self._idle.append(line)
                else:
                    line.close()
        is_good = _GOOD <= status < _REDIRECTS
        if not is_good and kind != "application/problem+json":
            if status >= _FAILS and status != http.client.NOT_IMPLEMENTED:
                # A proxy whose sidecar is away: it says nothing of what that can do.
                raise http.client.HTTPException(f"{path} answers {status} {kind}")
            raise UnsupportedError(f"{path} answers {status} {kind}")
        said = json.loads(read) if read else {}
        if not is_good and "reason" not in said and status in (404, 405):
            raise UnsupportedError(f"{path} answers {status}")
        return status, said


class _Line:
    """One connection that is kept."""

    def __init__(self, address: SidecarAddress) -> None:
        self._line, self._kept = Connection(address, _TIMEOUT), ExitStack()
        self._call: Call | None = None

    @property
    def is_over(self) -> bool:
        """True if the other side ends it."""
        return self._call is None or self._call.is_over

    def ask(
        self, method: str, path: str, text: str | None, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Return status, content type and body of the answer."""
        if self._call is not None:
            try:
                return self._ask(self._call, method, path, text, headers)
            except ConnectionError:  # closed there while nothing was asked: it is asked again
                self.close()
        self._call = self._kept.enter_context(self._line.open())
        return self._ask(self._call, method, path, text, headers)

    @staticmethod
    def _ask(
        call: Call, method: str, path: str, text: str | None, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        answer, _ = call.ask(method, path, "application/json", body=text, headers=headers)
        return answer.status, answer.headers.get_content_type(), answer.read(_READ)

    def close(self) -> None:
        self._kept.close()
        self._call = None

    def forget(self) -> None:
        self._line.forget()


def _as_json(amounts: Mapping[str, Number]) -> dict[str, int | float | str]:
    """Return amounts as a sidecar reads them: it takes 15 digits after the point."""
    return {name: as_json(_rounded_up(amount)) for name, amount in amounts.items()}


def _rounded_up(amount: Number) -> Number:
    if not isinstance(amount, Decimal) or amount == amount.quantize(_FINEST, context=EXACT):
        return amount
    return amount.quantize(_FINEST, rounding=ROUND_UP, context=EXACT)


def _refused(said: Any) -> Refused:
    after = said.get("retry_after")
    return Refused(
        str(said.get("reason", "")), str(said.get("detail", "")),
        float(after) if isinstance(after, int | float) else None,
    )  # fmt: skip
