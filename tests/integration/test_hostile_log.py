"""A real sidecar's log beside a target that has something new to say at each scrape."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from pathlib import Path

from otel_budget import semconv
from otel_budget.logs.line_limit import SPEAKER
from tests.support.exposition import line, page, serve
from tests.support.figures import note
from tests.support.processes import sidecar, until
from tests.support.raw_server import respond, serve_raw

TOKENS, LIMIT = semconv.SESSION_TOKENS, semconv.LIMIT
SCRAPES = 25
KINDS = 8
"""Of lines about it that there may be: seen, stopped, ended, vanished, odd, failing, well again."""


def test_a_hostile_target_leaves_room_for_what_is_said_of_an_honest_one(tmp_path: Path) -> None:
    """New ids, a run that goes to and fro, odd times and ever new errors, at every scrape."""
    asked: list[int] = []

    def hostile(connection: socket.socket, over: threading.Event) -> None:
        asked.append(n := len(asked))
        if n % 4 == 3:
            word = "".join(chr(97 + int(digit)) for digit in str(n)) * 5
            respond(f"{word} {word}\n".encode(), f"text/{word}", "503 No")(connection, over)
            return
        made_up = [line(TOKENS, 5_000, f"made-up-{n}-{k}") for k in range(19)]
        limit = line(LIMIT, 10 if n % 2 else 10**6, "flap", resource="tokens", unit="tokens")
        text = page(*made_up, line(TOKENS, 500, "flap"), limit)
        respond(text.encode())(connection, over)

    with serve() as honest, serve_raw(hostile) as address:
        honest.show(page(line(TOKENS, 5, "honest")))
        flags = [
            "--target", f"http://{address}/metrics", "--target", honest.url,
            "--interval", "100ms", "--max-tokens", "1000",
        ]  # fmt: skip
        with sidecar(tmp_path, *flags) as side:
            until(lambda: len(asked) > SCRAPES, side.process)
            honest.show(page(line(TOKENS, 5_000, "honest")))
            until(lambda: stopped(side.url), side.process)
            said = until(lambda: side.said() if "run 'honest': stop" in side.said() else "")
    lines = said.splitlines()
    assert len([one for one in lines if "run 'honest': seen at" in one]) == 1
    assert len([one for one in lines if "run 'honest': stop (limit_exceeded)" in one]) == 1
    about = [one for one in lines if "honest" not in one]
    assert 10 < len(about) <= KINDS * (SPEAKER.burst + SCRAPES / SPEAKER.every) + 20
    note(
        "One costs one",
        f"a target with 19 new runs, or a new error, at each of {SCRAPES} scrapes",
        f"{len(about)} lines of log about it; what is said of the honest run is there, once",
    )


def stopped(url: str) -> bool:
    """Tell whether the honest run has been told to stop."""
    with urllib.request.urlopen(f"{url}/v1/verdicts/honest", timeout=5) as answer:
        return bool(json.load(answer)["action"] == "stop")
