"""The one check of a URL that something is asked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from otel_budget.errors import OtelBudgetError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_SCHEMES: Final = ("http", "https")


class UrlError(OtelBudgetError, ValueError):
    """Refuse a URL.

    shown: it, without user and password. has_user: True if these are all that is wrong with it.
    """

    def __init__(self, shown: object, *, has_user: bool = False) -> None:
        """Keep the fields."""
        self.shown, self.has_user = shown, has_user
        why = "has a user in it" if has_user else "is no http or https URL with a host"
        super().__init__(f"{shown} {why}")


def split_url(url: object) -> SplitResult:
    """Return the parts of an http or https URL with a host and without a user. Raises UrlError."""
    if not isinstance(url, str):
        raise UrlError(url)
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is not a port
    except ValueError as exc:
        raise UrlError(url) from exc
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise UrlError(url)
    if "@" in parts.netloc:
        # Not shown: a URL becomes a name in verdicts and logs, and this one holds a password.
        raise UrlError(f"{parts.scheme}://…@{parts.hostname}", has_user=True)
    return parts
