"""What the answers of a sidecar, and of what stands before it, tell of reservations."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from otel_budget.core.reservation import request_from, use_from
from otel_budget.sdk.sidecar_client.address import SidecarAddress
from otel_budget.sdk.sidecar_client.reservations import Reservations, UnsupportedError


class _Heard(Reservations):
    """Asks nobody, and keeps what it would have said."""

    def __init__(self) -> None:
        super().__init__(SidecarAddress.parse("http://127.0.0.1:1"))
        self.bodies: list[Any] = []

    def _ask(self, *asked: Any) -> tuple[int, Any]:
        self.bodies.append(asked[2])
        status = 201 if asked[1] == "/v1/reservations" else 200
        return status, {"id": "h", "remaining_lease_seconds": 1}


@pytest.mark.parametrize(
    "cost",
    ["0.30000000000000004", "3E-7", "0E-8", "1E-20", "0.12", "12345.678901234567890123", "9E+3"],
)
def test_a_sidecar_can_read_any_amount_of_money_and_takes_none_for_less(cost: str) -> None:
    ask, amounts = _Heard(), {"cost": Decimal(cost)}
    ask.reserve("r", amounts, 30.0)
    ask.commit("h", amounts)
    reserved, committed = ask.bodies
    held = request_from("k", reserved).amounts["cost"]
    used, _ = use_from(committed)
    for said in (held, used["cost"]):
        assert 0 <= Decimal(said) - Decimal(cost) < Decimal("1E-11")


@contextmanager
def _answering(status: int) -> Iterator[Reservations]:
    """Yield what asks a server that answers each request with a status and a page."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Reservations(SidecarAddress.parse(f"http://127.0.0.1:{server.server_port}"))
        finally:
            server.shutdown()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_proxy_whose_sidecar_is_away_does_not_say_that_there_are_no_reservations(
    status: int,
) -> None:
    with _answering(status) as ask, pytest.raises(http.client.HTTPException):
        ask.reserve("r", {"tokens": 1}, 30.0)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_what_knows_no_such_path_has_no_reservations(status: int) -> None:
    with _answering(status) as ask, pytest.raises(UnsupportedError):
        ask.reserve("r", {"tokens": 1}, 30.0)
