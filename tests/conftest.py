"""Fixtures that several folders of tests share."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.exposition import Exposition, serve
from tests.fleet import Fleet
from tests.fleet import fleet as run_fleet
from tests.monitors import (  # noqa: F401 - fixtures for all folders
    clock,
    make,
    nobody_scrapes,
    session_id,
)
from tests.prometheus_process import prometheus
from tests.real import require
from tests.spans import call, provider, stage  # noqa: F401 - fixtures for all folders
from tests.stand_ins import (  # noqa: F401 - fixtures for all folders
    adapter,
    langchain,
    litellm,
    openai_agents,
    pydantic_ai,
)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a test whose real components are missing before its fixtures want them."""
    for marker in item.iter_markers("real"):
        require(marker.args[0])


@pytest.fixture(scope="session")
def scraped() -> Iterator[tuple[Exposition, ...]]:
    """Two endpoints that live as long as the test run; the Prometheus below scrapes them."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(serve()) for _ in range(2))


@pytest.fixture(scope="session")
def prometheus_url(
    scraped: tuple[Exposition, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A real Prometheus that scrapes both endpoints every 200 ms."""
    folder = tmp_path_factory.mktemp("prometheus")
    with prometheus(folder, [exposition.address for exposition in scraped]) as url:
        yield url


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Processes with runs, a sidecar and a Prometheus, after every kind of trouble."""
    with run_fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running
