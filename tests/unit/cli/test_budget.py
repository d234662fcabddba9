"""``otel-budget budget`` and ``session list --by``, asked of the real API over what a test says."""

import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from otel_budget import semconv
from otel_budget.cli.commands.budget import tried
from otel_budget.cli.main import main
from otel_budget.cli.render.budget import budget_table, group_details
from otel_budget.core import verdict_json
from otel_budget.core.budget import Mode, TopUp, Window, WindowKind
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action
from otel_budget.core.top_up import TopUpRefusal, TopUpRefusedError
from otel_budget.core.verdict import LimitStatus
from otel_budget.ledger.owner_use import OwnerUse
from otel_budget.sdk.sidecar_client.request import AskError
from otel_budget.sidecar.api.app import build_app
from otel_budget.sidecar.api.auth import Gate, Tokens
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from otel_budget.sidecar.budget_report import BudgetReport
from tests.support.api import Host, token_of
from tests.support.budgets import budget, group_report, report
from tests.support.sidecar_fixtures import LEASE, START, SteadyClock, verdict
from tests.unit.cli.test_cli import answering

BERLIN = Window(
    WindowKind.CALENDAR, every="month", zone="Europe/Berlin", tz=ZoneInfo("Europe/Berlin")
)
RESEARCH = budget(window=BERLIN, title="All research", match={"team": ("research",)})
BY_USER = budget("users", "user", mode=Mode.SHADOW)


class Sidecar:
    """A sidecar's API, and the command line asking it."""

    def __init__(self, url: str, host: Host, admin: Path) -> None:
        self.url, self.host, self.admin = url, host, admin

    def budget(self, *words: str) -> int:
        """Run ``otel-budget budget``; return the exit status."""
        return main(["budget", *words, "--sidecar", self.url])

    def more(self, *words: str) -> int:
        """Run ``otel-budget budget raise`` with the admin token."""
        return self.budget("raise", *words, "--token-file", str(self.admin))


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    from tests.support.served_app import served

    host = Host()
    host.budgets = {
        "research": report(RESEARCH, {(): 900}),
        "users": report(BY_USER, {("ann",): 1200, ("",): 3}),
        "weekend": report(budget("weekend", "user"), {}),
    }
    admin = tmp_path / "admin"
    admin.write_text(token_of("admin"))
    gate = Gate(None, Tokens(admin))
    app = build_app(VerdictBroadcaster(LEASE, SteadyClock()), host, "1.2.3", gate)
    with served(app) as url:
        yield Sidecar(url, host, admin)


def test_budgets_are_listed_the_fullest_group_first(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sidecar.budget("list") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["BUDGET", "GROUP", "USE", "STATUS", "FULL", "IN", "RESETS"]
    assert [line.split()[:2] for line in lines] == [
        ["research", "-"], ["users", "user=ann"], ["users", "user=(none)"], ["weekend", "-"],
    ]  # fmt: skip
    assert "\u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2588\u2591  90.0%" in lines[0]
    assert "tokens 900 of 1,000    ok" in lines[0]
    assert "Wed 2023-11-15 23:13:20 +01:00" in lines[0]
    assert "120.0%  tokens 1,200 of 1,000  exhausted, shadow" in lines[1]
    assert "no run yet" in lines[3]


def test_of_many_groups_the_fullest_are_listed(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    sidecar.host.budgets = {"users": report(BY_USER, {(f"u{i:03}",): i for i in range(700)})}
    assert sidecar.budget("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[1] == "user=u699"
    assert lines[-1] == "users: 695 more: otel-budget budget show users"
    assert len(lines) == 7
    assert sidecar.budget("list", "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 700
    assert sidecar.budget("show", "users") == 0
    assert "users: 650 more" in capsys.readouterr().out


def test_a_sidecar_without_budgets_says_so(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    sidecar.host.budgets = {}
    assert sidecar.budget("list") == 0
    assert "no budgets: the sidecar's file has none" in capsys.readouterr().out


def test_a_budget_is_shown_with_what_is_configured(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sidecar.budget("show", "research") == 0
    out = capsys.readouterr().out
    assert out.startswith("research (All research): enforced, when low: stop\n")
    assert "window      each month, from day 1 at 00:00 (Europe/Berlin)" in out
    assert "for         runs with team=research" in out
    assert "counted     since Tue 2023-11-14 23:13:20 +01:00; 1 run known" in out
    assert sidecar.budget("show", "users") == 0
    out = capsys.readouterr().out
    assert "in shadow: it is judged and stops no run" in out
    assert "for         every run; one for each user" in out
    assert sidecar.budget("show", "weekend") == 0
    assert "use         no run yet" in capsys.readouterr().out


def test_a_budget_over_each_run_by_itself_says_how_many_runs_it_holds(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no group, and guards all the same."""
    each = replace(budget("each"), window=Window(WindowKind.RUN))
    sidecar.host.budgets = {"each": replace(report(each, {}), sessions=2)}
    assert sidecar.budget("list") == 0
    assert "2 runs, each by itself" in capsys.readouterr().out
    assert sidecar.budget("show", "each") == 0
    assert "use         2 runs, each by itself" in capsys.readouterr().out


def test_a_group_is_shown_with_its_top_ups_and_forecast(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    more = TopUp("k", "users", ("ann",), {semconv.TOKENS: 500}, "release", "", START, None, START)
    one = group_report(
        BY_USER, ("ann",), 1200, top_ups=[more], exhaustion_seconds={semconv.TOKENS: 7200.0}
    )
    sidecar.host.budgets = {"users": BudgetReport(BY_USER, {("ann",): one}, START, 1)}
    assert sidecar.budget("show", "users", "--group", "user=ann") == 0
    out = capsys.readouterr().out
    assert "1,200 of 1,500: 1,000 configured + 500 topped up" in out
    assert "full in about 2 h at this pace" in out
    assert "500 tokens until the reset, by an operator at Tue 2023-11-14" in out
    assert sidecar.budget("show", "users", "--group", "user=ann", "--json") == 0
    assert json.loads(capsys.readouterr().out)["top_ups"][0]["reason"] == "release"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["show", "reserach"], 1, "no budget 'reserach' is configured here; did you mean research"),
        (["show", "users", "--group", "user=anne"], 1, "did you mean user=ann?"),
        (["show", "users", "--group", "ann"], 1, "allowed: user=VALUE, or other"),
        (["show", "../metrics"], 1, "nothing at /v1/budgets/../metrics"),
        (["raise", "research", "--reason", "r"], 2, "say how much is added"),
        (["raise", "research", "--reason", "r", "--max-tokens", "x"], 2, "--max-tokens: 'x'"),
        (["raise", "research", "--reason", "r", "--max-tokens", "0", "--admin"], 1, "above 0"),
        (
            ["raise", "research", "--reason", "r", "--max-tokens", "1", "--until", "soon"], 2,
            "--until: 'soon' is not allowed; allowed: reset",
        ),
        (["raise", "research", "--reason", "r", "--max-tokens", "1", "--key", "a b"], 2, "-Key: "),
        (["raise", "research", "--reason", "r", "--max-tokens", "1"], 1, "a token is needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_with_what_to_do(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str
) -> None:
    token = ["--token-file", str(sidecar.admin)] if "--admin" in words else []
    assert sidecar.budget(*(word for word in words if word != "--admin"), *token) == status
    err = capsys.readouterr().err
    assert said in err, err


def test_a_budget_is_raised_and_shown(sidecar: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "users",
        "--group",
        "user=ann",
        "--max-tokens",
        "500",
        "--reason",
        "late",
        "--by",
        "bo",
    ]
    assert sidecar.more(*words, "--until", "2h", "--key", "k-7") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("added: 500 tokens until Thu 1970-01-01 02:16:40 +00:00, by bo at ")
    assert "users: in shadow" in out[1]
    ((asked, _),) = sidecar.host.topped_up
    assert (asked.key, asked.group, asked.by) == ("k-7", ("ann",), "bo")
    assert asked.amounts == {semconv.TOKENS: 500}


def test_a_budget_over_each_run_by_itself_is_raised_and_shown(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    each = budget("each", window=Window(WindowKind.RUN))
    sidecar.host.budgets = {"each": BudgetReport(each, {}, START, sessions=3)}
    words = ["each", "--max-tokens", "500", "--reason", "late", "--until", "2h"]
    assert sidecar.more(*words) == 0
    out = capsys.readouterr().out
    assert out.startswith("added: 500 tokens until ")
    assert "3 runs, each by itself" in out


def test_a_new_key_is_made_for_each_raise(sidecar: Sidecar) -> None:
    for _ in range(2):
        assert sidecar.more("research", "--max-tokens", "5", "--reason", "r", "--json") == 0
    one, other = (asked.key for asked, _ in sidecar.host.topped_up)
    assert one != other


def test_what_another_body_has_the_key_of_is_refused(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    sidecar.host.refuses = TopUpRefusedError(TopUpRefusal.KEY_REUSED, "names another top-up")
    assert sidecar.more("research", "--max-tokens", "5", "--reason", "r", "--key", "k") == 1
    assert "names another top-up" in capsys.readouterr().err


def test_a_try_that_fails_is_repeated() -> None:
    """Under the same key: it is the same request."""
    answers: list[Any] = [AskError("nothing answers"), AskError("not stored", 503), b"{}"]
    assert tried(lambda: _next(answers), (0.0, 0.0, 0.0)) == b"{}"
    with pytest.raises(AskError, match="another"):
        tried(lambda: _next([AskError("another", 409)]), (0.0, 0.0))
    with pytest.raises(AskError, match="nothing"):
        tried(lambda: _next([AskError("nothing answers")] * 2), ())


def _next(answers: list[Any]) -> bytes:
    found = answers.pop(0)
    if isinstance(found, Exception):
        raise found
    assert isinstance(found, bytes)
    return found


def test_a_raise_that_may_have_been_taken_says_how_to_repeat_it(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_budget.cli.commands.budget.PAUSES", ())
    sidecar.host.refuses = TopUpRefusedError(TopUpRefusal.NOT_STORED, "the disk is full")
    assert sidecar.more("research", "--max-tokens", "5", "--reason", "r", "--key", "k-9") == 1
    err = capsys.readouterr().err
    assert "the disk is full; try again with --key k-9: if it was added, it is not added" in err


def test_runs_are_summed_up_by_owner(sidecar: Sidecar, capsys: pytest.CaptureFixture[str]) -> None:
    used: dict[str, Number] = {semconv.TOKENS: 1_200_000, semconv.COST: Decimal("3.75")}
    sidecar.host.owners = [
        OwnerUse("ann", 3, 1, 1, used, frozenset({semconv.COST})),
        OwnerUse("", 1, 0, 0, {semconv.TOKENS: 5}, frozenset()),
    ]
    assert main(["session", "list", "--by", "user", "--sidecar", sidecar.url]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["USER", "RUNS", "OVER", "STOPPED", "TOKENS", "CALLS", "COST"],
        ["ann", "3", "1", "1", "1,200,000", "?", "$3.75+"],
        ["(none)", "1", "0", "0", "5", "?", "?"],
    ]
    assert main(["session", "list", "--by", "user", "--json", "--sidecar", sidecar.url]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["value"] == "ann"
    assert main(["session", "list", "--by", "colour", "--sidecar", sidecar.url]) == 1
    assert "'workflow' or 'team' or 'project' or 'user' or 'agent'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "body",
    ["[]", "{}", "x", '{"budgets": 5, "next_cursor": null}', '{"budgets": [{}], "next_cursor": 5}',
     '{"budgets": [{"name": "a", "resources": {"tokens": {"ratio": "x"}}}], "next_cursor": null}'],
)  # fmt: skip
@pytest.mark.parametrize("words", [["list"], ["show", "a"], ["history", "a"]])
def test_what_is_no_sidecar_is_told(
    capsys: pytest.CaptureFixture[str], words: list[str], body: str
) -> None:
    with answering(200, body) as url:
        status = main(["budget", *words, "--sidecar", url])
    assert status == 1
    assert "does not answer like a sidecar with budgets" in capsys.readouterr().err


def test_nothing_that_a_terminal_obeys_is_printed(
    sidecar: Sidecar, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = budget("users", "user", title="\x1b[31mred")
    sidecar.host.budgets = {"users": report(hostile, {("\x1b]0;x\x07\u202e",): 5})}
    group = "user=%1B]0;x%07%E2%80%AE"
    for words in (["list"], ["show", "users"], ["show", "users", "--group", group]):
        assert sidecar.budget(*words) == 0
        said = capsys.readouterr()
        assert not {"\x1b", "\x07", "\u202e"} & set(said.out + said.err)


def test_a_run_is_shown_with_the_budget_that_decided(capsys: pytest.CaptureFixture[str]) -> None:
    """Its window's end has the offset of the budget's zone."""
    state = replace(group_report(RESEARCH, (), 1100).state, binds=True, tz=BERLIN.tz)
    stopped = replace(verdict(), action=Action.STOP, status=LimitStatus.EXCEEDED, budgets=(state,))
    with answering(200, f'{{"verdict": {verdict_json.to_json(stopped)}, "orders": []}}') as url:
        assert main(["session", "show", "run-1", "--sidecar", url]) == 0
    said = "budget research: tokens at 110.0% (1,100 of 1,000), resets 2023-11-15 23:13 +01:00; it"
    assert said in capsys.readouterr().out
    page = f'{{"verdicts": [{verdict_json.to_json(stopped)}], "next_cursor": null}}'
    with answering(200, page) as url:
        assert main(["session", "list", "--sidecar", url]) == 0
    assert "budget research: tokens at 110.0% (1,100 of 1,000)" in capsys.readouterr().out


def test_a_terminal_gets_what_fits_dates_go_first_then_bars() -> None:
    """A pipe gets all of it."""
    items = [
        {
            "name": "users", "mode": "enforce", "group": {"user": "ann"},
            "window": {"rule": {"rolling": "1h"}} if resets is None else {"rule": {"every": "day"}},
            "resets_at": resets, "exhaustion_seconds": {"tokens": 0.0},
            "resources": {"tokens": {"used": 9, "limit": 9, "ratio": 1.0, "status": "exceeded"}},
        }
        for resets in ("1970-01-01T01:00:00+00:00", None)
    ]  # fmt: skip
    whole = budget_table(items, 0.0, 9).splitlines()
    assert whole[1].endswith("exhausted           Thu 1970-01-01 01:00 +00:00 (in 60 min)")
    assert whole[2].endswith("exhausted           bit by bit")
    without_dates = budget_table(items, 0.0, 9, 100).splitlines()
    assert without_dates[1].endswith("exhausted           in 60 min")
    assert "\u2588" in without_dates[1]
    narrow = budget_table(items, 0.0, 9, 60).splitlines()
    assert narrow[1].startswith("users   user=ann  100.0%  tokens 9 of 9")


def test_an_overrun_is_taken_off_in_words() -> None:
    """Not added as a negative number."""
    tokens = {
        "used": 1, "limit": 0, "base": 5, "top_up": 2, "carried": -9, "ratio": 1.0,
        "status": "exceeded",
    }  # fmt: skip
    item: dict[str, Any] = {
        "mode": "shadow", "group": {}, "window": {"rule": "total"}, "resets_at": None,
        "exhaustion_seconds": {"tokens": 0.0}, "resources": {"tokens": tokens}, "top_ups": [],
    }  # fmt: skip
    resets, line = group_details(item, (), 0.0)
    assert resets == "  resets      never"
    assert line.startswith("  exhausted, shadow tokens ")
    assert line.endswith("1 of 0: 5 configured + 2 topped up - 9 used past the limit before")
