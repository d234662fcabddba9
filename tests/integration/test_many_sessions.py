"""A target that makes up session ids without end, against a real sidecar: it stays as it is."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_budget import semconv
from tests.support.exposition import line, page
from tests.support.figures import length, note
from tests.support.http_server import serving
from tests.support.processes import SidecarProcess, sidecar, until

KNOWN, A_PAGE, LIMIT = 20, 10_000, 2000


class Flood:
    """Shows the known runs, and others beside them that were never there before."""

    def __init__(self) -> None:
        """Show none of the others yet."""
        self.open, self.made_up = False, 0

    def text(self) -> str:
        """Return the next page."""
        lines = [line(semconv.SESSION_TOKENS, 5, f"known-{n}") for n in range(KNOWN)]
        if self.open:
            begin, self.made_up = self.made_up, self.made_up + A_PAGE
            lines += [
                line(semconv.SESSION_TOKENS, 5, f"made-up-{begin + n}") for n in range(A_PAGE)
            ]
        return page(*lines)


@contextmanager
def flooding() -> Iterator[tuple[Flood, str]]:
    """Serve it; yield it and its URL."""
    flood = Flood()
    with serving(lambda _path, _asked: (200, flood.text().encode()), "text/plain") as url:
        yield flood, f"{url}/metrics"


def resident(process: SidecarProcess) -> int:
    """Return the memory of the process in bytes."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def dropped(process: SidecarProcess) -> float:
    """Return the samples refused because of the limit."""
    with urllib.request.urlopen(process.url + "/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r'dropped_samples_total\{reason="session_limit"\} (\S+)', text)
    assert found is not None
    return float(found[1])


def test_session_ids_without_end_end_in_a_bounded_memory(tmp_path: Path) -> None:
    ids = length(60_000, 1_000_000)
    with flooding() as (flood, url):
        file = tmp_path / "sidecar.yaml"
        scrape = {"targets": [url], "interval": "500ms", "session_limit": LIMIT}
        config = {
            "source": {"scrape": scrape},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": str(tmp_path / "ledger.db")},
        }
        file.write_text(json.dumps(config))
        with sidecar(tmp_path, config=file) as process:
            until(lambda: process.verdict("known-0"))
            flood.open = True
            until(lambda: flood.made_up >= 3 * A_PAGE)
            early = resident(process)
            until(lambda: flood.made_up >= ids, process.process, 600)
            late = resident(process)
            until(lambda: dropped(process) >= ids - LIMIT - 2 * A_PAGE)
            for number in range(KNOWN):
                verdict = process.verdict(f"known-{number}")
                assert verdict is not None
                assert (verdict["action"], verdict["reason"]) == ("continue", "within_limits")
            assert process.verdict(f"made-up-{LIMIT + 10}") is None
            said = process.said()
    assert said.count("shows more runs than session_limit allows") == 1
    assert late < early + 50_000_000, (early, late)
    mega = 1_000_000
    note(
        "Lets no one in",
        f"{ids:,} distinct session ids from one target, {LIMIT:,} allowed",
        f"memory {early / mega:.0f} MB after {3 * A_PAGE:,}, {late / mega:.0f} MB after {ids:,}; "
        f"{KNOWN} known runs kept their verdicts; counted, and said once in the log",
    )
