"""The health check finds a real sidecar, however that was told to listen, and says if it is ill."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_budget.cli.commands.health import arguments_of_sidecar
from otel_budget.cli.main import main
from otel_budget.sdk.sidecar_client.address import ENV_CERTIFICATE, ENV_KEY
from tests.support.certificates import certificate
from tests.support.ports import free_port
from tests.support.processes import sidecar


def written(folder: Path, address: str, **listen: Any) -> Path:
    """Write a configuration of a sidecar that has nobody to scrape."""
    config = {
        "source": {"scrape": {"file_sd": [f"{folder}/agents/*.json"], "interval": "100ms"}},
        "listen": {"address": address, **listen},
        "storage": {"path": str(folder / "ledger.db")},
    }
    file = folder / "elsewhere.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture
def health(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return the command: its exit status, and what it said."""

    def run(*given: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["health", *given])
        return status, "".join(capsys.readouterr())

    return run


Health = Callable[..., tuple[int, str]]


def test_a_sidecar_at_another_port_behind_a_token_is_found_by_its_configuration(
    tmp_path: Path, health: Health
) -> None:
    """On all interfaces; its file may be spoiled meanwhile in all but where it listens."""
    token = tmp_path / "token"
    token.write_text("r" * 32)
    port = free_port()
    file = written(tmp_path, f"0.0.0.0:{port}", read_token_file=str(token))
    with sidecar(tmp_path, config=file) as side:
        command = [sys.executable, "-m", "otel_budget", "health", "--config", str(file)]
        assert subprocess.run(command, capture_output=True, check=False).stdout == b"healthy\n"
        assert health("--config", str(file), "--ready", "--timeout", "20") == (0, "ready\n")
        file.write_text(file.read_text().replace("file_sd", "fiel_sd"))
        assert health("--config", str(file)) == (0, "healthy\n")

        os.kill(side.process.pid, signal.SIGSTOP)  # the kernel accepts connections still
        try:
            status, said = health("--config", str(file), "--timeout", "0.3")
        finally:
            os.kill(side.process.pid, signal.SIGCONT)
        assert status == 1
        assert "timed out" in said
    status, said = health("--config", str(file), "--timeout", "0.1")
    assert status == 1
    assert f"http://127.0.0.1:{port}/-/healthy" in said


@pytest.mark.real("openssl")
@pytest.mark.parametrize("asks", [False, True], ids=["tls", "client-certificates"])
def test_tls_keeps_no_health_check_out(
    tmp_path: Path, health: Health, monkeypatch: pytest.MonkeyPatch, *, asks: bool
) -> None:
    """Without a certificate to show, the handshake tells that somebody is there."""
    key, certified = certificate(tmp_path, "server")
    tls = {"cert_file": str(certified), "key_file": str(key)}
    if asks:
        tls["client_ca_file"] = str(certified)
    file = written(tmp_path, f"127.0.0.1:{free_port()}", tls=tls)
    with sidecar(tmp_path, config=file) as side:
        assert health("--config", str(file)) == (0, "healthy\n")
        if asks:
            status, said = health("--config", str(file), "--ready", "--timeout", "0.1")
            assert status == 1
            assert ENV_CERTIFICATE in said
            monkeypatch.setenv(ENV_CERTIFICATE, str(certified))
            monkeypatch.setenv(ENV_KEY, str(key))
        assert health("--config", str(file), "--ready", "--timeout", "20") == (0, "ready\n")
        assert "SSL" not in side.said()
    assert health("--config", str(file), "--timeout", "0.1")[0] == 1


def test_a_file_that_is_gone_is_said_and_the_default_address_asked(
    tmp_path: Path, health: Health
) -> None:
    """A container is not restarted for a file that its sidecar does without."""
    status, said = health("--config", str(tmp_path / "gone.yaml"), "--timeout", "0.1")
    assert status in {0, 1}  # whether one is there on this machine
    assert "gone.yaml: cannot be read" in said
    assert "asking at the default address" in said


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("/opt/bin/python /opt/bin/otel-budget sidecar --config /x.yaml", "--config /x.yaml"),
        ("/sbin/docker-init -- otel-budget sidecar --listen 0.0.0.0:1", "--listen 0.0.0.0:1"),
        ("python -m otel_budget sidecar --config /y.yaml", "--config /y.yaml"),
        ("/pause", None),
        ("otel-budget demo --sidecar http://sidecar", None),
    ],
)
def test_what_a_containers_first_process_was_told_is_read(first: str, told: str | None) -> None:
    """Behind the interpreter, or an engine's own init process."""
    found = arguments_of_sidecar("\0".join(shlex.split(first)).encode() + b"\0")
    assert found == (None if told is None else ["sidecar", *told.split()])
