"""One request and its answer, read from the wire whatever shape it comes in."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.sdk.sidecar_client.address import SidecarAddress
from otel_budget.sdk.sidecar_client.exchange import Answer, ExchangeError, Limits, exchange
from tests.support.raw_server import serve_raw

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMITS = Limits(silence=5.0, body=1_000)


def asked(pieces: Sequence[bytes], limits: Limits = LIMITS, head: str = "GET /v1/x") -> Answer:
    """Return what is made of an answer that comes in these pieces, before the end of the line."""

    def answer(connection: socket.socket, _: threading.Event) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)

    with serve_raw(answer) as place:
        address = SidecarAddress.parse(f"http://{place}")
        return exchange(address, None, head, {"Accept": "*/*"}, body=b"", limits=limits)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BODIES = {
    "length": OK + b"Content-Length: 5\r\n\r\nhello",
    "chunks": CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    "until it is closed": b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nhello",
    "after a notice": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
    "with more behind it": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
}


@pytest.mark.parametrize("shape", BODIES)
@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_a_body_is_whole_however_it_is_told_and_cut(shape: str, size: int) -> None:
    """By its length, in chunks, up to the end; in one packet or byte by byte."""
    whole = BODIES[shape]
    answer = asked([whole[i : i + size] for i in range(0, len(whole), size)])
    assert (answer.status, answer.reason, answer.body) == (200, "OK", b"hello")


def test_headers_are_found_in_lower_case_and_a_status_may_have_no_words() -> None:
    answer = asked([b"HTTP/1.1 204\r\nAGE:  7 \r\nX-Odd\r\n\r\n"])
    assert answer == Answer(204, "", {"age": "7"}, b"")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (b"", "never came"),
        (b"HTTP/1.1 200 OK\r\nContent-", "cut short"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "cut short"),
        (CHUNKED + b"9\r\nhello", "cut short"),
        (CHUNKED + b"xyz\r\n", "length of a chunk"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nxyz", "how long it is"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", "how long it is"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", "longer than 1,000 bytes"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 1_001, "longer than 1,000 bytes"),
        (
            CHUNKED + b"3E9\r\n",
            "longer than 1,000 bytes",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000, "longer head"),
    ],
)
def test_what_is_no_whole_answer_is_refused(said: bytes, problem: str) -> None:
    """Never taken for an empty one, nor for as much of it as came."""
    with pytest.raises(ExchangeError, match=problem):
        asked([said])


@given(st.binary(max_size=300))
def test_any_bytes_are_an_answer_or_refused(said: bytes) -> None:
    """A stranger's service may be at that port."""
    try:
        answer = asked([b"HTTP/1.1 200 OK\r\n" + said])
    except ExchangeError:
        return
    assert len(answer.body) <= LIMITS.body


def test_an_answer_that_drips_is_waited_for_no_longer_than_was_said() -> None:
    """Each byte comes soon enough, and there is no end of them."""

    def drip(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not over.wait(0.01):
            connection.sendall(b"X: y\r\n")

    limits = Limits(silence=5.0, body=10, whole=0.2)
    with serve_raw(drip) as place:
        address = SidecarAddress.parse(f"http://{place}")
        with pytest.raises(TimeoutError):
            exchange(address, None, "GET /", {}, body=b"", limits=limits)


@pytest.mark.parametrize("head", ["GET /a b", "GET /a\r\nX: y", "GET /\u00e4", "GET /\x7f"])
def test_a_path_that_is_none_is_not_sent(head: str) -> None:
    """It could end the line, and begin another request."""
    with pytest.raises(ExchangeError, match="cannot be asked for"):
        asked([BODIES["length"]], head=head)


def test_the_request_is_one_that_any_server_reads() -> None:
    """With the host as it was typed, and as long as it says."""
    got: list[bytes] = []

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                got.append(connection.recv(65_536))
                connection.sendall(BODIES["length"])

        thread = threading.Thread(target=serve)
        thread.start()
        address = SidecarAddress.parse(f"http://localhost:{port}/behind/")
        exchange(address, None, "POST /v1/x", {"Accept": "a/b"}, body=b"{}", limits=LIMITS)
        thread.join()
    head, _, body = got[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /behind/v1/x HTTP/1.1", f"Host: localhost:{port}".encode(), b"Accept: a/b",
        b"Accept-Encoding: identity", b"Connection: close", b"Content-Length: 2",
    ]  # fmt: skip
    assert body == b"{}"
