"""Keys and certificates for tests, made by the real openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.real import require


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key and a certificate that signs itself, for 127.0.0.1."""
    key, certified = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        [require("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certified,
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certified
