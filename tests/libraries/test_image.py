"""The Dockerfile's steps, done without an engine: from only what it copies, into an environment.

There is no container engine where this is tested, so its base image and its file system are not.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.processes import until

pytestmark = pytest.mark.libraries
REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = (REPOSITORY / "deploy" / "Dockerfile").read_text().replace("\\\n", "")


def test_what_it_copies_installs_and_its_health_check_tells_whether_it_runs(tmp_path: Path) -> None:
    """The sidecar starts out of it, with the shipped configuration; the check fails without it."""
    source, target = tmp_path / "src", tmp_path / "opt"
    for line in re.findall(r"^COPY ((?!--from).+)$", DOCKERFILE, re.MULTILINE):
        *names, into = line.split()
        for name in names:
            phase = source / into / (Path(name).name if into.endswith("/") else "")
            phase.parent.mkdir(parents=True, exist_ok=True)
            found = REPOSITORY / name
            (shutil.copytree if found.is_dir() else shutil.copy)(found, phase)
    (steps,) = re.findall(r"^RUN (python -m venv.+)$", DOCKERFILE, re.MULTILINE)
    steps = steps.replace("/opt/otel-budget", str(target))
    steps = steps.replace("python -m venv", f"{shlex.quote(sys.executable)} -m venv")
    done = subprocess.run(
        ["sh", "-c", steps], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    port = free_port()
    (check,) = re.findall(r"HEALTHCHECK .*CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)
    program, *given = json.loads(check)
    config = tmp_path / "sidecar.yaml"
    # As the container's first process would say it.
    health = [str(target / "bin" / program), *given, "--config", str(config), "--timeout", "0.1"]
    assert subprocess.run(health, capture_output=True, check=False).returncode != 0
    text = (REPOSITORY / "deploy" / "sidecar.yaml").read_text()
    text = text.replace("0.0.0.0:9465", f"127.0.0.1:{port}")
    config.write_text(text.replace("/var/lib/otel-budget/", f"{tmp_path}/"))
    program = [str(target / "bin" / "otel-budget"), "sidecar", "--config", str(config)]
    process = subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        until(
            lambda: subprocess.run(health, capture_output=True, check=False).returncode == 0,
            process,
        )
    finally:
        process.terminate()
        assert process.wait(10) == 0
