"""``/v1/nudge``: what it answers, and that nudges are bounded."""

import asyncio

from starlette.testclient import TestClient

from otel_budget.sidecar.api.nudge import MAX_RUNS, Nudges
from otel_budget.sidecar.nudging import NudgeOutcome
from tests.support.api import Host


def test_a_nudge_is_answered_once_the_run_was_looked_at(client: TestClient, host: Host) -> None:
    """And says what was wrong if it cannot be."""
    assert client.post("/v1/nudge?session_id=a").status_code == 204
    assert client.post("/v1/nudge?session_id=b").status_code == 404
    host.otherwise = NudgeOutcome.IMPOSSIBLE
    assert client.post("/v1/nudge?session_id=b").status_code == 409
    assert host.nudged == ["a", "b", "b"]
    assert client.post("/v1/nudge").status_code == 400
    assert client.post("/v1/nudge?" + "session_id=a&" * 101).status_code == 400
    assert client.post("/v1/nudge?session_id=../a").status_code == 400
    assert client.get("/v1/nudge?session_id=a").status_code == 405


def test_a_nudge_of_several_runs_is_answered_once_all_were_looked_at(
    client: TestClient, host: Host
) -> None:
    """It says of which that cannot be; the others are looked at all the same."""
    answer = client.post("/v1/nudge?session_id=a&session_id=b&session_id=c&session_id=b")
    assert (answer.status_code, answer.json()) == (200, {"unknown": ["b", "c"], "impossible": []})
    assert sorted(host.nudged) == ["a", "b", "c"]
    host.otherwise = NudgeOutcome.IMPOSSIBLE
    answer = client.post("/v1/nudge?session_id=b&session_id=a")
    assert answer.json() == {"unknown": [], "impossible": ["b"]}


def test_nudges_that_come_at_once_are_two_at_most() -> None:
    """One that is done already may have come too early for those that came meanwhile."""
    looks: list[str] = []

    async def look(session_id: str) -> NudgeOutcome:
        looks.append(session_id)
        await asyncio.sleep(0)
        return NudgeOutcome.DONE

    async def act() -> list[NudgeOutcome]:
        nudges = Nudges(look, lambda _reason, _client: None, spacing=0.0)
        return await asyncio.gather(*(nudges.once("a", "") for _ in range(50)))

    assert asyncio.run(act()) == [NudgeOutcome.DONE] * 50
    assert looks == ["a", "a"]


def test_nudges_are_bounded_over_all_runs() -> None:
    """So that whoever asks for a thousand runs costs no more than for some."""
    refused: list[tuple[str, str]] = []

    async def act() -> list[object]:
        over = asyncio.Event()

        async def look(_session_id: str) -> NudgeOutcome:
            await over.wait()
            return NudgeOutcome.DONE

        nudges = Nudges(look, lambda *told: refused.append(told), spacing=0.0)
        asked = [
            asyncio.create_task(nudges.once(f"run-{n}", "1.2.3.4")) for n in range(MAX_RUNS + 3)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        over.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(act())
    assert found[:MAX_RUNS] == [NudgeOutcome.DONE] * MAX_RUNS
    assert [getattr(one, "status_code", None) for one in found[MAX_RUNS:]] == [429] * 3
    assert refused == [("nudges", "1.2.3.4")] * 3
