"""What was said once is not said again."""

from concurrent.futures import ThreadPoolExecutor

from otel_budget.logs.once import Once


def test_a_thing_is_said_once_until_it_is_forgotten() -> None:
    """Others are not concerned."""
    once = Once()
    assert [once.first("a"), once.first("a"), once.first("b")] == [True, False, True]
    once.forget(lambda what: what == "a")
    assert [once.first("a"), once.first("b")] == [True, False]


def test_beyond_the_bound_nothing_new_is_said() -> None:
    """Names come from outside."""
    once = Once(most=2)
    assert [once.first(name) for name in "abcab"] == [True, True, False, False, False]


def test_of_many_threads_one_is_first() -> None:
    """Without a lock, which a fork or a signal handler could find taken."""
    once = Once(most=10_000)
    with ThreadPoolExecutor(8) as threads:
        first = list(threads.map(once.first, [n // 8 for n in range(8_000)]))
    assert sum(first) == 1_000
