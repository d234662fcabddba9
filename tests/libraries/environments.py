"""Virtual environments, one for each file in ``requirements``.

They are made once for each content of that file, and kept in ``.venv-libraries`` or where
``OTEL_BUDGET_LIBRARIES`` says. otel-budget is installed editable, so it is always the present one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = Path(__file__).parent / "requirements"
FOLDER: Final = "OTEL_BUDGET_LIBRARIES"
_READY: Final = ".ready"
_TIMEOUT: Final = 600


class NoEnvironmentError(Exception):
    """An environment could not be made."""


def python_of(environment: str) -> Path:
    """Return the interpreter of an environment; make it if it is not there.

    Raises NoEnvironmentError with what the installer said.
    """
    requirements = REQUIREMENTS / f"{environment}.txt"
    folder = Path(os.environ.get(FOLDER) or ROOT / ".venv-libraries")
    phase = folder / f"{environment}-{_fingerprint(requirements)}"
    python = phase / "bin" / "python"
    if not (phase / _READY).exists():
        shutil.rmtree(phase, ignore_errors=True)
        wanted = ("-r", str(requirements), "-e", str(ROOT))
        uv = shutil.which("uv")
        if uv is None:
            _run(sys.executable, "-m", "venv", str(phase))
            pip = (str(python), "-m", "pip", "--disable-pip-version-check")
            _run(*pip, "install", "--quiet", *wanted)
        else:
            _run(uv, "venv", "--quiet", "--python", sys.executable, str(phase))
            _run(uv, "pip", "install", "--quiet", "--python", str(python), *wanted)
        (phase / _READY).touch()
    return python


def _fingerprint(requirements: Path) -> str:
    """Return what an environment is made of, in short: versions, own dependencies, Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parts = (requirements.read_text(encoding="utf-8"), project["dependencies"], sys.version, ROOT)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _run(*command: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT, check=False, cwd=ROOT
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise NoEnvironmentError(f"{' '.join(command)} failed:\n{said}")
