"""An API over three runs, and a client that holds each answer against the description."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from otel_budget.core.verdict import LimitStatus
from otel_budget.sidecar.api.app import build_app, description
from otel_budget.sidecar.api.auth import Gate, Tokens
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from tests.support.api import Host, assert_described, token_of
from tests.support.sidecar_fixtures import LEASE, SteadyClock, verdict


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def clock() -> SteadyClock:
    return SteadyClock()


@pytest.fixture
def broadcaster(clock: SteadyClock) -> VerdictBroadcaster:
    filled = VerdictBroadcaster(LEASE, clock)
    filled.publish([verdict("a", 1), verdict("b", 2, status=LimitStatus.EXCEEDED), verdict("c", 3)])
    return filled


@pytest.fixture
def app(broadcaster: VerdictBroadcaster, host: Host) -> Starlette:
    return build_app(broadcaster, host, "1.2.3")


class DescribedClient(TestClient):
    """Holds each answer against the description of its operation."""

    document = description("1.2.3")

    def request(self, method: str, url: Any, **others: Any) -> Any:
        """Ask, and look at the answer."""
        answer = super().request(method, url, **others)
        assert_described(self.document, method, str(url), answer)
        return answer


@pytest.fixture
def client(app: Starlette) -> Iterator[TestClient]:
    with DescribedClient(app, raise_server_exceptions=False) as made:
        yield made


@pytest.fixture
def guarded(broadcaster: VerdictBroadcaster, host: Host, tmp_path: Path) -> TestClient:
    """Return a client of an API that asks for tokens, as ``token_of`` has them."""
    for role in ("read", "admin"):
        (tmp_path / role).write_text(token_of(role))
    gate = Gate(Tokens(tmp_path / "read"), Tokens(tmp_path / "admin"))
    return DescribedClient(build_app(broadcaster, host, "1.2.3", gate))
