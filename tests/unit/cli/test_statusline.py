"""``otel-budget statusline``: a session's budget on one line, and never an empty one."""

from __future__ import annotations

import io
import json
import sys
from decimal import Decimal
from typing import Any

import pytest

from otel_budget.cli.main import main
from otel_budget.cli.render.status_line import one_line_of
from otel_budget.core import verdict_json
from otel_budget.core.forecast import Estimate, Forecast
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict
from tests.support.ports import free_port
from tests.support.scripted_sidecar import Request, scripted

TOKENS = ResourceState(17_200, 40_000, 22_800, 0.43, LimitStatus.OK, "sidecar")
COST = ResourceState(
    Decimal("0.12973400000000001"), Decimal(5), Decimal("4.87"), 0.0259, LimitStatus.OK, "sidecar"
)


def verdict(
    resources: dict[str, ResourceState], *, action: Action = Action.CONTINUE,
    status: LimitStatus = LimitStatus.OK, reason: Reason = Reason.WITHIN_LIMITS, **more: Any,
) -> Verdict:  # fmt: skip
    """Return a verdict on a session."""
    return Verdict("s-1", action, status, reason, "m", resources, 1_700_000_000.0, **more)


def plain(given: Verdict) -> str:
    """Return its line without colours."""
    return one_line_of(given, colour=False)


def test_the_nearest_limit_comes_first_and_money_is_short() -> None:
    line = plain(verdict({"cost": COST, "tokens": TOKENS}))
    assert line == "budget: tokens 43% (17,200 of 40,000) · $0.12 of $5 · continue"


@pytest.mark.parametrize(
    ("used", "text"), [("0", "$0"), ("0.0123456", "$0.0123"), ("4.999", "$4.99"), ("7", "$7")]
)
def test_money_is_cut_and_never_rounded_up_to_its_limit(used: str, text: str) -> None:
    """99.9 % is not the limit."""
    state = COST._replace(used=Decimal(used))
    assert plain(verdict({"cost": state})) == f"budget: {text} of $5 · continue"


def test_a_stop_says_why_and_no_limit_says_so() -> None:
    over = TOKENS._replace(used=43_440, ratio=1.086, status=LimitStatus.EXCEEDED)
    stop = verdict(
        {"tokens": over}, action=Action.STOP, status=LimitStatus.EXCEEDED,
        reason=Reason.LIMIT_EXCEEDED,
    )  # fmt: skip
    assert plain(stop) == "budget: tokens 108% (43,440 of 40,000) · stop (limit_exceeded)"
    free = TOKENS._replace(limit=None, remaining=None, ratio=None)
    spent = COST._replace(limit=None, remaining=None, ratio=None)
    line = plain(verdict({"tokens": free, "cost": spent}))
    assert line == "budget: no limit · 17,200 tokens · $0.12 · continue"


def test_what_is_unknown_is_said() -> None:
    """A part that is not counted, a limit that nobody can judge, data that are missing."""
    known = verdict({"tokens": TOKENS._replace(at_least=True)}, unjudged=("cost",))
    assert plain(known) == (
        "budget: tokens at least 43% (17,200 of 40,000) · cost not judged · continue"
    )
    silent = verdict({"tokens": TOKENS}, status=LimitStatus.INCONCLUSIVE, reason=Reason.STALE_DATA)
    assert plain(silent).endswith("· continue (stale_data)")


def test_what_ends_first_is_said_in_calls_or_in_time() -> None:
    """Without its range; and of a run that is told to stop no more than that."""
    calls = Forecast(Estimate(23.4, 19.2, 27.1), Estimate(512.0, 418.3, 604.9))
    told = {"tokens": TOKENS._replace(forecast=calls)}
    go_on = verdict(told)
    assert plain(go_on).endswith("(17,200 of 40,000) · about 23 calls left · continue")
    stop = verdict(told, action=Action.STOP)
    assert "left" not in plain(stop)
    time = TOKENS._replace(forecast=Forecast(None, Estimate(754.0, 754.0, 754.0)))
    timed = verdict({"duration": time})
    assert "· 12 min left · continue" in plain(timed)


def test_colours_say_how_near_it_is() -> None:
    line = one_line_of(verdict({"tokens": TOKENS}), colour=True)
    assert "\x1b[32mtokens 43% (17,200 of 40,000)\x1b[0m" in line


def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, sent: object
) -> str:
    """Return what the command prints."""
    text = json.dumps(sent).encode() if not isinstance(sent, bytes) else sent
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["statusline", "--url", url]) == 0
    return capsys.readouterr().out


def test_the_session_in_the_input_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def answer(request: Request) -> None:
        asked.append(request.path)
        request.say(200, verdict_json.to_json(verdict({"tokens": TOKENS})))

    with scripted(answer) as sidecar:
        line = shown(monkeypatch, capsys, sidecar.url, {"session_id": "s-1", "cost": {}})
    assert line == "budget: tokens 43% (17,200 of 40,000) · continue\n"
    assert asked == ["/v1/verdicts/s-1"]


def test_without_a_verdict_it_says_which_part_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never an empty line: that looks like a budget that is kept."""
    given = {"session_id": "s-1"}
    nowhere = f"http://127.0.0.1:{free_port()}"
    line = shown(monkeypatch, capsys, nowhere, given)
    assert line.startswith("budget: no sidecar: nothing answers at")
    with scripted(lambda request: request.say(404, '{"detail": "not seen"}')) as sidecar:
        assert shown(monkeypatch, capsys, sidecar.url, given) == "budget: nothing counted yet\n"
    with scripted(lambda request: request.say(401, '{"detail": "no token"}')) as sidecar:
        assert shown(monkeypatch, capsys, sidecar.url, given) == "budget: no token\n"
    with scripted(lambda request: request.say(200, "<html>")) as sidecar:
        assert shown(monkeypatch, capsys, sidecar.url, given).startswith("budget: not known: ")
    for odd in (b"", b"[]", b"{}", b'{"session_id": 7}', b'{"session_id": "../x"}'):
        assert shown(monkeypatch, capsys, nowhere, odd).startswith("budget: not known: ")
