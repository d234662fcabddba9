"""Whose a run is: the labels that say it; and what is read only where it is asked for. Pure.

A value is taken in whole or not at all: no part of one that is too long, or that no page could show
again, says whose the run is. What has none is nobody's, and never somebody else's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.observation import shared_labels
from otel_budget.core.validation import SESSION_ID_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Those that every sidecar reads.
OWNER_LABELS: Final = (semconv.WORKFLOW, *semconv.SCOPE_LABELS)
#: Characters of a value.
LABEL_LENGTH: Final = 256
#: What a server puts before a label of a page that it has one of its own for.
_EXPORTED: Final = "exported_"
#: Control characters; and halves of pairs, which UTF-8 cannot hold and an escape in JSON can bring.
_UNWRITABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Details:
    """What is read of runs beyond what every sidecar needs: what its configuration makes use of."""

    scope_labels: tuple[str, ...] = ()
    """Labels that say whose a run is, besides ``OWNER_LABELS``."""
    token_kinds: bool = False
    """Whether kinds of tokens are told apart (core/token_kinds.py), which costs series."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels that say whose a run is."""
        return tuple(dict.fromkeys((*OWNER_LABELS, *self.scope_labels)))


NO_DETAILS: Final = Details()


def owner_labels(
    labels: Mapping[str, str], names: tuple[str, ...] = OWNER_LABELS
) -> Mapping[str, str]:
    """Return those of a series' labels that say whose its run is; equal ones are one object.

    names: the labels that do.
    """
    found = {}
    for name in names:
        value = labels.get(_EXPORTED + name) or labels.get(name)
        if value and is_label_value(value):
            found[name] = value
    return shared_labels(found)


def parent_of(labels: Mapping[str, str]) -> str | None:
    """Return the session id of the run whose descendant a series' run is; None: it names none.

    Raises ValueError for one that is no session id.
    """
    name = semconv.PARENT_SESSION_ID
    found = labels.get(_EXPORTED + name) or labels.get(name)
    if not found:
        return None
    if SESSION_ID_PATTERN.fullmatch(found) is None:
        raise ValueError(f"{name} is no session id")
    return found


def is_label_value(value: str) -> bool:
    """Tell whether a text can say whose a run is."""
    return 0 < len(value) <= LABEL_LENGTH and (
        (value.isascii() and value.isprintable()) or _UNWRITABLE.search(value) is None
    )
