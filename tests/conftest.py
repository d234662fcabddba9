"""Fixtures that several folders of tests share, and one hypothesis profile for all properties."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context

from otel_budget.logs.line_limit import LineFilter
from tests.support.exposition import Exposition, serve
from tests.support.figures import examples
from tests.support.fleet import Fleet
from tests.support.fleet import fleet as run_fleet
from tests.support.monitors import (  # noqa: F401 - fixtures for all folders
    clock,
    make,
    nobody_scrapes,
    session_id,
)
from tests.support.prometheus_process import prometheus
from tests.support.real import require
from tests.support.sdk_stand_ins import (  # noqa: F401 - fixtures for all folders
    anthropic_sdk,
    openai_sdk,
)
from tests.support.spans import (  # noqa: F401 - fixtures for all folders
    call,
    process_provider,
    provider,
    stage,
)
from tests.support.stand_ins import (  # noqa: F401 - fixtures for all folders
    adapter,
    langchain,
    litellm,
    openai_agents,
    pydantic_ai,
)

settings.register_profile(
    "otel_budget",
    deadline=None,  # a busy machine is no finding
    derandomize=bool(os.environ.get("CI")),  # there the same examples every time
    database=None,  # leaves no folder behind; a failure prints how to reproduce it
    max_examples=examples(),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],  # for the same reason as the deadline
)
settings.load_profile("otel_budget")

_CONTEXT = pytest.StashKey[Context]()
_PROVIDER = pytest.StashKey[trace.TracerProvider]()


def pytest_configure() -> None:
    """Let programs that tests start be interrupted, even where the tests run in the background.

    A shell starts a job there with interrupts ignored, and whoever it starts inherits that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers for each processor: most tests wait for processes, intervals and leases."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a test whose real components are missing before its fixtures want them."""
    item.stash[_CONTEXT] = otel_context.get_current()
    item.stash[_PROVIDER] = trace.get_tracer_provider()
    for marker in item.iter_markers("real"):
        require(marker.args[0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that leaves an OpenTelemetry context: the spans of later ones would be in it.

    Or the process's tracer provider: runs of later ones would have spans.
    """
    result = yield
    found, before = otel_context.get_current(), item.stash[_CONTEXT]
    if found != before:
        otel_context.attach(before)
        raise AssertionError(f"the test leaves an OpenTelemetry context: {found}")
    made = trace.get_tracer_provider()
    assert type(made) is type(item.stash[_PROVIDER]), f"the test leaves a tracer provider: {made}"
    return result


@pytest.fixture(autouse=True)
def all_lines_are_left() -> None:
    """What a test before has logged holds back no line of this one."""
    for one in logging.getLogger("otel_budget").filters:
        if isinstance(one, LineFilter):
            one.forget()


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
