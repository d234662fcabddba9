"""A real sidecar lets in whom it knows: tokens, TLS and client certificates, over real sockets."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from tests.support.certificates import certificate
from tests.support.exposition import Exposition, line, page, serve
from tests.support.figures import note
from tests.support.processes import SidecarProcess, agent, sidecar, until

RUN = "run-1"
READ, ADMIN = "r" * 32, "a" * 32
PATHS = (
    "/v1/verdicts", f"/v1/verdicts/{RUN}", f"/v1/sessions/{RUN}", "/v1/stream", "/metrics",
    "/openapi.json",
)  # fmt: skip


@pytest.fixture
def shown() -> Iterator[Exposition]:
    """A run that has used 500 of 1000 tokens."""
    with serve() as endpoint:
        endpoint.show(page(line(semconv.SESSION_TOKENS, 500, RUN)))
        yield endpoint


def written(folder: Path, shown: Exposition, **listen: Any) -> Path:
    """Write a configuration."""
    file = folder / "sidecar.yaml"
    config = {
        "source": {
            "scrape": {
                "targets": [shown.url],
                "file_sd": [f"{folder}/agents/*.json"],
                "interval": "100ms",
            }
        },
        "resource_limits": {"max_tokens": 1000},
        "listen": {"address": "127.0.0.1:0", **listen},
        "storage": {"path": str(folder / "ledger.db")},
    }
    file.write_text(json.dumps(config))
    return file


def token_file(folder: Path, name: str, *tokens: str) -> str:
    """Write a file of tokens; return its path."""
    (folder / name).write_text("".join(f"{token}\n" for token in tokens))
    return str(folder / name)


def get(
    url: str, token: str | None = None, context: ssl.SSLContext | None = None
) -> tuple[int, Any]:
    """Ask, and hang up once the answer has begun; return the status and its headers."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.headers


def command(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "otel_budget", *argv],
        capture_output=True, text=True, check=False, timeout=30, env={**os.environ, **environ},
    )  # fmt: skip


def test_without_a_token_nothing_but_health_is_told(tmp_path: Path, shown: Exposition) -> None:
    tokens = token_file(tmp_path, "read", READ)
    config = written(tmp_path, shown, read_token_file=tokens)
    with sidecar(tmp_path, config=config) as process:
        until(lambda: get(process.url + "/-/ready")[0] == 200)
        assert get(process.url + "/-/healthy")[0] == 200
        for path in PATHS:
            assert get(process.url + path, READ)[0] == 200, path
            for wrong in (None, "", READ[:-1], READ + "r", "ü", ADMIN):
                status, headers = get(process.url + path, wrong and wrong.encode().decode("latin1"))
                assert (status, headers["WWW-Authenticate"].split()[0]) == (401, "Bearer"), path
        _, metrics = get_text(process.url + "/metrics", READ)
        refused = len(PATHS) * 6
        counted = f'otel_budget_sidecar_refused_requests_total{{reason="token"}} {refused}.0'
        assert counted in metrics
        assert process.said().count("the token was wrong") == 1  # no flood
    note(
        "Lets no one in",
        f"{refused} requests, to each endpoint, without the token or with others",
        "401 each, counted, one line in the log; the two health checks answer",
    )  # fmt: skip


def get_text(url: str, token: str) -> tuple[int, str]:
    """Return a whole answer."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.status, answer.read().decode()


def test_tokens_are_exchanged_while_it_runs(tmp_path: Path, shown: Exposition) -> None:
    """Old and new side by side, then the new alone; a file that cannot be read changes nothing."""
    new = "n" * 32
    tokens = token_file(tmp_path, "read", READ)
    config = written(tmp_path, shown, read_token_file=tokens)
    with sidecar(tmp_path, config=config) as process:
        url = process.url + "/openapi.json"
        assert [get(url, READ)[0], get(url, new)[0]] == [200, 401]
        token_file(tmp_path, "read", READ, new)
        assert [get(url, READ)[0], get(url, new)[0]] == [200, 200]
        token_file(tmp_path, "read", new)
        assert [get(url, READ)[0], get(url, new)[0]] == [401, 200]
        for broken in ("", "short\n"):
            (tmp_path / "read").write_text(broken)
            assert [get(url, READ)[0], get(url, new)[0]] == [401, 200]
        (tmp_path / "read").unlink()
        assert [get(url, READ)[0], get(url, new)[0]] == [401, 200]
        assert "keeping the ones read before" in process.said()
        assert new not in process.said()


def test_a_monitor_and_the_command_line_send_the_token(
    tmp_path: Path, shown: Exposition, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = token_file(tmp_path, "read", READ)
    wrong = token_file(tmp_path, "wrong", ADMIN)
    config = written(tmp_path, shown, read_token_file=tokens)
    name = "OTEL_BUDGET_SIDECAR_TOKEN_FILE"
    with sidecar(tmp_path, config=config) as process:
        until(lambda: get(process.url + f"/v1/verdicts/{RUN}", READ)[0] == 200)
        ask = ("check", RUN, "--sidecar", process.url)
        assert command(*ask, **{name: tokens}).returncode == 0
        refused = command(*ask, **{name: wrong})
        assert refused.returncode == 4
        assert "this token is not known here" in refused.stdout
        assert ADMIN not in refused.stdout + refused.stderr
        monkeypatch.setenv(name, tokens)
        assert_stops_an_agent(process, tmp_path)


def assert_stops_an_agent(process: SidecarProcess, folder: Path) -> None:
    """Run an agent that only the sidecar's ceiling can stop."""
    (folder / "agents").mkdir(exist_ok=True)
    options = {"register": str(folder / "agents"), "sidecar": process.url, "tokens": 50}
    with agent("agent-1", **options) as running:
        result = running.result()
    assert (result["action"], result["from_sidecar"]) == ("stop", True)


def test_tls_and_client_certificates(
    tmp_path: Path, shown: Exposition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client without a certificate does not get as far as a request; with one, all is well."""
    key, shown_certificate = certificate(tmp_path, "sidecar")
    client_key, client = certificate(tmp_path, "client")
    stranger_key, stranger = certificate(tmp_path, "stranger")
    tls = {"cert_file": str(shown_certificate), "key_file": str(key), "client_ca_file": str(client)}
    with sidecar(tmp_path, config=written(tmp_path, shown, tls=tls)) as process:
        assert process.url.startswith("https://")

        def asking(chain: Path | None = None, its_key: Path | None = None) -> ssl.SSLContext:
            context = ssl.create_default_context(cafile=shown_certificate)
            if chain is not None:
                context.load_cert_chain(chain, its_key)
            return context

        url = process.url + f"/v1/verdicts/{RUN}"
        until(lambda: get(url, context=asking(client, client_key))[0] == 200)
        for context in (asking(), asking(stranger, stranger_key)):
            with pytest.raises((OSError, http.client.HTTPException)):
                get(url, context=context)
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            get(url, context=ssl.create_default_context())
        for name, file in (
            ("CERTIFICATE", shown_certificate), ("CLIENT_CERTIFICATE", client),
            ("CLIENT_KEY", client_key),
        ):  # fmt: skip
            monkeypatch.setenv(f"OTEL_BUDGET_SIDECAR_{name}", str(file))
        assert command("check", RUN, "--sidecar", process.url).returncode == 0
        assert_stops_an_agent(process, tmp_path)


def test_a_certificate_is_exchanged_while_it_runs(tmp_path: Path, shown: Exposition) -> None:
    key, first = certificate(tmp_path, "sidecar")
    kept = tmp_path / "first.pem"
    kept.write_bytes(first.read_bytes())
    tls = {"cert_file": str(first), "key_file": str(key)}
    with sidecar(tmp_path, config=written(tmp_path, shown, tls=tls)) as process:
        url = process.url + "/-/healthy"
        assert get(url, context=ssl.create_default_context(cafile=kept))[0] == 200
        certificate(tmp_path, "sidecar")  # another key and certificate in its place

        def trusted() -> bool:
            try:
                return get(url, context=ssl.create_default_context(cafile=first))[0] == 200
            except OSError:
                return False

        until(trusted)
        assert "was read again" in process.said()


def test_on_another_address_it_does_not_start_unless_told(tmp_path: Path) -> None:
    """Nothing listens; what to do is said."""
    address = "0.0.0.0:0"
    argv = ["sidecar", "--target", "http://127.0.0.1:1/metrics", "--listen", address]
    said = command(*argv, "--storage", str(tmp_path / "ledger.db"))
    assert said.returncode == 2
    assert "--read-token-file" in said.stderr
    assert "--allow-unauthenticated" in said.stderr
    tokens = token_file(tmp_path, "read", READ)
    for flags in (("--read-token-file", tokens), ("--allow-unauthenticated",)):
        with sidecar(
            tmp_path, "--target", "http://127.0.0.1:1/metrics", *flags, listen=address
        ) as process:
            port = process.url.rpartition(":")[2]
            assert get(f"http://127.0.0.1:{port}/-/healthy")[0] == 200


def test_a_page_in_a_browser_gets_nothing(tmp_path: Path, shown: Exposition) -> None:
    """Its own name, pointed at the loopback interface, is not one of the sidecar's (rebinding)."""
    with sidecar(tmp_path, "--target", shown.url) as process:
        port = int(process.url.rpartition(":")[2])
        for host, status in (
            ("evil.example", 421), (f"evil.example:{port}", 421), ("127.0.0.1.evil.example", 421),
            (f"localhost:{port}", 200), (f"127.0.0.1:{port}", 200), (f"[::1]:{port}", 200),
        ):  # fmt: skip
            assert status_of(process, host) == status, host


def status_of(process: SidecarProcess, host: str) -> int:
    """Ask for a host by name."""
    connection = http.client.HTTPConnection("127.0.0.1", int(process.url.rpartition(":")[2]))
    try:
        connection.request("GET", "/metrics", headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


def test_clients_behind_a_proxy_are_told_apart_and_its_name_is_known(
    shown: Exposition, tmp_path: Path
) -> None:
    """By X-Forwarded-For, from a proxy that the configuration names; else it is one client."""
    listen = {"allowed_hosts": ["Budget.example.org"], "limits": {"streams_per_client": 1}}
    trusted = written(tmp_path, shown, **listen, trusted_proxies=["127.0.0.0/8"])

    def asked(url: str, path: str, host: str, client: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
        stack.callback(connection.close)
        connection.request("GET", path, headers={"Host": host, "X-Forwarded-For": client})
        return stack.enter_context(connection.getresponse())

    with sidecar(tmp_path, config=trusted) as side, ExitStack() as stack:
        until(lambda: side.verdict(RUN), side.process)
        assert asked(side.url, "/v1/verdicts", "budget.example.org", "").status == 200
        refused = asked(side.url, "/v1/verdicts", "other.example.org", "")
        assert refused.status == 421
        assert "listen.allowed_hosts" in json.load(refused)["detail"]
        one = asked(side.url, "/v1/stream", "localhost", "192.0.2.1")
        # What a client wrote itself stands to the left of what its proxy added.
        other = asked(side.url, "/v1/stream", "localhost", "192.0.2.1, 192.0.2.2")
        again = asked(side.url, "/v1/stream", "localhost", "192.0.2.2")
        assert (one.status, other.status, again.status) == (200, 200, 429)
        assert "192.0.2.2" in json.load(again)["detail"]
    untold = written(tmp_path, shown, **listen)
    with sidecar(tmp_path, config=untold) as side, ExitStack() as stack:
        one = asked(side.url, "/v1/stream", "localhost", "192.0.2.1")
        other = asked(side.url, "/v1/stream", "localhost", "192.0.2.2")
        assert (one.status, other.status) == (200, 429)
