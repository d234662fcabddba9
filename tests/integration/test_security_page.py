"""What docs/security.md promises of tokens and addresses, and nothing else tries."""

from __future__ import annotations

import http.client
import logging
import ssl
from pathlib import Path

import pytest

from otel_budget.config.load import from_flags
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.sidecar_client.address import ENV_TOKEN_FILE, SidecarAddress
from otel_budget.sdk.sidecar_client.request import Asker, AskError
from otel_budget.sidecar.config_summary import warnings
from tests.support.certificates import certificate
from tests.support.exposition import serve
from tests.support.processes import sidecar
from tests.support.raw_server import respond, serve_raw


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A token of the environment's."""
    file = tmp_path / "token"
    file.write_text("t" * 32)
    file.chmod(0o600)
    monkeypatch.setenv(ENV_TOKEN_FILE, str(file))
    return file


def test_a_token_that_would_go_in_clear_text_is_said_on_both_sides(
    token: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not on the loopback interface, nor through TLS."""
    caplog.set_level(logging.WARNING)
    for url in ("http://127.0.0.1:9465", "http://localhost:9465", "https://budget.example.org"):
        SidecarAddress.parse(url)
    assert caplog.messages == []
    SidecarAddress.parse("http://clear-text.example.org:9465")
    (said,) = caplog.messages
    assert "http://clear-text.example.org:9465 in clear text" in said
    served = from_flags(
        {
            "--target": ["http://a/metrics"],
            "--listen": "0.0.0.0:9465",
            "--read-token-file": str(token),
        }
    )
    assert any("tokens come in clear text" in one for one in warnings(served))


def test_a_token_does_not_follow_a_redirect_and_a_url_with_a_user_is_refused(token: Path) -> None:
    """Its password is not shown, either."""
    with serve() as elsewhere:
        answer = respond(b"", "text/plain", "307 Temporary Redirect", f"Location: {elsewhere.url}")
        with serve_raw(answer) as address, pytest.raises(AskError, match="307"):
            Asker.of(f"http://{address}").get("/v1/verdicts")
        assert elsewhere.headers == {}, "nothing was asked there"
    with pytest.raises(InvalidValueError) as refused:
        SidecarAddress.parse("http://ann:secret@127.0.0.1:9465")
    assert "secret" not in str(refused.value)


@pytest.mark.real("openssl")
def test_old_tls_is_refused_and_no_page_of_another_origin_may_read(tmp_path: Path) -> None:
    """TLS 1.1 ends in the handshake; no answer has a header that would allow it."""
    key, certified = certificate(tmp_path, "server")
    config = tmp_path / "sidecar.yaml"
    config.write_text(
        f"source: {{scrape: {{file_sd: ['{tmp_path}/t/*.json']}}}}\n"
        f"listen: {{address: '127.0.0.1:0', tls: {{cert_file: {certified}, key_file: {key}}}}}\n"
        f"storage: {{path: {tmp_path}/l.db}}\n"
    )
    with sidecar(tmp_path, config=config) as side:
        host, _, port = side.url.removeprefix("https://").rpartition(":")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            http.client.HTTPSConnection(host, int(port), context=old, timeout=5).connect()
        new = ssl.create_default_context(cafile=certified)
        for method, path in (("GET", "/metrics"), ("OPTIONS", "/v1/verdicts"), ("GET", "/-/ready")):
            connection = http.client.HTTPSConnection(host, int(port), context=new, timeout=5)
            connection.request(method, path, headers={"Origin": "https://evil.example"})
            names = [name.lower() for name, _ in connection.getresponse().getheaders()]
            connection.close()
            assert names
            assert not [name for name in names if name.startswith("access-control-")]
