"""Where the sidecar listens, on hosts that lack what its name stands for."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from otel_budget.errors import ListenError
from otel_budget.sidecar.http_server import listen

V4 = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("::1", 0, 0, 0))


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_name_with_an_address_that_the_host_has_not_is_listened_on_at_the_other(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without IPv6 whose hosts file has ``::1 localhost`` first."""
    real = socket.socket

    def without_v6(family: int, *rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, "no IPv6 here")
        return real(family, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [V6, V4])
    monkeypatch.setattr(socket, "socket", without_v6)
    with listen("localhost", 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_port_that_is_taken_at_one_address_is_not_taken_at_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever asks there would reach somebody else."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = (*V4[:4], ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [first, V4])
        with pytest.raises(ListenError, match="something already listens there"):
            listen("localhost", port)


def test_a_name_that_nobody_knows_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ListenError, match="cannot listen on nowhere:0: Name or service not known"):
        listen("nowhere", 0)
