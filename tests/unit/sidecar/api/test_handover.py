"""``/v1/handover``: what is taken, what is refused, and that it is on disk before that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest
from starlette.testclient import TestClient

from otel_budget.core.observation import HANDED_OVER, RunObservation
from otel_budget.sidecar.api.handover import MAX_AT_ONCE, Handover
from otel_budget.sidecar.handovers import HandoverOutcome
from otel_budget.sidecar.storage.base import StorageError
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.api import Host, assert_problem, token_of
from tests.support.sidecar_fixtures import START, Sidecar, reading, session, sidecar

TEXT = {"content-type": "text/plain; version=0.0.4"}


def state_of(session_id: str, *, state: str = "completed", tokens: str = "3000") -> str:
    """Return the last state of a run as its page shows it."""
    sid = f'session_id="{session_id}"'
    return (
        f"otel_budget_tokens_total{{{sid}}} {tokens}\n"
        f"otel_budget_session_start_timestamp_seconds{{{sid}}} 1000.5\n"
        f"otel_budget_incarnation_start_timestamp_seconds{{{sid}}} 1000.50012\n"
        f'otel_budget_session_state{{{sid},state="{state}"}} 1\n'
    )


def test_what_ended_is_taken_and_what_was_refused_is_named(client: TestClient, host: Host) -> None:
    """204 for all of it; a run that another process carries is named."""
    page = state_of("a")
    assert client.post("/v1/handover", content=page, headers=TEXT).status_code == 204
    (run,) = host.handed_over
    assert (run.session_id, run.target) == ("a", f"{HANDED_OVER}testclient")
    assert (run.attributes.state, run.attributes.incarnation_at) == ("completed", 1000.50012)
    refused = client.post("/v1/handover", content=state_of("b"), headers=TEXT)
    assert "carried by another process" in assert_problem(refused, 409)["detail"]
    both = client.post("/v1/handover", content=page + state_of("b"), headers=TEXT)
    assert (both.status_code, both.json()) == (200, {"refused": ["b"]})
    host.handed = HandoverOutcome.NOT_STORED
    failed = client.post("/v1/handover", content=page, headers=TEXT)
    assert_problem(failed, 503)
    assert failed.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    "page",
    [
        "", "no page", "# only a comment\n", state_of("a", state="running"),
        state_of("a").replace("incarnation", "other"), state_of("../a"), state_of("a")[:-1],
        "".join(state_of(f"run-{number}") for number in range(101)),
    ],
)  # fmt: skip
def test_what_is_no_last_state_is_refused(client: TestClient, host: Host, page: str) -> None:
    """A run that goes on is read, not told of."""
    answer = client.post("/v1/handover", content=page, headers=TEXT)
    assert_problem(answer, 400)
    assert not host.handed_over


def test_a_body_is_bounded_and_of_its_type(client: TestClient) -> None:
    """As with every other operation."""
    assert_problem(client.post("/v1/handover", json={}), 415)
    large = client.post("/v1/handover", content="#" * 70_000, headers=TEXT)
    assert_problem(large, 413)


def test_a_page_in_a_browser_hands_over_nothing(client: TestClient, host: Host) -> None:
    """It could post text to the loopback address of whoever looks at it."""
    headers = {**TEXT, "origin": "http://evil.example"}
    assert_problem(client.post("/v1/handover", content=state_of("a"), headers=headers), 403)
    assert not host.handed_over


def test_it_takes_a_token_that_may_read(guarded: TestClient, host: Host) -> None:
    """As a scrape's numbers are no order."""
    page = state_of("a")
    assert guarded.post("/v1/handover", content=page, headers=TEXT).status_code == 401
    headers = {**TEXT, "authorization": f"Bearer {token_of('read')}"}
    assert guarded.post("/v1/handover", content=page, headers=headers).status_code == 204
    assert len(host.handed_over) == 1


def test_those_that_wait_are_bounded(client: TestClient, host: Host) -> None:
    """Past that they are to be tried again."""
    refused: list[tuple[str, str]] = []
    topic = Handover(host, lambda *told: refused.append(told), 65_536)
    topic._under_way = MAX_AT_ONCE
    with pytest.raises(Exception, match="are being judged already"):
        asyncio.run(topic.hand_over(_Asked()))  # type: ignore[arg-type] # all it uses of a request
    assert refused == [("nudges", "")]


class _Asked:
    client = None
    headers: ClassVar[dict[str, str]] = {}


def handed(run: str, tokens: int) -> RunObservation:
    """Return the last state of a run."""
    found = session(run, tokens, state="completed")
    return found._replace(target=f"{HANDED_OVER}127.0.0.1")


def take(parts: Sidecar, *batches: list[RunObservation]) -> list[list[HandoverOutcome]]:
    """Hand over several at once."""

    async def act() -> list[list[HandoverOutcome]]:
        return await asyncio.gather(*(parts.loop.hand_over(each, {}) for each in batches))

    return asyncio.run(act())


def test_it_is_judged_published_and_on_disk_before_it_is_answered(tmp_path: Path) -> None:
    """A sidecar that is killed then knows the run, and its end, when it comes back."""
    parts = sidecar(tmp_path, reading())
    taken = HandoverOutcome.TAKEN
    assert take(parts, [handed("run-1", 10), handed("run-2", 2000)], [handed("run-3", 30)]) == [
        [taken, taken], [taken]
    ]  # fmt: skip
    found = parts.broadcaster.get("run-2")
    assert found is not None
    assert (found.verdict.action, found.verdict.run_state) == ("stop", "completed")
    parts.storage.close()
    storage, restored = open_sqlite(str(tmp_path / "otel-budget.db"))
    assert {(run.session_id, run.attributes.state) for run in restored.runs} == {
        (name, "completed") for name in ("run-1", "run-2", "run-3")
    }
    storage.close()


def test_what_cannot_be_stored_or_may_not_be_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is to be tried again, the other is not."""
    parts = sidecar(tmp_path, reading(session("run-1", 5, at=START)))
    asyncio.run(parts.loop.tick())
    other = handed("run-1", 10)
    other = other._replace(attributes=other.attributes._replace(incarnation_at=START - 3))
    assert take(parts, [other]) == [[HandoverOutcome.REFUSED]]

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(parts.storage, "commit", full)
        assert take(parts, [handed("run-1", 10)]) == [[HandoverOutcome.NOT_STORED]]
    assert take(parts, [handed("run-1", 10)]) == [[HandoverOutcome.TAKEN]]
    parts.storage.close()
