"""Who may call what: each operation is guarded as it declares."""

import pytest
from starlette.testclient import TestClient

from otel_budget.sidecar.api.app import TOPICS
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from otel_budget.sidecar.api.route import Access, Operation, operations_of
from tests.support.api import assert_problem, token_of

OPERATIONS = [operation for topic in TOPICS for _, operation in operations_of(topic)]


@pytest.mark.parametrize("operation", OPERATIONS, ids=[one.id for one in OPERATIONS])
@pytest.mark.parametrize(
    ("token", "refused"),
    [
        ("", {Access.READ: 401, Access.ADMIN: 401}),
        ("wrong" * 8, {Access.READ: 401, Access.ADMIN: 401}),
        (token_of("read"), {Access.ADMIN: 403}),
        (token_of("admin"), {}),
    ],
)
def test_an_operation_is_guarded_as_it_declares(
    guarded: TestClient, broadcaster: VerdictBroadcaster, operation: Operation,
    token: str, refused: dict[Access, int],
) -> None:  # fmt: skip
    broadcaster.close()  # else a stream would not end
    path = operation.path.format(
        session_id="a", stream_id="none", agent="codex", name="none", id="none"
    )
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = guarded.request(operation.method, path, headers=headers)
    if operation.access in refused:
        assert_problem(answer, refused[operation.access])
    else:
        assert answer.status_code not in {401, 403}
