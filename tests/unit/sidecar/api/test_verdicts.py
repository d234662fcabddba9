"""``/v1/verdicts``: one verdict, or many in pages; what has expired, and what is not known."""

from starlette.testclient import TestClient

from otel_budget.core.verdict import LimitStatus
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from tests.support.api import EXPIRED_OF_A, Host, assert_problem
from tests.support.sidecar_fixtures import LEASE, SteadyClock, verdict


def test_one_verdict_is_its_wire_form(client: TestClient) -> None:
    answer = client.get("/v1/verdicts/a")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.json()["session_id"], answer.json()["sequence"]) == ("a", 1)


def test_a_verdict_past_its_lease_is_not_told_any_more(
    client: TestClient, clock: SteadyClock
) -> None:
    """Ticks fail, or the process slept: what was so then is not known to be so now."""
    clock.advance(LEASE - 0.2)
    assert client.get("/v1/verdicts/a").json()["lease_seconds"] == 0.15
    clock.advance(0.2)
    answer = client.get("/v1/verdicts/a")
    problem = assert_problem(answer, 503)
    assert problem["detail"].startswith(
        "the last verdict on the run 'a' is older than its lease of 15"
    )
    assert problem.items() >= EXPIRED_OF_A.items()
    assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("3", "no-store")


def test_a_list_has_the_verdicts_that_hold_and_says_which_do_not(
    client: TestClient, broadcaster: VerdictBroadcaster, clock: SteadyClock
) -> None:
    """One run that cannot be judged takes no other along; which status it has is not known."""
    clock.advance(LEASE)
    broadcaster.publish([verdict("b", 4, at=clock.now, status=LimitStatus.EXCEEDED)])
    page = client.get("/v1/verdicts").json()
    assert [v["session_id"] for v in page["verdicts"]] == ["b"]
    assert [run["session_id"] for run in page["expired"]] == ["a", "c"]
    assert page["expired"][0] == EXPIRED_OF_A
    page = client.get("/v1/verdicts?status=exceeded").json()
    assert (len(page["verdicts"]), len(page["expired"])) == (1, 2)
    first = client.get("/v1/verdicts?limit=2").json()
    assert (len(first["verdicts"]), len(first["expired"]), first["next_cursor"]) == (1, 1, "b")


def test_verdicts_come_in_pages(client: TestClient) -> None:
    first = client.get("/v1/verdicts", params={"limit": 2}).json()
    assert [v["session_id"] for v in first["verdicts"]] == ["a", "b"]
    rest = client.get("/v1/verdicts", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([v["session_id"] for v in rest["verdicts"]], rest["next_cursor"]) == (["c"], None)


def test_verdicts_can_be_chosen_by_status(client: TestClient) -> None:
    found = client.get("/v1/verdicts?status=exceeded").json()
    assert [v["session_id"] for v in found["verdicts"]] == ["b"]


def test_before_the_first_good_tick_an_unknown_run_is_not_a_missing_one(
    client: TestClient, host: Host
) -> None:
    host.ready = False
    for path in ("/v1/verdicts/nobody", "/v1/verdicts", "/-/ready"):
        answer = client.get(path)
        assert_problem(answer, 503)
        assert answer.headers["retry-after"] == "3"


def test_before_the_first_good_tick_what_is_known_from_the_storage_is_told(
    client: TestClient, host: Host
) -> None:
    """A run that is known to be exceeded stays stopped, also while a restarted sidecar is blind."""
    host.ready = False
    assert client.get("/v1/verdicts/b").json()["status"] == "exceeded"
