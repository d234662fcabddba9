"""Every kind of source, with two real endpoints to look at."""

from collections.abc import Iterator

import pytest

from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource, ScrapeTarget
from tests.conformance.rig import Rig
from tests.exposition import Exposition
from tests.ports import free_port
from tests.prometheus_process import JOB


@pytest.fixture(params=["scrape", pytest.param("prometheus", marks=pytest.mark.real("prometheus"))])
def rig(request: pytest.FixtureRequest, scraped: tuple[Exposition, ...]) -> Iterator[Rig]:
    """Each source in turn."""
    if request.param == "scrape":
        targets = [ScrapeTarget(endpoint.url) for endpoint in scraped]
        scrape = ScrapeSettings(targets, timeout=5)
        yield Rig(
            lambda clock: ScrapeSource(scrape, clock), lambda clock: ScrapeSource(scrape, clock),
            scraped, tuple(endpoint.url for endpoint in scraped), through_prometheus=False,
        )  # fmt: skip
        return
    url = request.getfixturevalue("prometheus_url")
    query = PrometheusSettings(url, matchers=(f'job="{JOB}"',))
    lost = PrometheusSettings(f"http://127.0.0.1:{free_port()}")
    yield Rig(
        lambda clock: PrometheusSource(query, clock), lambda clock: PrometheusSource(lost, clock),
        scraped, tuple(f"{JOB}/{endpoint.address}" for endpoint in scraped),
        through_prometheus=True,
    )  # fmt: skip
