"""What a server would have shown at a moment, from its raw samples."""

from __future__ import annotations

from otel_budget import semconv
from otel_budget.replay.past_answer import LOOK_BACK, Moments, PastAnswer
from otel_budget.sources.prometheus_api import Series

PLACE = {"job": "agents", "instance": "a:1"}
UP = {"__name__": "up", **PLACE}
TOKENS = {"__name__": semconv.SESSION_TOKENS.name, **PLACE, semconv.SESSION_ID: "r"}
PROGRESS = {"__name__": semconv.PROGRESS.name, **PLACE, semconv.SESSION_ID: "r"}
SECOND = 1000


def series(labels: dict[str, str], *samples: tuple[int, float]) -> Series:
    """Return a series with samples at these seconds."""
    return Series(labels, [(at * SECOND, value) for at, value in samples])


def current(*seconds: int) -> Series:
    """Return at which seconds the server shows ``up``."""
    return series(UP, *((at, 1.0) for at in seconds))


def loaded(last: int, *every: Series, shown: tuple[int, ...] | None = None) -> PastAnswer:
    """Return a history of so many seconds, asked for each of them; shown: where ``up`` is."""
    answer = PastAnswer(None)
    at = tuple(range(1, last + 1)) if shown is None else shown
    answer.load(every, [current(*at)] if at else [], Moments(SECOND, last * SECOND, SECOND))
    return answer


def tokens_at(answer: PastAnswer, second: int) -> object:
    """Return what the run has used by then; None if nothing shows it."""
    answer.move(second * SECOND)
    sessions = answer.found(lambda *_: 0.0).sessions
    return sessions[0].counters["tokens", ""] if sessions else None


def ups(*seconds: int) -> Series:
    """Return a scrape at each second that was answered."""
    return series(UP, *((at, 1.0) for at in seconds))


def test_a_sample_counts_from_its_own_time_on() -> None:
    answer = loaded(9, series(TOKENS, (2, 5.0), (4, 9.0)), ups(2, 4))
    assert [tokens_at(answer, second) for second in range(1, 6)] == [None, 5, 5, 9, 9]
    assert answer.taken().sampled == {("agents/a:1", "r"): 4.0}


def test_a_series_that_a_scrape_does_not_bring_is_gone_with_that_scrape() -> None:
    answer = loaded(9, series(TOKENS, (2, 5.0), (4, 9.0)), ups(2, 4, 6))
    assert [tokens_at(answer, second) for second in (5, 6, 7)] == [9, None, None]


def test_one_series_of_a_run_is_gone_alone() -> None:
    answer = loaded(
        9, series(TOKENS, (2, 5.0), (4, 9.0)), series(PROGRESS, (2, 0.5)), ups(2, 4)
    )  # fmt: skip
    seen = []
    for second in (2, 4):
        answer.move(second * SECOND)
        (run,) = answer.found(lambda *_: 0.0).sessions
        seen.append(run.attributes.progress)
    assert seen == [0.5, None]


def test_a_scrape_that_fails_ends_all_series_of_its_target() -> None:
    failed = series(UP, (2, 1.0), (4, 0.0))
    answer = loaded(9, series(TOKENS, (2, 5.0)), failed)
    assert [tokens_at(answer, second) for second in (3, 4)] == [5, None]
    assert answer.taken().ups == {"agents/a:1": False}


def test_a_target_that_is_taken_away_is_there_for_as_long_as_the_server_shows_it() -> None:
    answer = loaded(9, series(TOKENS, (2, 5.0)), ups(2), shown=(2, 3, 4))
    assert [tokens_at(answer, second) for second in (4, 5)] == [5, None]
    assert answer.taken().ups == {}
    assert answer.labels() == {}


def test_a_series_that_bears_times_of_its_own_is_shown_for_the_look_back() -> None:
    last = LOOK_BACK // SECOND + 20
    scrapes = ups(*range(1, last, 10))
    answer = loaded(last, series(TOKENS, (2, 5.0)), scrapes)
    assert tokens_at(answer, LOOK_BACK // SECOND + 1) == 5
    assert tokens_at(answer, LOOK_BACK // SECOND + 2) is None


def test_without_an_up_a_series_is_shown_for_the_look_back() -> None:
    last = LOOK_BACK // SECOND + 20
    answer = loaded(last, series(TOKENS, (2, 5.0)), shown=())
    assert tokens_at(answer, LOOK_BACK // SECOND + 1) == 5
    assert tokens_at(answer, LOOK_BACK // SECOND + 2) is None


def test_a_moment_at_which_nothing_is_new_changes_nothing() -> None:
    answer = loaded(9, series(TOKENS, (2, 5.0)), ups(2))
    assert [answer.move(second * SECOND) for second in (1, 2, 3)] == [False, True, False]


def test_samples_that_were_known_already_count_once() -> None:
    answer = loaded(4, series(TOKENS, (2, 5.0), (4, 9.0)), ups(2, 4))
    assert tokens_at(answer, 4) == 9
    again = series(TOKENS, (4, 9.0), (6, 12.0))
    answer.load([again, ups(4, 6)], [current(5, 6)], Moments(5000, 6000, SECOND))
    assert [tokens_at(answer, second) for second in (5, 6)] == [9, 12]


def test_what_is_over_leaves_memory() -> None:
    answer = loaded(4, series(TOKENS, (2, 5.0)), ups(2), shown=(2,))
    answer.move(4 * SECOND)
    late = 2 * LOOK_BACK
    answer.load([], [], Moments(5000, late, SECOND))
    answer.move(late)
    answer.load([], [], Moments(late + SECOND, late + SECOND, SECOND))
    assert not answer._known
    assert not answer._targets


def test_an_up_that_goes_on_as_it_did_is_there_although_the_server_does_not_show_it() -> None:
    every = tuple(range(2, 9))
    tokens = series(TOKENS, *((at, 10.0 * at) for at in every))
    answer = loaded(8, tokens, ups(*every), shown=(7, 8))
    assert [tokens_at(answer, second) for second in range(1, 9)] == [None, *(10 * s for s in every)]


def test_of_a_server_that_gives_its_marks_nan_is_the_end_of_a_series() -> None:
    nan = float("nan")
    answer = loaded(9, series(TOKENS, (2, 5.0), (4, nan), (6, 7.0), (7, nan)), ups(2, 4, 6))
    answer.nan_ends = True
    assert [tokens_at(answer, second) for second in (3, 4, 6, 7)] == [5, None, 7, None]


def test_nan_that_a_scrape_brought_is_implausible() -> None:
    answer = loaded(9, series(TOKENS, (2, 5.0), (4, float("nan"))), ups(2, 4))
    answer.move(4 * SECOND)
    (run,) = answer.found(lambda *_: 0.0).sessions
    assert run.implausible == (semconv.SESSION_TOKENS.name,)
