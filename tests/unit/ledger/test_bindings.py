"""Who may speak for a run: those it is bound to, or those that carry it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.config.schema import SidecarConfig
from otel_budget.config.sources import SourceConfig
from otel_budget.core.bindings import UNBOUND, Bindings, pattern
from otel_budget.core.observation import Observation, Problem, RunAttributes, RunObservation
from otel_budget.core.reasons import Reason
from otel_budget.errors import InvalidValueError
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.ledger import Ledger
from otel_budget.sidecar.config_summary import describe_bindings, warnings
from otel_budget.sidecar.storage import codec
from otel_budget.sources.file_sd import FileTargets
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from otel_budget.sources.target_bindings import (
    LabelBinding,
    UnmatchedBindings,
    bindings_of,
    claimed,
    claims_of,
    labelled,
    of_place,
    others_only,
)
from tests.support.exposition import line, page, serve

OWNER = Bindings({"run": ["a"]})
FIRST = Bindings(first_owns=True)


def seen(at: float, tokens: int, target: str = "a", name: str = "run", **said: Any) -> Any:
    """Return one sample of a run that began, and whose process did, at 1."""
    stated = RunAttributes(started_at=1.0, incarnation_at=1.0, state="running")._replace(**said)
    return RunObservation(name, target, at, {(semconv.TOKENS, ""): tokens}, stated)


def apply(ledger: Ledger, at: float, *sessions: Any, by: Bindings | None, **more: Any) -> None:
    """Let the ledger take in one reading."""
    ledger.apply(Observation("scrape", at, sessions, bindings=by, **more))


def tokens(ledger: Ledger, name: str = "run") -> Any:
    """Return what a run used."""
    return ledger.runs[name].totals()[semconv.TOKENS]


def kinds(ledger: Ledger) -> list[FindingKind]:
    """Return the kinds of all flags so far."""
    return [flag.kind for flag in ledger.findings]


def test_a_stranger_that_is_seen_first_opens_nothing() -> None:
    """There is no run until its owner shows it; the refusal is counted each time, flagged once."""
    ledger = Ledger()
    for at in (10, 11):
        apply(ledger, at, seen(at, 900, "b", state="completed"), by=OWNER)
    assert not ledger.runs
    assert ledger.dropped[semconv.BOUND_ELSEWHERE] == 2
    assert [(f.kind, f.session_id, f.targets, f.said) for f in ledger.findings] == [
        (FindingKind.BOUND_ELSEWHERE, "run", ("b",), "a")
    ]
    apply(ledger, 12, seen(12, 10), by=OWNER)
    assert tokens(ledger) == 10


def test_a_target_with_a_binding_may_show_what_nobody_is_bound_to() -> None:
    """A binding takes ids away from others; one that is nobody's is judged wherever it is."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 1, "a", "free"), seen(10, 2, "b", "free"), by=OWNER)
    assert ledger.runs.keys() == {"free"}


def test_ids_of_others_do_not_fill_the_session_limit() -> None:
    """They are refused before they are counted as runs of their target."""
    ledger = Ledger()
    bound = Bindings({"team-a.*": ["a"]})
    fills = [seen(10, 1, "b", f"team-a.{n}") for n in range(5)]
    apply(ledger, 10, *fills, seen(10, 7, "b", "own"), by=bound, session_limit=1)
    assert ledger.runs.keys() == {"own"}
    assert not ledger.crowded
    assert kinds(ledger) == [FindingKind.BOUND_ELSEWHERE]  # one for the pattern, not for each id


def test_a_binding_that_comes_later_frees_the_run_of_what_a_stranger_says() -> None:
    """Its limits, its end, its progress and its newer process; what was counted stays counted."""
    ledger = Ledger()
    lies: dict[str, Any] = {"limits": {"tokens": 1}, "progress": 0.0, "incarnation_at": 5.0}
    apply(ledger, 10, seen(10, 100, limits={"tokens": 900}, progress=0.5), by=UNBOUND)
    apply(ledger, 11, seen(11, 110, limits={"tokens": 900}, progress=0.5),
          seen(11, 50, "b", **lies), by=UNBOUND)  # fmt: skip
    assert ledger.runs["run"].attributes.limits == {"tokens": 1}
    apply(ledger, 12, seen(12, 120, limits={"tokens": 900}, progress=0.5),
          seen(12, 5000, "b", **lies), by=OWNER)  # fmt: skip
    run = ledger.runs["run"]
    assert run.attributes.limits == {"tokens": 900}
    assert run.attributes.progress == 0.5
    assert run.targets == {"a"}
    assert tokens(ledger) == 170
    again = codec.from_json(codec.to_json(run))
    assert again.totals() == run.totals()
    apply(ledger, 13, seen(13, 130), seen(13, 9000, "b", **lies), by=OWNER)
    assert tokens(ledger) == 180


def test_a_stranger_at_the_same_process_is_not_heard_any_more_either() -> None:
    """It named the very process; its limit for another resource went with it."""
    ledger = Ledger()
    for at in (10, 11):
        apply(ledger, at, seen(at, 100, optional_series=0.0),
              seen(at, 40, "b", limits={"cost": 1}), by=UNBOUND)  # fmt: skip
    assert ledger.runs["run"].attributes.limits == {"cost": 1}
    for at in (12, 13):
        apply(ledger, at, seen(at, 100 + at, optional_series=0.0), by=OWNER)
    assert ledger.runs["run"].attributes.limits == {}
    assert tokens(ledger) == 113


def test_an_account_that_only_strangers_filled_gives_way_to_the_owner_at_once() -> None:
    """Also after a restart of ours, and although they used a newer start."""
    ledger = Ledger()
    for at in (10, 11):
        apply(ledger, at, seen(at, 900, "b", started_at=9.0, incarnation_at=9.0), by=UNBOUND)
    fresh = Ledger()
    fresh.adopt(codec.from_json(codec.to_json(ledger.runs["run"])), 12)
    apply(fresh, 12, seen(12, 900, "b", started_at=9.0), seen(12, 10), by=OWNER)
    assert (fresh.runs["run"].started_at, tokens(fresh)) == (1.0, 10)
    apply(fresh, 13, seen(13, 11), by=OWNER)
    assert (fresh.runs["run"].also, tokens(fresh)) == ((), 11)


def test_a_run_that_moves_with_its_binding_goes_on_with_its_use() -> None:
    """Resumed on another host, and the configuration says so: the book is not made smaller."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 100, "old"), by=Bindings({"run": ["old"]}))
    moved = Bindings({"run": ["new"]})
    for at in (20, 21):
        said: dict[str, Any] = {"incarnation_at": 15.0, "carried_over": {"tokens": 90}}
        apply(ledger, at, seen(at, at, "new", **said), by=moved)
    assert tokens(ledger) == 121
    assert ledger.runs["run"].targets == {"new"}


def test_without_bindings_any_more_every_target_is_heard_again() -> None:
    """As before."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 100), seen(10, 7, "b", incarnation_at=2.0), by=OWNER)
    apply(ledger, 11, seen(11, 100), seen(11, 7, "b", incarnation_at=2.0), by=UNBOUND)
    assert tokens(ledger) == 107


def test_a_reading_that_says_nothing_of_bindings_changes_none() -> None:
    """As one of a source that did not answer."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 100), by=OWNER)
    apply(ledger, 11, seen(11, 7, "b", incarnation_at=2.0), by=None)
    assert tokens(ledger) == 100


def test_where_the_first_one_owns_a_second_target_is_refused_while_that_goes_on() -> None:
    """Whatever it claims to be; it is told once."""
    ledger = Ledger()
    for at in range(10, 20):
        other = seen(at, 900, "b", started_at=float(at), incarnation_at=float(at))
        apply(ledger, at, other, seen(at, at), by=FIRST)
    # Both were new in the first reading: the elder process is the one that is let in first.
    assert (ledger.runs["run"].started_at, tokens(ledger)) == (1.0, 19)
    assert kinds(ledger) == [FindingKind.CARRIED_ELSEWHERE]
    assert ledger.dropped[semconv.CARRIED_ELSEWHERE] == 10


def test_where_the_first_one_owns_the_run_is_taken_up_elsewhere_after_three_gaps() -> None:
    """Resumed at another address, it goes on with its use."""
    ledger = Ledger()
    for at in (10, 11, 12):
        apply(ledger, at, seen(at, 100), by=FIRST)
    for at in (13, 14, 15, 16):
        resumed: dict[str, Any] = {"incarnation_at": 13.0, "carried_over": {"tokens": 100}}
        apply(ledger, at, seen(at, at, "b", **resumed), by=FIRST)
        assert tokens(ledger) == (116 if at == 16 else 100)


def test_where_the_first_one_owns_a_restart_of_ours_hands_the_run_to_nobody() -> None:
    """Nobody listened meanwhile: that its target is silent is not known."""
    ledger = Ledger()
    for at in (10, 11, 12):
        apply(ledger, at, seen(at, 100), by=FIRST)
    fresh = Ledger()
    fresh.adopt(codec.from_json(codec.to_json(ledger.runs["run"])), 500)
    other: dict[str, Any] = {"incarnation_at": 400.0}
    apply(fresh, 500, seen(500, 900, "b", **other), seen(500, 101), by=FIRST)
    assert tokens(fresh) == 101


def test_where_the_first_one_owns_one_whose_target_is_down_is_free_sooner() -> None:
    """A process that was killed, and begun again elsewhere."""
    ledger = Ledger()
    for at in (10, 11, 12):
        apply(ledger, at, seen(at, 100), by=FIRST)
    down = (Problem("a", Reason.SOURCE_ERROR, "refused"),)
    apply(ledger, 14, seen(14, 5, "b", incarnation_at=13.0), by=FIRST, problems=down)
    assert tokens(ledger) == 105


@pytest.mark.parametrize("wrong", ["", "a*b", "**", "-a", "a b", ".*", 7, "x" * 129])
def test_what_is_no_session_id_and_no_beginning_of_one_is_refused(wrong: object) -> None:
    """A pattern is no regular expression."""
    with pytest.raises(InvalidValueError, match="beginning"):
        pattern(wrong)


@pytest.mark.parametrize(
    "bound",
    [
        {"scrape": {"targets": [{"url": "http://h:1/m", "sessions": ["soak-0-.*", "x-*", "a.b"]}]}},
        {"prometheus": {"url": "http://h:9", "bindings": [
            {"sessions": ["soak-0-.*"], "matchers": ['team="a"']},
            {"sessions": ["soak-0-.*"], "matchers": ['team="b"']},
        ]}},
    ],
)  # fmt: skip
def test_a_pattern_that_looks_like_a_regular_expression_is_said_to_be_none(bound: Any) -> None:
    config = SidecarConfig.model_validate({"source": bound, "resource_limits": {"max_tokens": 1}})
    said = [line for line in warnings(config) if line.startswith("sessions:")]
    assert said == [
        (
            "sessions: soak-0-.* is not a regular expression: it matches ids that begin with "
            "'soak-0-.', dot included. Write soak-0-* for all that begin with 'soak-0-'"
        )
    ]


def test_so_is_one_in_a_list_of_targets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    group = {"targets": ["h:1"], "labels": {"__otel_budget_sessions__": "team-a.*, b*"}}
    (tmp_path / "t.json").write_text(json.dumps([group]))
    files = FileTargets([str(tmp_path / "*.json")])
    files.read()
    files.read()
    assert caplog.text.count("team-a.* is not a regular expression") == 1


def test_what_the_configuration_binds_no_list_of_targets_takes() -> None:
    """Not the id, not a part of it; a wider beginning binds what is left."""
    configured = {"team-a.*": {"a"}}
    listed = {"team-a.1": {"b"}, "team-a.*": {"b"}, "team*": {"b"}, "x": {"b"}}
    bound = bindings_of(configured, listed, first_owns=False)
    assert [bound.refusing(sid, "b") for sid in ("team-a.1", "team-b.1", "x")] == [
        "team-a.*", None, None,
    ]  # fmt: skip


def test_a_target_is_the_same_one_by_another_loopback_name() -> None:
    """As a process registers itself by an address, and a person writes localhost."""
    urls = [
        "http://localhost:1/metrics",
        "http://127.0.0.1:1/metrics",
        "http://127.0.0.1:2/metrics",
    ]
    claims = claims_of([(urls[0], ("run",))], urls)
    assert claims == {"run": set(urls[:2])}
    assert claims_of([("http://gone:1/metrics", ("run",))], urls) == {"run": set()}


def test_a_label_that_a_page_makes_up_binds_nothing() -> None:
    """What is said of a target is what all of its up series say."""
    true = {"job": "b", "instance": "h:1"}
    forged = {**true, "team": "a", "session_id": "run"}
    targets = {"b/h:1": [true, forged], "a/h:2": [{"job": "a", "team": "a", "session_id": "run"}]}
    binding = LabelBinding(["team-a.*"], ['team="a"'])
    assert claimed([binding], targets) == {"team-a.*": {"a/h:2"}}
    assert labelled(targets) == {"run": {"a/h:2"}}


@pytest.mark.parametrize(
    ("matcher", "matches"),
    [
        ('team="a.b"', [True, False, False]),
        ('team=~"a.b|"', [True, True, True]),
        ('team!="a.b"', [False, True, True]),
        ('team!~"a.*"', [False, False, True]),
        ('team=""', [False, False, True]),
    ],
)
def test_matchers_of_target_labels_are_those_of_promql(matcher: str, matches: list[bool]) -> None:
    """Anchored at both ends; a label that is not there is empty."""
    binding = LabelBinding(["x"], [matcher])
    assert [binding.matches([each]) for each in ({"team": "a.b"}, {"team": "axb"}, {})] == matches


def test_a_binding_that_matches_nothing_is_told_after_five_minutes() -> None:
    """A target may take its time to come, and a run to begin."""
    unmatched = UnmatchedBindings()
    assert not unmatched.note({"x": "why"}, 0)
    assert not unmatched.note({}, 200)
    assert not unmatched.note({"x": "why"}, 300)
    assert unmatched.note({"x": "why"}, 600) == {"x": "why"}


def test_a_bound_target_that_shows_other_runs_only_is_worth_a_word() -> None:
    """Its pattern has a typing error, most likely. None at all is a fleet at rest."""
    assert "nigthly-*" in others_only(["nigthly-*"], ["nightly-1"], "target a")
    assert not others_only(["nigthly-*"], [], "target a")
    assert not others_only(["nigthly-*"], ["nigthly-1", "other"], "target a")


def test_of_a_target_without_up_job_and_instance_are_known() -> None:
    """The server sets them; a job may have slashes in its name."""
    binding = LabelBinding(["x"], ['job="a/b"', 'instance="h:1"'])
    assert binding.matches([of_place("a/b/h:1")])
    assert not LabelBinding(["x"], ['team="a"']).matches([of_place("a/h:1")])


def test_a_nudge_asks_the_owners_of_a_run_alone() -> None:
    """A stranger that hangs must not hold up the look at it."""

    async def asked() -> Any:
        with serve() as own, serve() as other:
            for each in (own, other):
                each.show(page(line(semconv.SESSION_TOKENS, 5, "run")))
            targets = [ScrapeTarget(own.url, sessions=["run"]), ScrapeTarget(other.url)]
            source = ScrapeSource(ScrapeSettings(targets, timeout=5), time.time)
            await source.read()
            found = await source.read_run("run")
            await source.close()
            return found is not None and found.asked == frozenset([own.url])

    assert asyncio.run(asked())


def test_what_is_bound_is_said() -> None:
    """In what config check prints, and so in the log."""
    scrape = {"targets": [{"url": "http://h:1/metrics", "sessions": ["a", "b.*"]}, "http://h:2/m"]}
    config = SourceConfig.model_validate({"scrape": {**scrape, "on_second_target": "refuse"}})
    assert list(describe_bindings(config)) == [
        "a, b.* to http://h:1/metrics",
        "other runs to the targets that carry them, as long as they show them",
    ]
    bound = {"sessions": ["a"], "matchers": ['team="a"', 'job=~"x|y"']}
    config = SourceConfig.model_validate({"prometheus": {"url": "http://h:9", "bindings": [bound]}})
    assert list(describe_bindings(config)) == ['a to {team="a", job=~"x|y"}']
