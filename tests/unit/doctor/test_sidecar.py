"""How the doctor reads a sidecar's metrics."""

from __future__ import annotations

from otel_budget import semconv
from otel_budget.doctor.sidecar import figures_of
from otel_budget.sdk.sidecar_client.request import Asker
from tests.support.exposition import serve

PAGE = """\
otel_budget_limit_unjudged{resource="cost",session_id="r1"} 1
otel_budget_used{resource="tokens",session_id="r1",unit="tokens"} 5
of_another_program{b="2",a="1"} 3
"""


def test_labels_are_in_the_order_of_the_contract_and_not_of_the_page() -> None:
    """A page sorts them by their names: what is about r1 must not be about a run called cost."""
    with serve() as shown:
        shown.show(PAGE)
        figures = figures_of(Asker.of(f"http://{shown.address}"))
    assert figures == {
        (semconv.LIMIT_UNJUDGED.name, "r1", "cost"): 1.0,
        (semconv.USED.name, "r1", "tokens", "tokens"): 5.0,
        ("of_another_program", "2", "1"): 3.0,
    }
