"""Budgets in the configuration: what they mean, and when a window of them is too short."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from otel_budget.config.load import from_flags, load
from otel_budget.config.schema import SidecarConfig
from otel_budget.core.budget import Budget, Mode, WhenLow, Window, WindowKind
from otel_budget.errors import InvalidConfigError
from otel_budget.sidecar.config_summary import summary
from otel_budget.sidecar.factory import rules_of

SOURCE = 'source: {scrape: {targets: ["http://127.0.0.1:9464/metrics"]}}\n'
WHOLE = """\
budgets:
  - name: research-month
    title: Research
    match: {team: research, user: [ann, bob], tenant: "*"}
    per: [user, tenant]
    window: {every: month, time_zone: Europe/Berlin, at: "06:30", day: 15}
    limits: {max_tokens: 50000000, max_cost_usd: 200, max_tool_calls: 0}
    warning_threshold: 0.9
    weights: {cache_read: 0.1, output: 5}
    when_low: finish_most
    mode: shadow
    carry_over: 0.25
    carry_overrun: true
    groups_max: 20
scope_labels: [tenant]
"""


def read(folder: Path, text: str, source: str = SOURCE) -> SidecarConfig:
    """Write a configuration file and load it."""
    path = folder / "sidecar.yaml"
    path.write_text(source + text, encoding="utf-8")
    return load(path)


def window(folder: Path, text: str) -> Window:
    """Return what is read of a window."""
    pool = f"budgets: [{{name: pool, window: {text}, limits: {{max_tokens: 1}}}}]"
    return read(folder, pool).budgets[0].window


def test_every_key_of_a_budget_is_read(tmp_path: Path) -> None:
    """scope_labels may stand behind what names them."""
    config = read(tmp_path, WHOLE)
    assert config.scope_labels == ("tenant",)
    assert rules_of(config).budgets == (
        Budget(
            name="research-month",
            title="Research",
            match={"team": ("research",), "user": ("ann", "bob"), "tenant": ("*",)},
            per=("user", "tenant"),
            window=Window(
                WindowKind.CALENDAR,
                every="month",
                zone="Europe/Berlin",
                at=dt.time(6, 30),
                day=15,
            ),
            limits={"tokens": 50_000_000, "cost": Decimal(200), "tool_calls": 0},
            warning_threshold=0.9,
            weights={"cache_read": 100, "output": 5000},
            when_low=WhenLow.FINISH_MOST,
            mode=Mode.SHADOW,
            carry_over=0.25,
            carry_overrun=True,
            groups_max=20,
        ),
    )
    assert config.budgets[0].window.tz == ZoneInfo("Europe/Berlin")


def test_what_is_left_out_or_null_is_the_default(tmp_path: Path) -> None:
    """Those of the design."""
    small = "budgets: [{name: pool, window: run, limits: {max_api_calls: 5}}]"
    nulls = (
        "budgets: [{name: pool, window: run, limits: {max_api_calls: 5, max_tokens: null}, "
        'title: "", match: {}, per: [], warning_threshold: null, weights: {}}]'
    )
    expected = Budget("pool", Window(WindowKind.RUN), {"api_calls": 5})
    assert rules_of(read(tmp_path, small)).budgets == (expected,)
    assert rules_of(read(tmp_path, nulls)).budgets == (expected,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run", Window(WindowKind.RUN)),
        ("total", Window(WindowKind.TOTAL)),
        ("{rolling: 1h30m}", Window(WindowKind.ROLLING, seconds=5400)),
        ("{rolling: 7d}", Window(WindowKind.ROLLING, seconds=604_800)),
        ("{rolling: 90}", Window(WindowKind.ROLLING, seconds=90)),
        ("{every: 5h, from: first_use}", Window(WindowKind.FIRST_USE, seconds=18_000)),
        ("{every: hour}", Window(WindowKind.CALENDAR, every="hour")),
        ("{every: week, day: sunday}", Window(WindowKind.CALENDAR, every="week", day=7)),
        ("{every: week}", Window(WindowKind.CALENDAR, every="week", day=1)),
        ("{every: year, day: 31}", Window(WindowKind.CALENDAR, every="year", day=31)),
        (
            "{every: day, at: '23:59', time_zone: Asia/Kathmandu}",
            Window(WindowKind.CALENDAR, every="day", zone="Asia/Kathmandu", at=dt.time(23, 59)),
        ),
    ],
)
def test_windows_are_read(tmp_path: Path, text: str, expected: Window) -> None:
    """In all their forms."""
    assert window(tmp_path, text) == expected


def test_a_time_with_and_without_quotes_is_told_apart_through_an_alias(tmp_path: Path) -> None:
    """What is quoted where it is defined is quoted."""
    text = """\
budgets:
  - {name: a, window: {every: day, at: &six "06:00"}, limits: {max_tokens: 1}}
  - {name: b, window: {every: day, at: *six}, limits: {max_tokens: 1}}
"""
    assert [each.window.at for each in read(tmp_path, text).budgets] == [dt.time(6)] * 2
    with pytest.raises(InvalidConfigError) as refused:
        read(tmp_path, text.replace('"06:00"', "06:00"))
    assert [each.key for each in refused.value.problems] == [
        "budgets[0].window.at",
        "budgets[1].window.at",
    ]


def test_all_that_is_wrong_with_budgets_is_named_at_once(tmp_path: Path) -> None:
    """With the line of each, a time without quotes among the rest."""
    with pytest.raises(InvalidConfigError) as refused:
        read(
            tmp_path,
            "budgets:\n"
            "  - {name: A, window: total, limits: {max_tokens: 1}}\n"
            "  - {name: b, window: {every: day, at: 06:00}, limits: {}}\n",
        )
    assert [(each.key, each.where.rsplit(":")[-1]) for each in refused.value.problems] == [
        ("budgets[1].window.at", "4"),
        ("budgets[0].name", "3"),
        ("budgets[1].limits", "4"),
    ]


@pytest.mark.parametrize("text", ["{rolling: 2s}", "{every: 2s, from: first_use}", "run", "total"])
def test_a_window_of_two_readings_is_long_enough(tmp_path: Path, text: str) -> None:
    """And one that does not end always is."""
    window(tmp_path, text)


def test_a_window_is_not_too_short_where_nothing_is_read(tmp_path: Path) -> None:
    """A replay takes a file without a source, and has its own samples."""
    path = tmp_path / "policy.yaml"
    path.write_text(
        "budgets: [{name: a, window: {rolling: 1s}, limits: {max_tokens: 1}, backfill: true}]"
    )
    assert load(path, needs_source=False).budgets[0].backfill
    with pytest.raises(InvalidConfigError, match=r"source: is missing"):
        load(path)


def test_a_budget_may_be_filled_from_a_prometheus(tmp_path: Path) -> None:
    """Which has a history."""
    config = read(
        tmp_path,
        "budgets: [{name: a, window: total, limits: {max_tokens: 1}, backfill: true}]",
        'source: {prometheus: {url: "http://127.0.0.1:9090"}}\n',
    )
    assert rules_of(config).budgets[0].backfill


def test_the_revision_covers_budgets_and_not_their_order(tmp_path: Path) -> None:
    """Nor what is for people only, nor how an amount is spelled."""
    one = "{name: a, window: total, limits: {max_cost_usd: 5}}"
    two = "{name: b, window: {every: day}, limits: {max_cost_usd: 5}}"

    def revision(*budgets: str) -> str:
        return read(tmp_path, f"budgets: [{', '.join(budgets)}]").revision

    base = revision(one, two)
    assert base == revision(two, one) == revision(one.replace("5}", "5.00}"), two)
    assert base == revision(one.replace("{name", "{title: A, name"), two)
    changed = [
        revision(),
        revision(one),
        revision(one.replace("5}", "6}"), two),
        revision(one, two.replace("day", "week")),
        revision(one, two.replace("day", "day, time_zone: Europe/Berlin")),
        revision(one.replace("{name", "{match: {team: a}, name"), two),
        revision(one.replace("{name", "{mode: shadow, name"), two),
    ]
    assert len({base, *changed}) == 1 + len(changed)
    assert revision() == read(tmp_path, "").revision


def test_rules_have_budgets_by_name(tmp_path: Path) -> None:
    """So that nothing can depend on their order in the file."""
    names = ("b", "c", "a")
    each = ", ".join(f"{{name: {name}, window: run, limits: {{max_tokens: 1}}}}" for name in names)
    found = rules_of(read(tmp_path, f"budgets: [{each}]")).budgets
    assert [budget.name for budget in found] == ["a", "b", "c"]


def test_flags_alone_give_no_budgets() -> None:
    """There is no flag for them."""
    assert from_flags({"--target": ["http://127.0.0.1:1/metrics"]}).budgets == ()


def test_a_check_says_what_budgets_there_are(tmp_path: Path) -> None:
    """One line each."""
    lines = [line for line in summary(read(tmp_path, WHOLE)) if line.startswith("budget")]
    assert lines == [
        (
            "budget:   research-month (shadow): tokens 50,000,000, cost $200.00, tool_calls 0 for "
            "each user and tenant, each month, from day 15 at 06:30 (Europe/Berlin), of runs with "
            "team=research, user=ann or bob, tenant=*"
        )
    ]
