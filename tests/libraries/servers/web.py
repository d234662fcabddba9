"""A FastAPI application with each way to open a run for a request."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from otel_budget import ResourceMonitor
from otel_budget.adapters.asgi import BudgetMiddleware
from tests.libraries.servers.calls import call, counted, run

CALLS = 4
app = FastAPI()


def begin(scope: dict[str, Any]) -> ResourceMonitor | None:
    """Open a run for what is below ``/middleware`` alone."""
    path, _, name = scope.get("path", "").rpartition("/")
    return run(name) if path.startswith("/middleware") else None


app.add_middleware(BudgetMiddleware, begin=begin)


@app.get("/counted")
def report() -> dict[str, int]:
    """Return what was counted."""
    return counted()


@app.get("/generator/{name}")
def generator(name: str) -> StreamingResponse:
    """Stream from a plain generator that opens the run."""

    def answer() -> Iterator[str]:
        with run(name) as monitor:
            for _ in range(CALLS):
                if not monitor.should_continue():
                    return
                call()
                yield "x"

    return StreamingResponse(answer())


@app.get("/limited/{name}")
def limited(name: str) -> StreamingResponse:
    """Do the same with a limit of two calls."""

    def answer() -> Iterator[str]:
        with run(name, 2) as monitor:
            for _ in range(CALLS):
                if not monitor.should_continue(0.9):
                    return
                call()
                yield "x"

    return StreamingResponse(answer())


@app.get("/bound/{name}")
def bound(name: str) -> StreamingResponse:
    """Stream from a generator that another function opened the run for."""
    monitor = run(name)

    def answer() -> Iterator[str]:
        for _ in range(CALLS):
            call()
            yield "x"
        monitor.close()

    return StreamingResponse(monitor.bind(answer()))


def opened(name: str) -> Iterator[ResourceMonitor]:
    """Open a run in a plain dependency: in another context than the endpoint's."""
    with run(name) as monitor:
        yield monitor


async def opened_async(name: str) -> AsyncIterator[ResourceMonitor]:
    """Open a run in an asynchronous dependency: in the endpoint's own context."""
    async with run(name) as monitor:
        yield monitor


@app.get("/dependency/{name}")
def dependency(monitor: Annotated[ResourceMonitor, Depends(opened)]) -> str:
    """Attach the run that a plain dependency opened."""
    with monitor.attach():
        for _ in range(CALLS):
            call()
    return "x" * CALLS


@app.get("/async_dependency/{name}")
def async_dependency(_: Annotated[ResourceMonitor, Depends(opened_async)]) -> str:
    """Make calls in the thread of a plain endpoint."""
    for _number in range(CALLS):
        call()
    return "x" * CALLS


@app.get("/pool/{name}")
async def pool(name: str) -> str:
    """Make calls in the threads of a pool."""
    async with run(name):
        for _ in range(CALLS):
            await run_in_threadpool(call)
    return "x" * CALLS


@app.get("/middleware/stream/{name}")
def in_middleware(name: str) -> StreamingResponse:
    """Stream from a plain generator; the run is the request's."""

    def answer() -> Iterator[str]:
        for _ in range(CALLS):
            call()
            yield "x"

    return StreamingResponse(answer())


@app.get("/middleware/plain/{name}")
def plain_in_middleware(request: Request, name: str) -> str:
    """Make calls in the thread of a plain endpoint; the run is the request's."""
    for _ in range(CALLS):
        call()
    monitor: ResourceMonitor = request.state.monitor
    return "x" * monitor.get_usage_report().api_calls
