"""The package's description: README, with absolute links if the repository's address is given.

No address is written down, as the project has no public home. To build a package for an index of
yours: ``OTEL_BUDGET_REPOSITORY=https://git.example.org/team/otel-budget python -m build``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "OTEL_BUDGET_REPOSITORY"
_RELATIVE = re.compile(r"\]\((?![a-z]+:|#)([^)]+)\)")
_PICTURE = re.compile(r"!\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)")


def with_links_to(repository: str, text: str) -> str:
    """Return a text whose relative links and pictures lead to a repository on a Git host."""
    text = _PICTURE.sub(rf"![\1]({repository}/raw/HEAD/\2)", text)
    return _RELATIVE.sub(rf"]({repository}/blob/HEAD/\1)", text)


class Description(MetadataHookInterface):
    """Fill in ``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Take README as it is, or with links to the repository that the environment names."""
        repository = os.environ.get(VARIABLE, "").rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        if repository:
            text = with_links_to(repository, text)
            metadata["urls"] = {
                "Repository": repository,
                "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
                "Documentation": f"{repository}/tree/HEAD/docs",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
