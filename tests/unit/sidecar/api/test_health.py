"""``/-/healthy``, ``/-/ready`` and ``/metrics``: whether the process works, and its metrics."""

from starlette.testclient import TestClient

from otel_budget.sidecar.api.health import STUCK_AFTER
from tests.support.api import Host, assert_problem
from tests.support.sidecar_fixtures import LEASE


def test_metrics_are_those_of_the_process_as_asked_for(client: TestClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "text/x"})
    assert answer.text == "# text/x\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_health_does_not_depend_on_the_source(client: TestClient, host: Host) -> None:
    host.ready = False
    assert client.get("/-/healthy").status_code == 200
    assert client.get("/-/ready").status_code == 503
    host.ready = True
    answer = client.get("/-/ready")
    assert (answer.status_code, answer.text) == (200, "ready\n")


def test_ready_is_who_has_judged_within_the_lease_and_healthy_is_also_who_has_not(
    client: TestClient, host: Host
) -> None:
    """A restart frees no disk, so it is not to be restarted for it; it is sent nobody."""
    host.unjudged_for = LEASE - 0.1
    assert client.get("/-/ready").status_code == 200
    host.unjudged_for = LEASE + 5
    problem = assert_problem(client.get("/-/ready"), 503)
    assert problem["detail"].startswith("no tick has succeeded for 20 s, longer than the lease")
    assert client.get("/-/healthy").status_code == 200


def test_a_tick_that_hangs_for_minutes_is_bad_health(client: TestClient, host: Host) -> None:
    host.step_takes = STUCK_AFTER
    assert client.get("/-/healthy").status_code == 200
    host.step_takes = STUCK_AFTER + 1
    assert_problem(client.get("/-/healthy"), 503)


def test_readiness_points_to_the_log_where_there_is_nothing_to_count(
    client: TestClient, host: Host
) -> None:
    """It names no target: anybody may ask."""
    host.unmatched = 2
    answer = client.get("/-/ready")
    assert answer.status_code == 200
    assert answer.text == "ready\nnothing to count at 2 of its targets: see the log\n"
