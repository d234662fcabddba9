"""The gate in front of tests that need a real component: a loud skip without it, or a failure.

``@pytest.mark.real("prometheus")`` on a test, or ``require("promtool")`` inside one.
"""

import os
import shutil
from typing import NoReturn

import pytest

REQUIRE = "OTEL_BUDGET_REQUIRE_REAL"

#: Program to the package that brings it, on Debian and Ubuntu.
PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "openssl": "openssl",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "systemd-analyze": "systemd",
    "victoria-metrics": "victoria-metrics",
    "tmux": "tmux",
    "curl": "curl",
    "kubectl": "kubectl",  # of Kubernetes' own repository; Debian's is too old for these files
}


def require(program: str) -> str:
    """Return the path of a real program; without it skip the test, or fail it if told to."""
    found = shutil.which(program)
    if found is None:
        missing(
            f"{program!r} is not installed; "
            f"install it with: apt-get install --no-install-recommends {PACKAGES[program]}"
        )
    return found


def missing(what: str) -> NoReturn:
    """Skip the test loudly, or fail it if real components are required."""
    message = f"NOT TESTED FOR REAL: {what}"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(f"{message} ({REQUIRE}=1)", pytrace=False)
    pytest.skip(message)
