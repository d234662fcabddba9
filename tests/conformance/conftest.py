"""Every way to a source, with two real endpoints to look at."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conformance.rig import PROMETHEUS, PUSHED, SCRAPE, VICTORIA_METRICS, Backend, Rig, show
from tests.support.exposition import Exposition, serve
from tests.support.victoria_metrics_process import Patience, uncached, victoria_metrics

BACKENDS = [
    SCRAPE,
    pytest.param(PROMETHEUS, marks=pytest.mark.real("prometheus")),
    pytest.param(
        VICTORIA_METRICS, marks=[pytest.mark.real("victoria-metrics"), pytest.mark.backends]
    ),
]


@pytest.fixture(scope="session")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A real VictoriaMetrics at its defaults, with two endpoints of its own."""
    with ExitStack() as stack:
        endpoints = tuple(stack.enter_context(serve()) for _ in range(2))
        folder = tmp_path_factory.mktemp("victoria-metrics")
        addresses = [endpoint.address for endpoint in endpoints]
        url = stack.enter_context(victoria_metrics(folder, addresses, interval="200ms"))
        url = stack.enter_context(uncached(url))
        yield Backend(VICTORIA_METRICS, endpoints, url, Patience(url, endpoints).show)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its back ends: what is pushed has no place that fails, or is empty."""
    if "backend" in metafunc.fixturenames:
        pushed = [PUSHED] if getattr(metafunc.module, "PUSHED_TOO", False) else []
        metafunc.parametrize("backend", [*BACKENDS, *pushed], indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each in turn."""
    if request.param == VICTORIA_METRICS:
        found: Backend = request.getfixturevalue("victoria")
    else:
        scraped: tuple[Exposition, ...] = request.getfixturevalue("scraped")
        found = Backend(PUSHED if request.param == PUSHED else SCRAPE, scraped)
        if request.param == PROMETHEUS:
            url = request.getfixturevalue("prometheus_url")
            found = Backend(PROMETHEUS, scraped, url, lambda texts: _wait(scraped, texts))
    yield found
    show(found.endpoints, ("", ""))


def _wait(endpoints: tuple[Exposition, ...], texts: tuple[str | None, ...]) -> None:
    show(endpoints, texts)
    for endpoint in endpoints:
        endpoint.wait_until_asked(2)  # when asked again, the first answer is stored


@pytest.fixture
def rig(backend: Backend) -> Rig:
    """What is read through each."""
    return Rig(backend)
