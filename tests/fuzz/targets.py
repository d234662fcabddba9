"""What is fuzzed: each target takes bytes, and may raise nothing but the error it is known for.

What it returns is held against what its callers rely on.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from otel_budget.config.load import load
from otel_budget.core import sse, verdict_json
from otel_budget.core.limits import ResourceLimits
from otel_budget.core.observation import Observation, RunObservation
from otel_budget.core.validation import MAX_COUNT, SESSION_ID_PATTERN
from otel_budget.errors import ConfigFileError, InvalidConfigError, InvalidValueError
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.presets.loader import shipped
from otel_budget.sdk.checkpoints import format as saved
from otel_budget.sources.exposition import ExpositionError, PageLimits, PageReader
from otel_budget.sources.incremental.prometheus_answer import PrometheusAnswer
from otel_budget.sources.incremental.scrape_page import ScrapePage
from otel_budget.sources.otlp.decoding import JSON, PROTOBUF
from otel_budget.sources.otlp.messages import OtlpError
from otel_budget.sources.otlp.pushed_runs import PushedRuns
from otel_budget.sources.prometheus_api import AnswerError
from otel_budget.sources.prometheus_vector import take_apart
from otel_budget.sources.session_assembly import NEEDED, assemble
from otel_budget.sources.target_process import process_at

AT = 1_700_000_000.0
_FOLDER = tempfile.TemporaryDirectory()
_FILE = Path(_FOLDER.name) / "sidecar.yaml"
_LIMITS = PageLimits(samples=1000)
_PRESETS = tuple(shipped().values())
_TYPES = ("text/plain", "application/openmetrics-text")


def exposition(data: bytes) -> None:
    """Read pages as scrapes do, by what the earlier ones have taught: as if each were alone.

    A NUL ends a page; the last one is read twice.
    """
    kind, body = _TYPES[data[:1] == b"o"], data[1:]
    pages = body.split(b"\0")
    quick = ScrapePage("a", _LIMITS, 5.0)
    for page in (*pages, pages[-1]):
        with suppress(ExpositionError):
            samples = PageReader(NEEDED, _LIMITS, 5.0).read(page, kind)
            alone = assemble(samples, "a", AT, process_at("a"))
            found = quick.read(page, kind, AT)
            assert _by_id(found.sessions) == _by_id(alone.sessions)
            assert found.dropped == alone.dropped
            _is_sound(found.sessions)


def _by_id(sessions: Sequence[RunObservation]) -> dict[str, RunObservation]:
    return {session.session_id: session for session in sessions}


def prometheus_answer(data: bytes) -> None:
    """Read answers to a query, by what changed in them: as if each were alone.

    A NUL ends an answer; the last one is read twice.
    """
    bodies = data.split(b"\0")
    quick = PrometheusAnswer(None)
    for body in (*bodies, bodies[-1]):
        try:
            answer, alone = take_apart(body, None)
        except AnswerError:
            with pytest.raises(AnswerError):
                quick.update(body)
            continue
        taken = quick.update(body)
        found = quick.found(lambda target, session_id: 0.0)  # noqa: ARG005 - as DateOf has it
        assert dict(taken.sampled) == dict(answer.sampled)
        assert taken.evaluated_at == answer.vector.evaluated_at
        assert taken.ups == answer.ups
        assert _by_run(found.sessions) == _by_run(alone.sessions)
        assert +Counter(found.dropped) == +Counter(alone.dropped)
        _is_sound(found.sessions)


def _by_run(sessions: Sequence[RunObservation]) -> dict[tuple[str, str], RunObservation]:
    return {(session.target, session.session_id): session for session in sessions}


def event_stream(data: bytes) -> None:
    """Read a stream of verdicts, as a monitor does."""
    decoder = sse.EventDecoder()
    with suppress(InvalidValueError):
        for line in data.split(b"\n"):
            for event in decoder.feed(line.decode("utf-8", "replace").rstrip("\r\n")):
                verdict = verdict_json.from_json(event.data)
                written = verdict_json.from_json(
                    verdict_json.to_json(verdict)
                )  # times have milliseconds there
                assert verdict_json.from_json(verdict_json.to_json(written)) == written


def checkpoint(data: bytes) -> None:
    """Read a checkpoint; with a first byte of ``s`` one whose digest is right."""
    text = data[1:].decode("utf-8", "replace")
    if data[:1] == b"s":
        with suppress(ValueError, RecursionError):
            body = json.loads(text)
            if isinstance(body, dict):
                body.pop("sha256", None)
                text = json.dumps({**body, "sha256": saved._digest(body)})
    with suppress(InvalidValueError, RecursionError):  # the folder turns both into its own error
        found = saved.decode(text)
        again = saved.decode(saved.encode(found))
        assert repr(again) == repr(found)


def configuration(data: bytes) -> None:
    """Read a sidecar's configuration, and a run's limits, from a file."""
    _FILE.write_bytes(data)
    for read in (load, ResourceLimits.from_yaml):
        with suppress(ConfigFileError, InvalidConfigError, InvalidValueError):
            read(_FILE)


def otlp(data: bytes) -> None:
    """Take in what is pushed, as a receiver does; the first byte says what it is.

    A NUL ends a body of JSON; protobuf is one body. All of it comes in twice: as a retry, and to a
    receiver that has restarted.
    """
    kind, rest = data[:1], data[1:]
    content_type = JSON if kind in (b"m", b"l") else PROTOBUF
    bodies = rest.split(b"\0") if content_type == JSON else [rest]
    ledger, now = Ledger(), AT
    for boot in ("first", "second"):
        pushed = PushedRuns(
            _PRESETS, boot=boot, run_attributes=["run"], session_limit=3, series_limit=20
        )
        for body in (*bodies, *bodies):
            now += 1.0
            take = pushed.take_metrics if kind in (b"m", b"M") else pushed.take_logs
            with suppress(OtlpError):
                take(body, content_type, "peer", now)
            new = pushed.drain(now + 20.0)
            assert {one.session_id for one in new.sessions} <= set(_known(pushed, new.sessions))
            ledger.apply(Observation("otlp", now, new.sessions, dropped=new.dropped))
            _is_sound(new.sessions)
        assert len(ledger.runs) <= 6
    for snapshot in ledger.snapshots(now):
        verdict_json.to_json(verdict_from_snapshot(snapshot, Rules(), now))


def _known(pushed: PushedRuns, sessions: Sequence[RunObservation]) -> list[str]:
    """Return the ids of which the receiver can say again what it just said."""
    return [one.session_id for one in sessions if one in pushed.observation_of(one.session_id)]


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (exposition, prometheus_answer, event_stream, checkpoint, configuration, otlp)
}


def _is_sound(sessions: Sequence[RunObservation]) -> None:
    """Hold what was read against what ledger and policy rely on, and let them take it in."""
    for session in sessions:
        assert SESSION_ID_PATTERN.fullmatch(session.session_id)
        assert all(0 <= value <= MAX_COUNT for value in session.counters.values())
        limits = session.attributes.limits.values()
        assert all(0 <= value <= MAX_COUNT or value == math.inf for value in limits)
    ledger = Ledger()
    ledger.apply(Observation("scrape", AT, tuple(sessions)))
    for snapshot in ledger.snapshots(AT):
        verdict = verdict_from_snapshot(snapshot, Rules(), AT)
        verdict_json.to_json(verdict)
