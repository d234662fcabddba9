"""Print the lower end of every range in pyproject.toml, in the form of a constraints file for pip.

The test tools are not part of it: they are CI's own, and stand in constraints.txt.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
USED = ("sidecar", "prices", "otlp", "plot")
"""The extras whose packages the unit tests import."""
RANGE = re.compile(r"([A-Za-z0-9._-]+)>=([^,]+)")


def lowest() -> dict[str, str]:
    """Return package to the lowest version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in USED:
        wanted += project["optional-dependencies"][extra]
    found = [RANGE.match(requirement) for requirement in wanted]
    return {match[1]: match[2] for match in found if match}


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in lowest().items()))  # noqa: T201 - a script
