"""A sidecar that answers and has no verdict on the run: said once, shown, not waited for ever."""

from __future__ import annotations

import logging

import pytest

from otel_budget import InvalidValueError, ResourceMonitor, semconv
from otel_budget.core.limits import ResourceLimits
from otel_budget.core.reasons import Action, Reason
from otel_budget.sdk.engagement import SHORT_RUNS
from otel_budget.sdk.metrics.collector import NEVER_SCRAPED, RUNS, RunCollector
from otel_budget.sdk.metrics.visibility import PAGES, Page
from otel_budget.sdk.run_record import RunRecord
from otel_budget.sdk.sidecar_client.lease import FIRST_VERDICT, LISTEN
from otel_budget.testing import FakeClock
from tests.support.monitors import Make
from tests.unit.sdk.test_sidecar_verdicts import continued, guided, hear


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without a page, whatever other tests opened or registered."""
    monkeypatch.setattr(PAGES, "_open", {})
    monkeypatch.setattr(PAGES, "inherited", None)
    monkeypatch.setattr(RUNS, "registered", False)
    monkeypatch.setattr(RUNS, "_scrapes_done", 0)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)


def answered(monitor: ResourceMonitor, clock: FakeClock, seconds: float) -> None:
    """Let the sidecar answer every 5 s, as its keep-alives do, without a verdict."""
    for _ in range(int(seconds / 5)):
        clock.advance(5)
        monitor._run._answered()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said at WARNING and above."""
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_run_that_the_sidecar_never_sees_says_so_once(
    make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With the likely cause and what to do; the verdict says it too, and the run goes on."""
    monitor = guided(make)
    answered(monitor, clock, 55)
    assert warnings(caplog) == []
    answered(monitor, clock, 300)
    (said,) = warnings(caplog)
    assert "has not seen this run within 60 s" in said
    assert "call serve_metrics()" in said
    assert "only the run's own limits apply" in said
    assert monitor.verdict.should_continue
    assert "does not judge this run" in monitor.verdict.message


def test_a_run_that_stops_without_a_sidecar_has_a_bound_for_its_first_verdict(
    make: Make, clock: FakeClock
) -> None:
    """However often the sidecar answers meanwhile; and it goes on once it is judged."""
    heard: list[str] = []
    monitor = guided(
        make, on_sidecar_loss="stop", on_verdict=lambda verdict: heard.append(verdict.reason)
    )
    answered(monitor, clock, FIRST_VERDICT - 5)
    assert monitor.should_continue()
    answered(monitor, clock, 5)
    assert heard == [Reason.SIDECAR_LOST], "nobody asked, and it is said all the same"
    assert not monitor.should_continue()
    assert "no verdict of the sidecar on this run within 90 s" in monitor.verdict.message
    answered(monitor, clock, 600)
    assert not monitor.should_continue()
    monitor._run._receive(continued(monitor))
    assert monitor.should_continue()


def test_only_time_in_which_the_sidecar_answered_counts(make: Make, clock: FakeClock) -> None:
    """A sidecar that was away, or an agent that slept, had no time to judge the run."""
    monitor = guided(make, on_sidecar_loss="stop", first_verdict_timeout=30)
    clock.advance(1000)
    monitor._run._answered()
    assert monitor.should_continue()
    answered(monitor, clock, 25)
    assert monitor.should_continue()
    answered(monitor, clock, 5)
    assert not monitor.should_continue()


def test_a_run_that_was_frozen_before_its_first_verdict_listens_for_it(
    make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """For longer than that may take: the verdict came meanwhile, and waits to be read."""
    monitor = guided(make, on_sidecar_loss="stop", first_verdict_timeout=6)
    clock.advance(1)
    monitor._run._answered()
    clock.advance(8)
    assert monitor.should_continue()
    monitor._run._answered()
    assert monitor.should_continue()
    monitor._run._receive(continued(monitor))
    assert monitor.should_continue()
    assert warnings(caplog) == []


def test_a_run_that_is_frozen_again_and_again_has_a_bound_for_its_first_verdict(
    make: Make, clock: FakeClock
) -> None:
    monitor = guided(make, on_sidecar_loss="stop", first_verdict_timeout=30)
    for _ in range(20):
        clock.advance(100)
        monitor._run._answered()
    assert not monitor.should_continue()


def test_a_verdict_that_comes_after_the_warning_ends_it(
    make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Said like the warning, so that who saw the one sees the other."""
    monitor = guided(make)
    answered(monitor, clock, 60)
    caplog.clear()
    monitor._run._receive(continued(monitor))
    assert warnings(caplog) == [f"run {monitor.session_id!r}: the sidecar judges this run now"]
    assert "does not judge" not in monitor.verdict.message


def test_a_run_that_is_judged_no_more_says_so(
    make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its target was taken out of the sidecar's file, say."""
    monitor = guided(make)
    monitor._run._receive(continued(monitor))
    answered(monitor, clock, 90)
    (said,) = warnings(caplog)
    assert "has had no new verdict on this run" in said


def test_a_stop_for_a_verdict_that_ran_out_says_that_the_sidecar_answers(
    make: Make, clock: FakeClock
) -> None:
    """That it is there is half of what to look for."""
    monitor = guided(make, on_sidecar_loss="stop")
    monitor._run._receive(continued(monitor))
    for _ in range(5):
        answered(monitor, clock, 5)
        monitor.should_continue()
    assert not monitor.should_continue()
    assert monitor.verdict.message.startswith("the sidecar answers, but its last verdict")


def test_a_verdict_on_another_run_of_the_same_id_is_named_as_the_cause(
    make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The sidecar judges that one, and this one never."""
    monitor = guided(make, on_sidecar_loss="stop")
    for _ in range(20):
        hear(monitor, started_at=monitor._record.started_at + 60)
        answered(monitor, clock, 5)
    said, stopped = warnings(caplog)
    assert "another run under this id" in said
    assert "stop (sidecar_lost)" in stopped
    assert "on_sidecar_loss is 'stop'" in said
    assert not monitor.should_continue()


def judged(monitor: ResourceMonitor) -> list[float]:
    """Return what the run's page says of whether it is judged."""
    return [
        sample.value
        for family in RUNS.collect()
        for sample in family.samples
        if sample.name == semconv.SIDECAR_JUDGED.name
        and sample.labels["session_id"] == monitor.session_id
    ]


def test_the_page_says_whether_the_run_is_judged(make: Make, clock: FakeClock) -> None:
    """1 while a verdict is in force; absent without a sidecar."""
    monitor = guided(make)
    assert judged(monitor) == [0.0]
    monitor._run._receive(continued(monitor))
    assert judged(monitor) == [1.0]
    clock.advance(15)
    assert judged(monitor) == [0.0]
    assert judged(make()) == []


def test_log_status_says_why_the_run_is_not_judged(
    make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """As a line of its own."""
    caplog.set_level(logging.INFO, "otel_budget")
    monitor = guided(make)
    monitor.log_status()
    assert "has not seen" not in caplog.text
    answered(monitor, clock, 60)
    caplog.clear()
    monitor.log_status()
    assert "has not seen this run within 60 s" in caplog.text


def test_many_short_runs_that_nothing_judges_are_said_once_for_all(
    make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Each ends before it would say so itself; one that is judged shows that runs can be seen."""

    def short(*, judged: bool = False) -> None:
        monitor = guided(make)
        answered(monitor, clock, 10)
        if judged:
            monitor._run._receive(continued(monitor))
        monitor.close()

    SHORT_RUNS.judged()
    for _ in range(5):
        short()
    short(judged=True)
    for _ in range(5):
        short()
    assert warnings(caplog) == []
    for _ in range(10):
        short()
    (said,) = warnings(caplog)
    assert "has seen none of the 6 runs of this process that ended within 60 s" in said
    assert "no page shows it" in said
    SHORT_RUNS.judged()


def test_runs_under_a_sidecar_that_never_answered_are_none_of_those(
    make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """That it is away was said."""
    SHORT_RUNS.judged()
    for _ in range(10):
        monitor = guided(make)
        clock.advance(10)
        monitor.close()
    assert warnings(caplog) == []


def test_why_there_is_no_sidecar_is_said_before_it_was_asked_as_well(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A child of a fork that is over at once."""
    guided(make)._run._reachability_changed(False)
    (said,) = warnings(caplog)
    assert "no sidecar: it was not asked yet; the run goes on under its own limits" in said


PAGE = Page("http://127.0.0.1:9999/metrics", "127.0.0.1", None, 17)


def test_the_likely_cause_is_told_from_what_this_process_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the most certain to the least."""
    assert "no page shows it" in PAGES.why_unseen()
    RUNS.describe()
    assert "in a registry of the application" in PAGES.why_unseen()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    assert "PROMETHEUS_MULTIPROC_DIR is set" in PAGES.why_unseen()
    PAGES.opened(PAGE)
    assert "nothing has scraped http://127.0.0.1:9999/metrics yet" in PAGES.why_unseen()
    PAGES._reset()
    assert "was opened in process 17 before this one was forked" in PAGES.why_unseen()
    list(RUNS.collect())
    assert "process was scraped" in PAGES.why_unseen()


@pytest.mark.parametrize("given", [0, -1, True, "90", float("nan"), float("inf")])
def test_a_timeout_that_cannot_be_is_refused(given: object) -> None:
    """Naming the argument."""
    with pytest.raises(InvalidValueError, match="first_verdict_timeout"):
        ResourceMonitor(first_verdict_timeout=given)  # type: ignore[arg-type]


def test_the_environment_gives_the_timeout_for_all_runs(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The argument goes before it; one that is no number is refused by its name."""
    monkeypatch.setenv("OTEL_BUDGET_FIRST_VERDICT_TIMEOUT", "7.5")
    lease = make(sidecar="http://127.0.0.1:9")._run._lease
    assert lease is not None
    assert lease.first_verdict == 7.5
    lease = make(sidecar="http://127.0.0.1:9", first_verdict_timeout=3)._run._lease
    assert lease is not None
    assert lease.first_verdict == 3
    monkeypatch.setenv("OTEL_BUDGET_FIRST_VERDICT_TIMEOUT", "soon")
    with pytest.raises(InvalidValueError, match="OTEL_BUDGET_FIRST_VERDICT_TIMEOUT"):
        make()


# --- a page that nobody reads ---------------------------------------------------------------------
def test_a_page_that_nobody_ever_scrapes_is_said_once(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Only while it shows runs, from when it was opened, and not if it was scraped once."""
    sessions = RunCollector(clock.clock.monotonic)
    clock.advance(1000)
    sessions.offered()
    clock.advance(NEVER_SCRAPED + 1)
    sessions.mind_unscraped("port 1")
    assert warnings(caplog) == [], "there is nothing to see on it"
    sessions.add(RunRecord("unread", ResourceLimits(), clock.clock, labels={}))
    for _ in range(3):
        sessions.mind_unscraped("port 1")
        sessions.offered()
    (said,) = warnings(caplog)
    assert "port 1 shows 1 run, but nothing has scraped it within 121 s" in said


def test_a_page_that_is_scraped_is_not_warned_of(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Once is enough to know that somebody knows of it."""
    sessions = RunCollector(clock.clock.monotonic)
    sessions.add(RunRecord("read", ResourceLimits(), clock.clock, labels={}))
    list(sessions.collect())
    clock.advance(10 * NEVER_SCRAPED)
    sessions.mind_unscraped("port 1")
    assert warnings(caplog) == []


def test_the_sidecar_lost_stop_keeps_its_words_where_no_sidecar_answers(
    make: Make, clock: FakeClock
) -> None:
    """That is another situation, and another remedy."""
    monitor = guided(make, on_sidecar_loss="stop")
    clock.advance(15)
    monitor._run._not_answered()
    clock.advance(LISTEN)
    assert monitor.verdict.action is Action.STOP
    assert monitor.verdict.message.startswith("no sidecar, no lease")
