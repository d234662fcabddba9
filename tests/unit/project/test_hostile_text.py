"""Text that somebody else wrote is text: in logs, on a terminal, in JSON, a page, a file's name."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from otel_budget import ResourceMonitor, semconv
from otel_budget.cli.main import main
from otel_budget.core import sse, verdict_json
from otel_budget.core.observation import Problem
from otel_budget.core.override import OverrideKind, override_from
from otel_budget.core.reasons import Reason
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api.app import build_app
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from otel_budget.sidecar.http_server import Refusals
from otel_budget.sources.exposition import ExpositionError, PageLimits, PageReader
from otel_budget.sources.session_assembly import NEEDED, assemble
from tests.support.api import Host
from tests.support.scripted_sidecar import Request, scripted
from tests.support.sidecar_fixtures import (
    LEASE,
    START,
    Sidecar,
    SteadyClock,
    reading,
    session,
    sidecar,
    verdict,
)

NASTY = {
    "ansi": "\x1b[2J\x1b[31mowned\x1b]0;title\x07",
    "newline": "a\nFATAL forged line\r\nSet-Cookie: x",
    "path": "../../../etc/passwd",
    "nul": "a\x00b",
    "promql": 'x"} or vector(1) or {a="',
    "html": "<script>alert(1)</script>",
    "bidi": "\u202egnp.exe",
    "long": "x" * 10_000,
    "quotes": "'\"`$(reboot)`;--",
    "empty": "",
    "spaces": "a b",
    "surrogate": "a\udc80",
    "c1": "\x9b31m",
}
#: Whatever may drive a terminal, or begin a line of its own.
UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(params=NASTY)
def nasty(request: pytest.FixtureRequest) -> str:
    """Each of them in turn."""
    return NASTY[request.param]


def quoted(text: str) -> str:
    """Return a label's value as the text format has it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return escaped.encode("utf-8", "replace").decode()


def test_a_session_id_that_cannot_be_one_makes_no_session(nasty: str) -> None:
    """So none ever gets into a path, a query, a page or a file's name."""
    name = semconv.SESSION_TOKENS.name
    page = f'{name}{{session_id="{quoted(nasty)}"}} 5\n{name}{{session_id="good"}} 6\n'.encode()
    reader = PageReader(NEEDED, PageLimits(), 1.0)
    said = ""
    try:
        found = assemble(reader.read(page, "text/plain"), "http://a/metrics", START)
    except ExpositionError as exc:  # too long, or it breaks the line it stands on
        said = str(exc)
    if said:
        assert UNSAFE.search(said) is None
        return
    assert {s.session_id for s in found.sessions} == {"good"}
    assert found.dropped == {semconv.BAD_SESSION_ID: 1}


def test_a_monitor_takes_no_such_session_id(nasty: str, tmp_path: Path) -> None:
    """Its id is the name of a folder of checkpoints."""
    with pytest.raises(InvalidValueError) as refused:
        ResourceMonitor(session_id=nasty or " ", project_root=tmp_path)
    assert UNSAFE.search(str(refused.value)) is None
    assert list(tmp_path.iterdir()) == []


def test_an_operator_writes_no_such_reason(nasty: str) -> None:
    """What is allowed is shown as it is: quotes and brackets mean nothing in a log or in JSON."""
    try:
        said = override_from(OverrideKind.STOP, {"reason": nasty}, START).reason
    except InvalidValueError as exc:
        said = str(exc)
    assert UNSAFE.search(said) is None
    assert len(said) <= 400


def test_the_log_has_one_line_for_it_and_nothing_that_drives_a_terminal(
    nasty: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a target answers, what a server warns of, and whoever asks for verdicts."""
    caplog.set_level(logging.DEBUG)
    problem = Problem("http://a/metrics", Reason.SOURCE_ERROR, f"http://a/metrics: {nasty}")
    parts: Sidecar = sidecar(tmp_path, reading(session(), problems=(problem,)))
    asyncio.run(parts.loop.tick())
    parts.storage.close()
    Refusals(parts.metrics, parts.clock)("token", nasty)
    assert len(caplog.records) >= 2
    for record in caplog.records:
        text = record.getMessage()
        assert UNSAFE.search(text) is None, text
        assert "\n" not in text
        assert len(text) < 2000


def published(nasty: str) -> VerdictBroadcaster:
    """Return a broadcaster with a verdict that has hostile text wherever there is text."""
    broadcaster = VerdictBroadcaster(LEASE, SteadyClock())
    broadcaster.publish([replace(verdict("a"), message=nasty, reason=nasty or "x")])
    return broadcaster


def test_a_stream_has_one_line_for_it_and_a_page_is_still_one(nasty: str) -> None:
    broadcaster = published(nasty)
    found = broadcaster.get("a")
    assert found is not None
    frame = sse.verdict_frame(found.verdict)
    assert [text.partition(":")[0] for text in frame.splitlines()] == ["id", "event", "data", ""]
    assert UNSAFE.search(frame) is None
    with TestClient(build_app(broadcaster, Host(), "1")) as client:
        answer = client.get("/v1/verdicts/a")
        assert answer.headers["content-type"] == "application/json"
        assert UNSAFE.search(answer.text) is None
        assert answer.json()["message"] == nasty
        named = quote(nasty.encode("utf-8", "replace") or " ", safe="")
        for path in (f"/v1/verdicts/{named}", f"/v1/verdicts?cursor={named}x"):
            refused = client.get(path)
            assert refused.status_code in (400, 404)
            assert UNSAFE.search(refused.text) is None
            assert "text/html" not in refused.headers["content-type"]


def test_the_sidecars_metrics_can_be_read_whatever_a_verdict_says(
    nasty: str, tmp_path: Path
) -> None:
    """prometheus_client escapes what is in a label; this holds it to that."""
    parts = sidecar(tmp_path, reading(session()))
    asyncio.run(parts.loop.tick())
    step = parts.evaluator.tick(None, parts.loop.settings.rules, 3600.0, parts.clock())
    parts.storage.close()
    odd = replace(step.verdicts[0], reason=nasty.replace("\udc80", "") or "x")
    parts.metrics.note_result(replace(step, verdicts=(odd,)))
    families = list(text_string_to_metric_families(parts.metrics_page()))
    infos = [f for f in families if f.name == "otel_budget_verdict_info"]
    assert [s.labels["reason"] for s in infos[0].samples] == [odd.reason]


def test_a_terminal_gets_nothing_that_drives_it(
    nasty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line shows what a sidecar says, which may be another server by now."""
    hostile: dict[str, Any] = json.loads(verdict_json.to_json(verdict("a")))
    hostile |= {"message": nasty, "reason": nasty, "run_state": nasty}
    hostile["resources"] = {nasty: hostile["resources"]["tokens"]}
    order = {"kind": nasty, "reason": nasty, "by": nasty, "at": nasty, "until": nasty,
             "limits": {nasty: nasty}}  # fmt: skip
    session_json = {"verdict": hostile, "stop": None, "limits": None, "orders": [order]}

    def script(asked: Request) -> None:
        if "/v1/sessions/" in asked.path:
            asked.say(200, json.dumps(session_json))
        elif asked.path.startswith("/v1/verdicts/a"):
            asked.say(200, json.dumps(hostile))
        elif asked.path.startswith("/v1/verdicts/b"):
            asked.say(404, json.dumps({"detail": nasty}))
        else:
            asked.say(200, json.dumps({"verdicts": [hostile], "next_cursor": None}))

    with scripted(script) as server:
        for argv in (
            ["check", "a"], ["check", "b"], ["session", "show", "a"], ["session", "list"],
            ["doctor", "--metrics", f"{server.url}/x", "--timeout", "0.1"],
        ):  # fmt: skip
            main([*argv, "--sidecar", server.url])
            said = capsys.readouterr()
            for text in (said.out, said.err):
                assert UNSAFE.search(text) is None, (argv, text)
                assert "FATAL forged line" not in [line.strip() for line in text.splitlines()]
