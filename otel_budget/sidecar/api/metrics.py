"""``/metrics``: the sidecar's own metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from otel_budget import semconv
from otel_budget.sidecar.api.rendered import NO_STORE
from otel_budget.sidecar.api.route import TEXT, Answer, Operation, Tag
from otel_budget.sidecar.api.verdict_body import SESSION_ID

if TYPE_CHECKING:
    from starlette.requests import Request

    from otel_budget.sidecar.api.host import Host


class Metrics:
    """Hands on what the process exports."""

    def __init__(self, host: Host) -> None:
        """Take the process."""
        self._host = host

    @Operation(
        path="/metrics",
        id="getMetrics",
        tag=Tag.OPERATIONS,
        summary="The sidecar's metrics for Prometheus",
        description="docs/metrics.md lists their names and meanings.",
        answers=(
            Answer(
                200,
                "Prometheus text or OpenMetrics, depending on the Accept header.",
                str,
                f"# TYPE {semconv.VERDICT.name} gauge\n"
                f'{semconv.VERDICT.name}{{session_id="{SESSION_ID}"}} 0.0\n',
                TEXT,
            ),
        ),
    )
    async def metrics(self, request: Request) -> Response:
        """Answer in the format that is asked for."""
        accept = request.headers.get("accept", "")
        body, content_type = await self._host.exposition(accept)
        return Response(body, headers={"Content-Type": content_type, **NO_STORE})
