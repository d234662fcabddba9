"""Who may speak for which run, as far as that is configured.

- A pattern is a session id, or the beginning of one with ``*`` at its end; no regular expression.
- A session id belongs to the targets that its most specific pattern is bound to: the id itself
  before a beginning of it, a longer beginning before a shorter one. Others are refused.
- One that no pattern matches is not bound: each target may speak for it.
- A binding takes ids away from other targets. It takes none from its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.validation import SESSION_ID_PATTERN
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

#: Ends a pattern that is the beginning of session ids.
ANY_END = "*"


class Bindings:
    """Session ids, and the targets that may report on them."""

    def __init__(
        self, owners: Mapping[str, Collection[str]] | None = None, *, first_owns: bool = False
    ) -> None:
        """Bind patterns to targets, named as in a reading, without what was added on the way.

        first_owns: a run that no pattern binds belongs to the targets that carry it, for as long
        as they go on showing it.
        """
        self.owners = {pattern: frozenset(each) for pattern, each in (owners or {}).items()}
        self.first_owns = first_owns
        beginnings = {p[:-1] for p in self.owners if p.endswith(ANY_END)}
        self._lengths = sorted({len(each) for each in beginnings}, reverse=True)

    def __bool__(self) -> bool:
        """True if any target may be refused."""
        return bool(self.owners) or self.first_owns

    def __eq__(self, other: object) -> bool:
        """Return whether both say the same."""
        if not isinstance(other, Bindings):
            return NotImplemented
        return (self.owners, self.first_owns) == (other.owners, other.first_owns)

    __hash__ = None  # type: ignore[assignment] # nothing needs it as a key

    def pattern_of(self, session_id: str) -> str | None:
        """Return the pattern that binds a session id; None if none does."""
        if session_id in self.owners:
            return session_id
        for length in self._lengths:
            pattern = session_id[:length] + ANY_END
            if pattern in self.owners and len(session_id) >= length:
                return pattern
        return None

    def refusing(self, session_id: str, target: str) -> str | None:
        """Return the pattern by which a target may not speak for a run; None if it may."""
        pattern = self.pattern_of(session_id)
        return None if pattern is None or target in self.owners[pattern] else pattern


def pattern(value: object) -> str:
    """Return a pattern of session ids. Raises InvalidValueError."""
    whole = value.removesuffix(ANY_END) if isinstance(value, str) else ""
    if value != ANY_END and SESSION_ID_PATTERN.fullmatch(whole) is None:
        allowed = "a session id, or the beginning of one with * at its end, such as team-a-*"
        raise InvalidValueError("", value, allowed)
    return str(value)


def why_expression(pattern: str) -> str:
    """Return what is odd about a pattern that looks like a regular expression; empty if nothing."""
    if not pattern.endswith(".*"):
        return ""
    start = pattern.removesuffix(".*")
    return (
        f"{pattern} is not a regular expression: it matches ids that begin with {start + '.'!r}, "
        f"dot included. Write {start + ANY_END} for all that begin with {start!r}"
    )


#: Nothing is bound.
UNBOUND = Bindings()


def is_covered(pattern: str, by: Iterable[str]) -> bool:
    """Tell whether all that a pattern matches is matched by one of others."""
    whole = pattern.removesuffix(ANY_END)
    for other in by:
        if other == pattern or (other.endswith(ANY_END) and whole.startswith(other[:-1])):
            return True
    return False
