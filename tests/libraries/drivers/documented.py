"""Code of docs/ending-well.md, run where its library is."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).parents[3] / "docs" / "ending-well.md"


def run(name: str, **given: Any) -> str:
    """Run a block by its mark, with these names; return what it prints."""
    text = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(rf"<!-- run: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    said = io.StringIO()
    with redirect_stdout(said):
        exec(compile(block, f"{PAGE.name}: {name}", "exec"), given)  # noqa: S102 - our own page
    return said.getvalue()
