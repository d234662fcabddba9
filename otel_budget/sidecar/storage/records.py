"""What is stored of a run, a verdict or an override: one JSON text each, sealed with a digest.

A bit that flipped on the disk is seen, not believed. The digest is the last key of the JSON object,
which earlier versions do not look at; a text without one was written by such a version.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core import verdict_json
from otel_budget.sidecar.storage import codec

if TYPE_CHECKING:
    from otel_budget.core.override import Override
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.suggester import PastRun

#: What the functions here that read raise for a text that is not whole.
UNREADABLE_ROW: Final = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip

_BEGIN = ',"digest":"'
_END = '"}'
_BYTES = 8
_LENGTH = len(_BEGIN) + 2 * _BYTES + len(_END)


class Key(NamedTuple):
    """What a run is stored under."""

    session_id: str
    started_at: str
    """As repr, so that it is exact; empty where the run does not say."""

    @classmethod
    def of(cls, session_id: str, started_at: float | None) -> Key:
        """Return the key of a run."""
        return cls(session_id, "" if started_at is None else repr(started_at))

    @property
    def start(self) -> float | None:
        """The start time in it. Raises ValueError if it is none."""
        return float(self.started_at) if self.started_at else None


def sealed(text: str, *place: str) -> str:
    """Return a JSON object with the digest of its text. place: what the row is, or is of."""
    return f"{text[:-1]}{_BEGIN}{_digest(text[:-1], place)}{_END}"


def unsealed(stored: bytes, *place: str) -> str:
    """Return the JSON object that ``sealed`` was given, or one of an older version as it is.

    Raises ValueError for a text that was altered since.
    """
    text = stored.decode()
    begin = len(text) - _LENGTH
    if begin < 0 or not (text.startswith(_BEGIN, begin) and text.endswith(_END)):
        return text
    if text[begin + len(_BEGIN) : -len(_END)] != _digest(text[:begin], place):
        raise ValueError("altered since it was written: its digest is another one")
    return f"{text[:begin]}}}"


def _digest(text: str, place: tuple[str, ...]) -> str:
    content = "\0".join((*place, text)).encode()
    return hashlib.blake2b(content, digest_size=_BYTES).hexdigest()


#: What a row's digest is over besides its text. An order does not say whose it is; others do.
_ACCOUNT, _VERDICT, _ORDER, _PAST_RUN = "account", "verdict", "order", "past_run"


def run_body(run: RunTotals, commit: int) -> str:
    """Return the text of a run's row. commit: the number of the one that writes it."""
    return sealed(f'{codec.to_json(run)[:-1]},"commit":{commit}}}', _ACCOUNT)


def verdict_body(verdict: Verdict) -> str:
    """Return the text of a verdict's row."""
    return sealed(verdict_json.to_json(verdict), _VERDICT)


def override_body(override: Override, key: Key) -> str:
    """Return the text of an order's row. key: of the run it was given for."""
    return sealed(json.dumps(codec.dump_override(override)), _ORDER, *key)


def past_run_body(past_run: PastRun) -> str:
    """Return the text of the row of how a run ended."""
    return sealed(json.dumps(codec.dump_past_run(past_run), separators=(",", ":")), _PAST_RUN)


def run_of(body: bytes) -> RunTotals:
    """Return the run in a row. Raises one of UNREADABLE_ROW, as those below."""
    return codec.from_json(unsealed(body, _ACCOUNT))


def verdict_of(body: bytes) -> Verdict:
    """Return the verdict in a row."""
    return verdict_json.from_json(unsealed(body, _VERDICT))


def past_run_of(body: bytes) -> PastRun:
    """Return how the run of a row ended."""
    return codec.load_past_run(json.loads(unsealed(body, _PAST_RUN)))


def override_of(body: bytes, key: Key | None) -> Override:
    """Return the order in a row. key: of the run it was given for."""
    if key is None:
        raise ValueError("it is not known for which run it was given")
    return codec.load_override(json.loads(unsealed(body, _ORDER, *key)))
