"""A target for which a server cannot answer: it costs its own runs, and no other's."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.parse
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.core.reasons import Reason
from otel_budget.ledger.ledger import Ledger
from otel_budget.sources.faulty_targets import AGAIN
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.prometheus_vector import ANSWERS, SAMPLED
from tests.support.exposition import Exposition, line, page
from tests.support.figures import note
from tests.support.http_server import serving
from tests.support.prometheus_process import JOB

TOKENS = semconv.SESSION_TOKENS


class Server:
    """A server with a run at each of many targets, which refuses a query that selects some."""

    def __init__(self) -> None:
        """Have twenty targets, all of them good."""
        self.instances = [f"10.0.0.{number}:9464" for number in range(20)]
        self.bad: set[str] = set()
        self.refusal: tuple[int, dict[str, Any]] = (422, {"errorType": "execution", "error": "no"})
        self.asked = 0
        self.series: dict[str, float] = {}
        """Instance to the number of its series, where it has more than the others."""

    def answer(self, _path: str, form: bytes) -> tuple[int, bytes]:
        """Answer, as far as the matchers on the instance select."""
        self.asked += 1
        query = dict(urllib.parse.parse_qsl(form.decode()))["query"]
        found = re.search(r'instance(=~|!~)"((?:[^"\\]|\\.)*)"', query)
        chosen = self.instances
        if found is not None:
            pattern = re.compile(found[2].replace("\\\\", "\\"))
            chosen = [i for i in chosen if bool(pattern.fullmatch(i)) == (found[1] == "=~")]
        if query.startswith(("count by", "max by")):
            rows = [({"job": JOB, "instance": i}, self.series.get(i, 40.0)) for i in chosen]
        elif self.bad & set(chosen):
            status, body = self.refusal
            return status, json.dumps({"status": "error", **body}).encode()
        else:
            rows = [
                ({"__name__": "up", "job": JOB, "instance": i, ANSWERS: "1"}, 1.0)
                for i in self.instances
            ]
            for i in chosen:
                run = {"job": JOB, "instance": i, semconv.SESSION_ID: f"run-{i}"}
                rows += [({"__name__": TOKENS.name, **run}, 7.0)]
                rows += [({**run, SAMPLED: "1"}, time.time())]
        result = [{"metric": labels, "value": [time.time(), str(v)]} for labels, v in rows]
        data = {"resultType": "vector", "result": result}
        return 200, json.dumps({"status": "success", "data": data}).encode()


REFUSALS: dict[str, tuple[int, dict[str, Any]]] = {
    "422": (422, {"errorType": "execution", "error": "same labelset"}),
    "HTTP 200 that is an error": (200, {"errorType": "execution", "error": "too many"}),
    "too large": (200, {"padding": "x" * 60_000}),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_target_for_which_the_query_is_refused_costs_its_own_runs(refusal: str) -> None:
    """Found once, left out, tried again after a minute, and there again when it is in order."""
    server, now = Server(), [1000.0]
    bad = "10.0.0.13:9464"
    server.refusal = REFUSALS[refusal]

    async def readings() -> list[tuple[Observation, int]]:
        found = []
        settings = PrometheusSettings(url, body_size_limit=30_000)
        source = PrometheusSource(settings, lambda: now[0])
        for step, wait in enumerate((1.0, 1.0, 1.0, AGAIN, 1.0, AGAIN)):
            now[0] += wait
            server.bad = {bad} if 1 <= step <= 4 else set()
            before = server.asked
            found.append((await source.read(), server.asked - before))
        await source.close()
        return found

    with serving(server.answer) as url:
        found = asyncio.run(readings())
    for step, (reading, asked) in enumerate(found):
        lost = {session.session_id for session in found[0][0].sessions} - {
            session.session_id for session in reading.sessions
        }
        if step <= 2:
            assert reading.targets == frozenset(f"{JOB}/{i}" for i in server.instances)
        if not 1 <= step <= 4:
            assert (lost, reading.problems, asked) == (set(), (), 1)
            continue
        assert lost == {f"run-{bad}"}
        (problem,) = reading.problems
        assert (problem.target, problem.reason) == (f"{JOB}/{bad}", Reason.SOURCE_ERROR)
        assert asked <= {1: 15, 3: 4}.get(step, 1)
    ledger = Ledger()
    for reading, _ in found[:3]:
        ledger.apply(reading)
    snapshots = {known.session_id: known for known in ledger.snapshots(now[0])}
    assert snapshots[f"run-{bad}"].trouble is Reason.SOURCE_ERROR
    assert [known.trouble for known in snapshots.values()].count(None) == 19


SLOW = (503, {"errorType": "timeout", "error": "query timed out in query execution"})


def left_out(server: Server, steps: str) -> list[set[str]]:
    """Read once for each step, with the server slow where it is an ``s``; return what is in doubt.

    Steps are a minute apart where there is a space.
    """
    bad, now = set(server.bad), [1000.0]

    async def doubted() -> list[set[str]]:
        found, source = [], PrometheusSource(PrometheusSettings(url), lambda: now[0])
        for step in steps:
            now[0] += AGAIN if step == " " else 1
            if step != " ":
                server.bad = bad if step == "s" else set()
                found.append({problem.target for problem in (await source.read()).problems})
        await source.close()
        return found

    with serving(server.answer) as url:
        return asyncio.run(doubted())


def test_a_target_that_makes_the_answer_to_all_too_slow_costs_its_own_runs() -> None:
    """Told by its number of series; once may be the server's own trouble."""
    server, bad = Server(), "10.0.0.13:9464"
    server.refusal, server.bad, server.series = SLOW, {bad}, {bad: 600_000}
    named = {f"{JOB}/{bad}"}
    found = left_out(server, "gsgsss s g")
    assert found == [set(), {""}, set(), {""}, named, named, named, set()]


def test_a_server_that_is_slow_for_all_has_nobody_left_out() -> None:
    """None has far more series than the others, or it is not that one."""
    server = Server()
    server.refusal, server.bad = SLOW, {server.instances[3]}
    assert left_out(server, "ssss") == [{""}] * 4
    server.series = {server.instances[5]: 600_000}
    assert left_out(server, "ssss") == [{""}] * 4


def test_a_server_that_refuses_everything_is_an_error_of_the_source() -> None:
    """It is not looked for culprits at every reading."""
    server = Server()
    server.bad = set(server.instances)

    async def asked() -> list[int]:
        found, source = [], PrometheusSource(PrometheusSettings(url), lambda: 1000.0)
        for _ in range(3):
            before = server.asked
            reading = await source.read()
            assert [problem.target for problem in reading.problems] == [""]
            found.append(server.asked - before)
        await source.close()
        return found

    with serving(server.answer) as url:
        first, *others = asyncio.run(asked())
    assert first <= 70
    assert others == [1, 1]


@pytest.mark.real("prometheus")
def test_labels_without_end_at_one_target_of_a_real_prometheus(
    prometheus_url: str, scraped: tuple[Exposition, ...]
) -> None:
    """The answer is too large with them, and as it should be without."""
    hostile, good = scraped
    lines = [line(TOKENS, 1, f"big-{number}", model="x" * 2000) for number in range(40)]
    hostile.show(page(*lines))
    good.show(page(line(TOKENS, 7, "run-2")))
    for endpoint in scraped:
        endpoint.wait_until_asked(2)

    async def read() -> Observation:
        query = PrometheusSettings(
            prometheus_url, matchers=(f'job="{JOB}"',), body_size_limit=50_000
        )
        source = PrometheusSource(query, time.time)
        try:
            return await source.read()
        finally:
            await source.close()

    reading = asyncio.run(read())
    hostile.show("")
    assert [session.session_id for session in reading.sessions] == ["run-2"]
    (problem,) = reading.problems
    assert problem.target == f"{JOB}/{hostile.address}"
    assert problem.detail.startswith(f"{problem.target}: ")
    assert "larger than 50,000 bytes" in problem.detail
    note(
        "One costs one",
        "a target of a real Prometheus whose labels make the answer larger than it may be",
        "it is named and left out; the run of the other target is read",
    )
