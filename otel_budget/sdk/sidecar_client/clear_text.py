"""A token that goes over the network unencrypted is said once for each address."""

from __future__ import annotations

from typing import Final

from otel_budget.logs.logger import logger
from otel_budget.logs.once import Once
from otel_budget.net.loopback import is_loopback

#: Addresses that a token was sent to unencrypted.
_IN_CLEAR_TEXT: Final = Once()


def warn_of_clear_text(host: str, shown: str) -> None:
    """Warn unless the host is this machine. shown: where the token goes, for people."""
    if not is_loopback(host) and _IN_CLEAR_TEXT.first(shown):
        logger.warning(
            "the sidecar's token is sent to %s in clear text, readable by anyone on the way: "
            "use https",
            shown,
        )
