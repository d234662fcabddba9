"""A real sidecar in a process of its own, scraping a real endpoint over loopback."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from otel_budget import semconv
from otel_budget.core import sse, verdict_json
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.exposition import Exposition, line, page, serve
from tests.support.figures import note

RUN = "run-1"
STARTED_AT = 1_700_000_000.25
PATIENCE = 20.0
#: Seconds; a lease long enough that a loaded machine does not lose it, renewed once a second.
LEASE = 3.0


class Process:
    """A sidecar, its file and its log; may be started again and again."""

    def __init__(self, folder: Path, endpoint: Exposition) -> None:
        """Write the configuration; nothing runs yet."""
        self.file, self.log = folder / "sidecar.yaml", folder / "sidecar.log"
        self.endpoint = endpoint
        self.url = ""
        self._child: subprocess.Popen[bytes] | None = None
        self.write()

    def write(self, tokens: object = 1000, address: str = "127.0.0.1:0") -> None:
        """Write the file with a ceiling."""
        config = {
            "source": {"scrape": {"targets": [self.endpoint.url], "interval": "100ms"}},
            "resource_limits": {"max_tokens": tokens},
            # A loaded machine takes more than the 3 s of ``auto`` to start a process again.
            "verdicts": {"lease": LEASE, "stale_after": PATIENCE},
            "listen": {"address": address},
            "storage": {"path": "ledger.db"},
        }
        self.file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML

    def start(self) -> None:
        """Start it and wait until it listens."""
        marks = self.said().count("listening on ")
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "otel_budget", "sidecar",
                 "--config", str(self.file)],
                stderr=log, cwd=self.file.parent,
            )  # fmt: skip
        self.wait_until(lambda: self.said().count("listening on ") > marks)
        self.url = self.said().rsplit("listening on ", 1)[1].partition(";")[0]

    def end(self, number: int) -> int:
        """Send a signal that ends it; return its exit status."""
        child = self._child
        assert child is not None
        child.send_signal(number)
        status = child.wait(PATIENCE)
        self._child = None
        return status

    def hang_up(self) -> None:
        """Send SIGHUP."""
        assert self._child is not None
        self._child.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it whatever happened."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def said(self) -> str:
        """Return its log."""
        return self.log.read_text() if self.log.exists() else ""

    def wait_until(self, true: Callable[[], Any]) -> Any:
        """Return the first true value; fail with the log if none comes, or the sidecar dies."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            value = true()
            if value:
                return value
            assert self._child is None or self._child.poll() is None, self.said()
            time.sleep(0.02)
        raise TimeoutError(self.said())

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read()

    def verdict(self, session_id: str = RUN) -> dict[str, Any]:
        """Return the present verdict; empty while there is none."""
        status, body = self.get(f"/v1/verdicts/{session_id}")
        found: dict[str, Any] = json.loads(body)
        return found if status == 200 else {}

    def used(self) -> int:
        """Return the tokens the sidecar knows of; -1 while there is no verdict."""
        tokens: int = self.verdict().get("resources", {}).get("tokens", {}).get("used", -1)
        return tokens

    def show(self, tokens: int) -> None:
        """Let the run have used so many tokens."""
        self.endpoint.show(tokens_page(tokens))

    @contextlib.contextmanager
    def follow(self, headers: dict[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
        """Open the stream."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", f"/v1/stream?session_id={RUN}", headers=headers or {})
            with connection.getresponse() as answer:
                assert answer.status == 200
                yield answer


def tokens_page(tokens: int) -> str:
    """Return what the endpoint of a run shows."""
    return page(
        line(semconv.SESSION_TOKENS, tokens, RUN),
        line(semconv.SESSION_API_CALLS, 3, RUN),
        line(semconv.SESSION_START, repr(STARTED_AT), RUN),
        line(semconv.INCARNATION_START, repr(STARTED_AT), RUN),
    )


def events(stream: http.client.HTTPResponse) -> Iterator[sse.ServerEvent]:
    """Yield the events of a stream until it ends."""
    decoder = sse.EventDecoder()
    for raw in stream:
        yield from decoder.feed(raw.decode().rstrip("\n"))


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """A sidecar that runs and has judged a run that used 500 of 1000 tokens."""
    with serve() as endpoint:
        made = Process(tmp_path, endpoint)
        made.show(500)
        made.start()
        try:
            made.wait_until(made.verdict)
            yield made
        finally:
            made.stop()


def check(process: Process, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run ``otel-budget check`` against the sidecar."""
    command = [sys.executable, "-m", "otel_budget", "check", "--sidecar", process.url, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_a_run_is_scraped_judged_and_told_by_get(process: Process) -> None:
    verdict = process.verdict()
    assert (verdict["action"], verdict["status"]) == ("continue", "ok")
    assert verdict["resources"]["tokens"]["limit_from"] == "sidecar"
    assert verdict["run_started_at"] == STARTED_AT
    assert process.get("/-/ready")[0] == 200
    process.show(1200)
    process.wait_until(lambda: process.verdict()["action"] == "stop")
    assert process.verdict()["reason"] == "limit_exceeded"
    status, metrics = process.get("/metrics")
    assert status == 200
    assert b'otel_budget_verdict{session_id="run-1"} 0.0' in metrics


def test_a_change_comes_through_the_stream_without_asking(process: Process) -> None:
    with process.follow() as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        coming = events(stream)
        first = next(coming)
        assert verdict_json.from_json(first.data).action == "continue"
        process.show(1200)
        stop = next(e for e in coming if verdict_json.from_json(e.data).action == "stop")
        assert int(stop.id) > int(first.id)
        # Nothing new is said now, so the next one renews the lease with the same number.
        assert next(coming).id == stop.id
    with process.follow({"Last-Event-ID": first.id}) as stream:
        assert next(events(stream)).id == stop.id


def test_sighup_takes_up_a_good_file_and_leaves_a_bad_one(process: Process) -> None:
    process.write(tokens=400)
    process.hang_up()
    process.wait_until(lambda: process.verdict()["action"] == "stop")
    process.write(tokens="many")
    process.hang_up()
    process.wait_until(lambda: "reload refused" in process.said())
    assert f"{process.file}:1" in process.said()
    assert process.verdict()["resources"]["tokens"]["limit"] == 400
    assert b"last_reload_successful 0.0" in process.get("/metrics")[1]
    process.write(tokens=2000)
    process.hang_up()
    process.wait_until(lambda: process.verdict()["action"] == "continue")
    assert b"last_reload_successful 1.0" in process.get("/metrics")[1]


def test_sigterm_ends_it_in_order_and_soon_with_a_stream_open(process: Process) -> None:
    with process.follow() as stream:
        coming = events(stream)
        next(coming)
        process.show(1200)
        process.endpoint.wait_until_asked(1)
        began = time.monotonic()
        assert process.end(signal.SIGTERM) == 0
        took = time.monotonic() - began
        assert took < 5
        # The last word is a fresh one, and then the stream is over.
        assert [verdict_json.from_json(e.data).action for e in coming][-1] == "stop"
    assert "ended in order" in process.said()
    assert "Traceback" not in process.said()
    assert not list(process.file.parent.glob("*.db-wal"))
    note(
        "Nothing lost",
        "SIGTERM while a run crosses its limit, with a stream open",
        f"a last scrape, its stop heard on the stream, stream and storage closed, in {took:.1f} s",
    )


def test_sigterm_ends_it_soon_while_a_target_never_answers(process: Process) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = json.loads(process.file.read_text())
        scrape = config["source"]["scrape"]
        scrape["targets"] = [f"http://127.0.0.1:{silent.getsockname()[1]}/metrics"]
        scrape["timeout"] = scrape["interval"] = "60s"
        process.file.write_text(json.dumps(config))
        process.hang_up()
        silent.settimeout(PATIENCE)
        asked, _ = silent.accept()
        began = time.monotonic()
        assert process.end(signal.SIGTERM) == 0
        took = time.monotonic() - began
        assert took < 5
        asked.close()
    assert "Traceback" not in process.said()
    note("Nothing lost", "SIGTERM while a target never answers", f"ended in {took:.1f} s")


def test_sigterm_ends_it_soon_while_a_reader_does_not_read(process: Process) -> None:
    host, _, port = process.url.removeprefix("http://").partition(":")
    process.endpoint.show(page(*(line(semconv.SESSION_TOKENS, n, f"run-{n}") for n in range(300))))
    process.wait_until(lambda: process.verdict("run-299"))
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        reader.connect((host, int(port)))
        reader.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        reader.recv(10)
        began = time.monotonic()
        assert process.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5
    assert "ended in order" in process.said()
    assert "Traceback" not in process.said()


def test_killed_and_started_again_it_goes_on_where_it_was(process: Process) -> None:
    process.show(900)
    process.wait_until(lambda: process.used() == 900)
    before = (
        process.wait_until(lambda: process.verdict()["status"] == "approaching")
        and (process.verdict()["sequence"])
    )
    assert "with 0 runs\n" in process.said()
    process.end(signal.SIGKILL)
    process.show(950)
    process.start()
    assert "with 1 run\n" in process.said()
    process.wait_until(lambda: process.used() >= 950)
    assert process.used() == 950
    assert process.verdict()["sequence"] == before
    process.show(1000)
    process.wait_until(lambda: process.verdict()["action"] == "stop")
    assert process.verdict()["sequence"] == before + 1


def test_started_again_it_tells_at_once_what_it_knows_while_its_source_hangs(
    process: Process,
) -> None:
    process.show(1200)
    process.wait_until(lambda: process.verdict().get("action") == "stop")
    process.end(signal.SIGKILL)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = json.loads(process.file.read_text())
        target = f"http://127.0.0.1:{silent.getsockname()[1]}/metrics"
        config["source"]["scrape"].update(targets=[target], timeout="60s", interval="60s")
        config["verdicts"]["lease"] = 180  # without a look of its own it would take a third of this
        process.file.write_text(json.dumps(config))
        process.start()
        status, body = process.get(f"/v1/verdicts/{RUN}")
        assert (status, json.loads(body)["action"]) == (200, "stop")
        assert process.get("/-/ready")[0] == 503


def test_killed_and_started_again_without_its_source_it_still_stops_what_was_exceeded(
    process: Process,
) -> None:
    process.show(1200)
    process.wait_until(lambda: process.verdict()["action"] == "stop")
    process.end(signal.SIGKILL)
    process.endpoint.show(None)
    process.start()
    process.wait_until(lambda: process.get("/-/ready")[0] == 200)  # read, and found its target down
    assert process.verdict()["action"] == "stop"
    assert process.get("/-/healthy")[0] == 200
    assert process.get("/v1/verdicts/nobody")[0] == 404


def test_killed_in_the_middle_of_writing_it_neither_loses_nor_doubles(process: Process) -> None:
    tokens = 500
    for _ in range(3):
        for _ in range(5):
            tokens += 1
            process.show(tokens)
            process.endpoint.wait_until_asked(1)
        process.end(signal.SIGKILL)
        process.start()
        process.wait_until(lambda: process.used() >= tokens)  # noqa: B023 - called before it moves on
        assert process.used() == tokens


def test_a_taken_port_is_an_error_that_says_so(process: Process, tmp_path: Path) -> None:
    address = process.url.removeprefix("http://")
    command = [sys.executable, "-m", "otel_budget", "sidecar", "--target", process.endpoint.url,
               "--listen", address, "--storage", str(tmp_path / "other.db")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert f"cannot listen on {address}" in done.stderr
    assert "--listen" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "other.db").exists()


def test_a_storage_in_use_is_an_error_that_says_so(process: Process) -> None:
    storage = str(process.file.parent / "ledger.db")
    command = [sys.executable, "-m", "otel_budget", "sidecar", "--target", process.endpoint.url,
               "--listen", "127.0.0.1:0", "--storage", storage]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert "another sidecar uses it" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_storage_can_be_read_and_backed_up_by_others_while_it_is_written(
    process: Process, tmp_path: Path
) -> None:
    """From another process, at the rate of the ticks; a sidecar starts from the copy."""
    process.wait_until(lambda: process.used() >= 0)
    storage, backup = process.file.parent / "ledger.db", tmp_path / "backup.db"
    look = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True, timeout=0)\n"
        "for _ in range(20):\n"
        "    print(*db.execute('SELECT session_id FROM account').fetchone())\n"
        "db.execute('VACUUM INTO ?', (sys.argv[2],))\n"
    )
    command = [sys.executable, "-c", look, str(storage), str(backup)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.stdout.split(), done.stderr) == ([RUN] * 20, "")
    copy, restored = open_sqlite(str(backup))
    copy.close()
    assert [account.session_id for account in restored.runs] == [RUN]


def test_check_exits_by_the_verdict(process: Process) -> None:
    told = check(process, RUN, "--json")
    assert (told.returncode, json.loads(told.stdout)["action"]) == (0, "continue")
    assert check(process, "nobody").returncode == 4
    process.show(1200)
    process.wait_until(lambda: process.verdict()["action"] == "stop")
    told = check(process, RUN)
    assert told.returncode == 3
    assert told.stdout.startswith(f"{RUN}: stop (limit_exceeded)")
    process.end(signal.SIGTERM)
    assert check(process, RUN).returncode == 4


def test_check_into_a_closed_pipe_dies_quietly(process: Process) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "otel_budget", "check", "--sidecar", process.url, RUN]
    with contextlib.closing(os.fdopen(writer, "wb")) as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_description_is_valid_and_every_path_in_it_answers(process: Process) -> None:
    document = json.loads(process.get("/openapi.json")[1])
    verdict = process.verdict()
    jsonschema.validate(verdict, {**document, "$ref": "#/components/schemas/Verdict"})
    for path, operations in document["paths"].items():
        if path != "/v1/stream" and "get" in operations:
            has_none = path == "/v1/receiver" or path.startswith("/v1/budgets/")
            there = 404 if has_none else 200
            asked = path.format(session_id=RUN, name="of-nobody") + required_query(
                operations["get"]
            )
            assert process.get(asked)[0] == there, asked


def required_query(operation: dict[str, Any]) -> str:
    """Return the query that an operation cannot do without, of its own examples."""
    query = {
        one["name"]: one["example"]
        for one in operation.get("parameters", ())
        if one["in"] == "query" and one["required"]
    }
    return f"?{urllib.parse.urlencode(query)}" if query else ""
