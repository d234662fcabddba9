"""The HTTP API against its own description: schemathesis, all checks on, on a real sidecar.

The stream is left out: it never ends, and
tests/unit/sidecar/api/test_app.py has what may be asked of it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_budget import semconv
from tests.support.exposition import line, page, serve
from tests.support.figures import length, note
from tests.support.processes import sidecar, until

RUN = "run-1"
TOKENS = {"admin": "a" * 32, "reader": "r" * 32, "nobody": ""}


#: Who asks, and what they have to show.
CASES = [
    ("admin of a run", "guarded"), ("nobody", "guarded"), ("admin", "open"),
    ("reader", "guarded"), ("nobody", "open"),
]  # fmt: skip


@pytest.mark.parametrize(("who", "way"), CASES[: length(3, len(CASES))])
def test_every_answer_is_one_that_the_description_has(who: str, way: str, tmp_path: Path) -> None:
    """With each token and without one, where tokens are asked for and where they are not."""
    for name in ("admin", "reader"):
        (tmp_path / name).write_text(TOKENS[name])
    listen = {"address": "127.0.0.1:0", "admin_token_file": str(tmp_path / "admin")}
    if way == "guarded":
        listen["read_token_file"] = str(tmp_path / "reader")
    with serve() as endpoint:
        endpoint.show(page(line(semconv.SESSION_TOKENS, 5, RUN)))
        config = {
            "source": {"scrape": {"targets": [endpoint.url], "interval": "200ms"}},
            "listen": listen,
            "storage": {"path": str(tmp_path / "ledger.db")},
        }
        (tmp_path / "sidecar.yaml").write_text(json.dumps(config))
        with sidecar(tmp_path, config=tmp_path / "sidecar.yaml") as process:
            until(lambda: "run 'run-1': seen" in process.said())
            time.sleep(0.3)
            requests = fuzz(process.url, tmp_path, who)
            assert "Traceback" not in process.said(), process.said()
    note(
        "Tried by machines",
        f"schemathesis over the API, {way}, as {who}",
        f"{requests:,} requests, all checks on, no finding",
    )


#: Where a text has a grammar that no schema says, whatever else is generated is refused: a body of
#: text, a moment, a place in a list, and a group or label, which depend on the configuration.
_OF_QUERY = ("2xx", "400", "401", "403", "404", "5xx")
_TEXTS = {
    "/v1/handover": ("2xx", "400", "401", "403", "409", "5xx"),
    "/v1/audit": _OF_QUERY,
    "/v1/budgets": _OF_QUERY,
    "/v1/budgets/{name}": _OF_QUERY,
    "/v1/budgets/{name}/windows": _OF_QUERY,
    "/v1/usage": _OF_QUERY,
}
OF_TEXT = "".join(
    f"""
[[operations]]
include-path = "{path}"
checks.positive_data_acceptance.expected-statuses = {json.dumps(statuses)}
"""
    for path, statuses in _TEXTS.items()
)


def fuzz(url: str, folder: Path, who: str) -> int:
    """Run schemathesis; return the number of requests. Fails with what it found."""
    document = Path(__file__).parents[2] / "docs" / "openapi.json"
    settings = folder / "schemathesis.toml"
    settings.write_text(
        (f'[parameters]\nsession_id = "{RUN}"\n' if who.endswith("run") else "") + OF_TEXT
    )
    token = TOKENS[who.partition(" ")[0]]
    header = ["-H", f"Authorization: Bearer {token}"] if token else []
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings), "run",
         str(document), "-u", url, *header, "--checks", "all", "--exclude-path", "/v1/stream",
         "-n", str(length(15, 500)), "--seed", "1", "--request-timeout", "10", "--no-color"],
        capture_output=True, text=True, check=False, timeout=600, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert found is not None, done.stdout
    assert found[1] == found[2]
    return int(found[1])
