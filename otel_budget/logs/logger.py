"""The logger of what runs in an agent's process.

A call that fails again and again must not fill the log of the program it is made in, so its lines
are limited. Whatever logs there takes the logger from here: only then is the limit on it.
"""

from __future__ import annotations

import logging
from typing import Final

from otel_budget.logs.line_limit import LineFilter

logger: Final = logging.getLogger("otel_budget")
logger.addFilter(LineFilter())
