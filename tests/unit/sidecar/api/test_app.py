"""The HTTP API: what it answers, and that every error has one shape."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import jsonschema
import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message

from otel_budget.cli.options import DEFAULT_SIDECAR
from otel_budget.core import verdict_json
from otel_budget.core.override import (
    Override,
    OverrideKind,
    OverrideRefusedError,
    Overrides,
    Refusal,
)
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.policy.override_effect import Effect
from otel_budget.sidecar.api.app import build_app, description
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from otel_budget.sidecar.api.health import STUCK_AFTER
from otel_budget.sidecar.api.nudge import MAX_RUNS, Nudges
from otel_budget.sidecar.nudging import NudgeOutcome
from tests.support.sidecar_fixtures import LEASE, START, SteadyClock, events, verdict


class Host:
    """The process around the API, as a test wants it."""

    ready = True
    unmatched = 0
    retry_after = 2.5
    unjudged_for = step_takes = 0.0

    def __init__(self) -> None:
        """Have been nudged by nobody."""
        self.nudged: list[str] = []
        self.otherwise = NudgeOutcome.UNKNOWN

    def now(self) -> float:
        """Return some time."""
        return 1000.0

    async def apply_override(
        self, session_id: str, override: Override, client: str
    ) -> tuple[Verdict, Effect]:
        """Stop ``a``; nothing else is there."""
        if session_id != "a":
            raise OverrideRefusedError(Refusal.UNKNOWN_RUN, f"no run {session_id!r} is known here")
        self.given = (override, client)
        return verdict("a", 7), Effect(changes=False, notes=("it was stopped",))

    async def overrides_of(
        self, session_id: str, limit: int
    ) -> tuple[Overrides, Sequence[Override]]:
        """Return one order for ``a``."""
        if session_id != "a":
            raise OverrideRefusedError(Refusal.UNKNOWN_RUN, f"no run {session_id!r} is known here")
        stop = Override(OverrideKind.STOP, "because", "ann", 1000.0, 1060.0, {})
        return Overrides(stop=stop), [stop][:limit]

    async def nudge(self, session_id: str) -> NudgeOutcome:
        """Know ``a`` alone."""
        self.nudged.append(session_id)
        return NudgeOutcome.DONE if session_id == "a" else self.otherwise

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return something recognisable."""
        if accept == "broken":
            raise RuntimeError("no metrics today")
        return f"# {accept}\n".encode(), "text/plain; version=0.0.4; charset=utf-8"


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def clock() -> SteadyClock:
    return SteadyClock()


@pytest.fixture
def broadcaster(clock: SteadyClock) -> VerdictBroadcaster:
    filled = VerdictBroadcaster(LEASE, clock)
    filled.publish([verdict("a", 1), verdict("b", 2, status=LimitStatus.EXCEEDED), verdict("c", 3)])
    return filled


@pytest.fixture
def app(broadcaster: VerdictBroadcaster, host: Host) -> Starlette:
    return build_app(broadcaster, host, "1.2.3")


@pytest.fixture
def client(app: Starlette) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as made:
        yield made


def test_one_verdict_is_its_wire_form(client: TestClient) -> None:
    answer = client.get("/v1/verdicts/a")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.json()["session_id"], answer.json()["sequence"]) == ("a", 1)


EXPIRED = {
    "session_id": "a", "last_action": "continue", "last_reason": "within_limits",
    "evaluated_at": verdict_json.timestamp(START),
    "valid_until": verdict_json.timestamp(START + LEASE),
}  # fmt: skip


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
    assert problem.items() >= EXPIRED.items()
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
    assert page["expired"][0] == EXPIRED
    page = client.get("/v1/verdicts?status=exceeded").json()
    assert (len(page["verdicts"]), len(page["expired"])) == (1, 2)
    first = client.get("/v1/verdicts?limit=2").json()
    assert (len(first["verdicts"]), len(first["expired"]), first["next_cursor"]) == (1, 1, "b")


def test_a_run_past_its_lease_shows_its_orders_all_the_same(
    client: TestClient, clock: SteadyClock
) -> None:
    clock.advance(LEASE)
    known = client.get("/v1/sessions/a").json()
    assert (known["verdict"], known["expired"]) == (None, EXPIRED)
    assert [order["reason"] for order in known["orders"]] == ["because"]


def test_verdicts_come_in_pages(client: TestClient) -> None:
    first = client.get("/v1/verdicts", params={"limit": 2}).json()
    assert [v["session_id"] for v in first["verdicts"]] == ["a", "b"]
    rest = client.get("/v1/verdicts", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([v["session_id"] for v in rest["verdicts"]], rest["next_cursor"]) == (["c"], None)


def test_verdicts_can_be_chosen_by_status(client: TestClient) -> None:
    found = client.get("/v1/verdicts?status=exceeded").json()
    assert [v["session_id"] for v in found["verdicts"]] == ["b"]


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


def test_a_last_event_id_that_is_no_number_is_refused(client: TestClient) -> None:
    answer = client.get("/v1/stream", headers={"Last-Event-ID": "abc"})
    assert "Last-Event-ID" in assert_problem(answer, 400)["detail"]


def test_a_method_that_is_not_offered_is_a_problem_that_says_which_are(client: TestClient) -> None:
    answer = client.post("/v1/verdicts")
    assert_problem(answer, 405)
    assert "GET" in answer.headers["allow"]


def test_a_defect_of_ours_is_a_problem_without_its_inner_parts(client: TestClient) -> None:
    detail = assert_problem(client.get("/metrics", headers={"Accept": "broken"}), 500)["detail"]
    assert "no metrics today" not in detail


def test_the_stream_has_the_headers_that_keep_it_flowing(client: TestClient) -> None:
    answer = client.head("/v1/stream")
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"


def test_the_stream_sends_what_is_current_and_ends_when_the_broadcaster_closes(
    client: TestClient, broadcaster: VerdictBroadcaster
) -> None:
    broadcaster.close()
    answer = client.get("/v1/stream", headers={"Last-Event-ID": "1"})
    assert [v["sequence"] for v in events([answer.content])] == [2, 3]
    assert "id: 3\nevent: verdict\n" in answer.text


def test_the_stream_carries_changes_and_forgets_a_reader_who_left(
    app: Starlette, broadcaster: VerdictBroadcaster
) -> None:
    async def follow() -> None:
        async with streaming(app, b"session_id=a") as sent:
            await sent.get()  # the headers
            assert [v["sequence"] for v in events([(await sent.get())["body"]])] == [1]
            assert broadcaster.subscribers == 1
            broadcaster.publish([verdict("a", 9)])
            assert [v["sequence"] for v in events([(await sent.get())["body"]])] == [9]

    asyncio.run(asyncio.wait_for(follow(), 10))
    assert broadcaster.subscribers == 0


def test_the_description_is_valid_and_covers_every_route(
    app: Starlette, client: TestClient
) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == "1.2.3"
    routes = {route.path for route in app.routes if isinstance(route, Route)}
    assert set(document["paths"]) == routes
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all operations of a description."""
    return [one for path in document["paths"].values() for one in path.values()]


def test_a_client_can_be_generated_from_the_description() -> None:
    """What generators and linters ask for: a server, tags, names, texts, a licence."""
    document = description("1.2.3")
    (server,) = document["servers"]
    defaults = {name: one["default"] for name, one in server["variables"].items()}
    assert server["url"].format(**defaults) == DEFAULT_SIDECAR
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    tags = [tag["name"] for tag in document["tags"]]
    assert all(tag["description"] for tag in document["tags"])
    found = operations(document)
    names = [one["operationId"] for one in found]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z][A-Za-z]+", name) for name in (*names, *tags))
    for one in found:
        assert one["summary"], one["operationId"]
        assert one["description"], one["operationId"]
        assert set(one["tags"]) <= set(tags)
        assert any(status.startswith("2") for status in one["responses"])
        assert any(status.startswith("4") for status in one["responses"])
    assert {tag for one in found for tag in one["tags"]} == set(tags)
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    assert [name for name in schemas if f'"#/components/schemas/{name}"' not in text] == []


def test_every_example_in_the_description_is_as_its_schema_says() -> None:
    """Of parameters, bodies and answers; each of these has one."""
    document = description("1.2.3")
    described = [
        described
        for one in operations(document)
        for described in (
            *one.get("parameters", ()),
            *one.get("requestBody", {"content": {}})["content"].values(),
            *(
                content
                for response in one["responses"].values()
                for content in response.get("content", {}).values()
            ),
        )
    ]
    assert len(described) > 60
    for each in described:
        jsonschema.validate(each["example"], {**document, **each["schema"]})


def test_answers_are_as_the_description_says(client: TestClient) -> None:
    assert_matches(client.get("/v1/verdicts/a").json(), "Verdict")
    assert_matches(client.get("/v1/verdicts/nobody").json(), "Problem")
    for one in client.get("/v1/verdicts").json()["verdicts"]:
        assert_matches(one, "Verdict")


def assert_problem(answer: Any, status: int) -> dict[str, Any]:
    """Return the problem in an answer; fail if it is not one."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert body["type"] == "about:blank"
    return body


def assert_matches(value: object, name: str) -> None:
    """Fail if a value is not as its schema in the description says."""
    document = description("1.2.3")
    jsonschema.validate(value, {**document, "$ref": f"#/components/schemas/{name}"})
    described = set(document["components"]["schemas"][name]["properties"])
    assert isinstance(value, dict)
    only_at_times = {"also_started_at"}  # of several runs at once
    assert set(value) == described - only_at_times


@asynccontextmanager
async def streaming(app: Starlette, query: bytes) -> AsyncIterator[asyncio.Queue[Message]]:
    """Open a stream as a server would; yield what the application sends, then hang up."""
    sent: asyncio.Queue[Message] = asyncio.Queue()
    gone = asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": "GET", "path": "/v1/stream", "raw_path": b"/v1/stream", "root_path": "",
        "query_string": query, "headers": [], "scheme": "http",
    }  # fmt: skip
    task = asyncio.create_task(app(scope, receive, sent.put))
    yield sent
    gone.set()
    await task


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
        return await asyncio.gather(*(nudges._once("a", "") for _ in range(50)))

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
            asyncio.create_task(nudges._once(f"run-{n}", "1.2.3.4")) for n in range(MAX_RUNS + 3)
        ]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        over.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(act())
    assert found[:MAX_RUNS] == [NudgeOutcome.DONE] * MAX_RUNS
    assert [getattr(one, "status_code", None) for one in found[MAX_RUNS:]] == [429] * 3
    assert refused == [("nudges", "1.2.3.4")] * 3
