"""``/v1/sessions/ID/state``: what whoever started a run tells of it."""

import pytest
from starlette.testclient import TestClient

from tests.support.api import Host


@pytest.mark.parametrize("state", ["running", "completed", "stopped", "failed"])
def test_a_state_is_handed_on(client: TestClient, host: Host, state: str) -> None:
    assert client.post(f"/v1/sessions/a/state?state={state}").status_code == 204
    assert host.told == [("a", state, None, "", "testclient")]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/sessions/nobody/state?state=completed", 404),
        ("/v1/sessions/a/state?state=paused", 400),
        ("/v1/sessions/a/state", 400),
    ],
)
def test_what_cannot_be_told_is_refused(
    client: TestClient, host: Host, path: str, status: int
) -> None:
    assert client.post(path).status_code == status
    assert host.told == []


def test_a_page_in_a_browser_tells_nothing(client: TestClient, host: Host) -> None:
    headers = {"Origin": "http://evil.example"}
    answer = client.post("/v1/sessions/a/state?state=completed", headers=headers)
    assert answer.status_code == 403
    assert host.told == []


def test_it_wants_the_token_of_a_reader(guarded: TestClient) -> None:
    assert guarded.post("/v1/sessions/a/state?state=completed").status_code == 401
