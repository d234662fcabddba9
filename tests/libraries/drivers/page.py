"""What docs/ending-well.md says to write is run with the real libraries, as it stands there."""

from __future__ import annotations

import contextlib
import io
import re
import textwrap
from pathlib import Path
from typing import Any, Final

_PAGE: Final = Path(__file__).parents[3] / "docs" / "ending-well.md"
_BLOCK: Final = "<!-- run: {} -->\n```python\n(.*?)```"


async def run_block(name: str, **given: Any) -> str:
    """Run a block of the page; return what it prints. given: names that it takes for there."""
    found = re.search(_BLOCK.format(name), _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, f"{_PAGE} has no block {name}"
    scope = dict(given)
    source = f"async def block():\n{textwrap.indent(found[1], '    ')}"
    exec(compile(source, f"{_PAGE.name}: {name}", "exec"), scope)  # noqa: S102 - our own page
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        await scope["block"]()
    return printed.getvalue()
