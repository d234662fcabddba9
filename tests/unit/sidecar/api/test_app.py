"""The HTTP API as a whole: every error has one shape and names what is wrong."""

import pytest
from starlette.testclient import TestClient

from tests.support.api import assert_problem


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        ("/v1/verdicts/nobody", 404, "nobody"),
        ("/v1/verdicts/-bad", 400, "session_id"),
        ("/v1/verdicts/" + "x" * 129, 400, "session_id"),
        ("/v1/verdicts?limit=abc", 400, "limit"),
        ("/v1/verdicts?limit=0", 400, "limit"),
        ("/v1/verdicts?limit=1001", 400, "limit"),
        ("/v1/verdicts?limit=-1", 400, "limit"),
        ("/v1/verdicts?limit=", 400, "limit"),
        ("/v1/verdicts?limit=%D9%A3", 400, "limit"),
        ("/v1/verdicts?status=fine", 400, "status"),
        ("/v1/verdicts?cursor=%00", 400, "cursor"),
        ("/v1/stream?session_id=a%20b", 400, "session_id"),
        ("/v1/stream?session_id=", 400, "session_id"),
        ("/", 404, "/"),
        ("/v1/verdicts/", 404, "/v1/verdicts/"),
        ("/v1/verdicts/a/b", 404, "/v1/verdicts/a/b"),
    ],
)
def test_what_is_refused_is_named_in_a_problem(
    client: TestClient, path: str, status: int, named: str
) -> None:
    assert named in assert_problem(client.get(path), status)["detail"]


def test_a_method_that_is_not_offered_is_a_problem_that_says_which_are(client: TestClient) -> None:
    answer = client.post("/v1/verdicts")
    assert_problem(answer, 405)
    assert "GET" in answer.headers["allow"]


def test_a_defect_of_ours_is_a_problem_without_its_inner_parts(client: TestClient) -> None:
    detail = assert_problem(client.get("/metrics", headers={"Accept": "broken"}), 500)["detail"]
    assert "no metrics today" not in detail
