"""A run's pace as JSON in its row. Most of a row is rewritten with every call; this now and then.

It is longer than all the rest, and what a run did since it was written is not lost: read back, the
pace takes it for a lump, as between two scrapes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from otel_budget.ledger.call_pace import CallPace
from otel_budget.ledger.freshness import StoredPace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.ledger.run import RunTotals

#: Seconds of a run after which its pace is written anew: as most are scraped every so often.
_EVERY: Final = 15.0
#: Times its calls as written after which it is, too: of a young run that is sooner, and with what
#: was written at its first calls all later ones would be a lump that tells no growth.
_MORE: Final = 2.0
#: And so it is once its growth can be told: read back without it, two lumps far apart in size would
#: be two beginnings.
#: Digits of a number that is not whole: moments to the hundredth of a second.
_DIGITS: Final = ".12g"
_ENCODE = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def pace_text(run: RunTotals) -> str:
    """Return the pace as JSON: as of now, or of a moment ago; null of one without calls."""
    pace, stored = run.pace, run.stored_pace
    if stored is not None and stored.pace is pace:
        at = run.sampled_at or 0.0
        is_recent = at - stored.at < _EVERY and pace.calls < _MORE * stored.calls
        is_recent = is_recent and stored.tells_growth == pace.tells_growth
        if is_recent or pace.calls == stored.calls:
            return stored.text
    if not pace.calls:
        return "null"
    text = _ENCODE(_shortened(pace.state()))
    run.stored_pace = StoredPace(pace, pace.calls, pace.tells_growth, run.sampled_at or 0.0, text)
    return text


def load_pace(row: Mapping[str, Any], run: RunTotals) -> CallPace:
    """Return the pace in a row; of a row without one, or with none that can be read, a new one.

    It begins with what the run has used: no total hangs on it, and a forecast is wide at first.
    """
    if "pace" in row:
        state = row["pace"]
        if state is None:
            return CallPace()
        try:
            return CallPace.from_state(state)
        except (ValueError, TypeError, ArithmeticError, LookupError):
            pass  # an earlier version's, or a hand's: as if there were none
    pace, totals = CallPace(), run.totals()
    if totals and run.sampled_at is not None:
        pace.observe(totals, run.sampled_at)
    return pace


def _shortened(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_shortened(one) for one in value]
    if isinstance(value, float) and not value.is_integer():
        return float(format(value, _DIGITS))
    return value
