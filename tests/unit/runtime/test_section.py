"""A lock for which nobody waits who only hands in work."""

from __future__ import annotations

import threading

import pytest

from otel_budget.runtime.section import Section

DEADLINE = 30


def test_what_is_handed_in_while_it_is_held_is_done_by_the_holder_in_order() -> None:
    section, done = Section(), list[int]()
    assert section.enter()

    def hand_in() -> None:
        section.hand_in(lambda: done.append(1))
        section.hand_in(lambda: done.append(2))

    other = threading.Thread(target=hand_in)
    other.start()
    other.join(DEADLINE)
    assert not other.is_alive()
    assert done == []
    section.leave()
    assert done == [1, 2]


def test_nothing_is_done_in_the_middle_of_what_is_being_done() -> None:
    section, done = Section(), list[str]()

    def inner() -> None:  # as a finalizer would
        assert not section.enter()
        assert not section.enter_if_free()
        section.hand_in(lambda: done.append("inner"))
        done.append("outer")

    section.hand_in(inner)
    assert done == ["outer", "inner"]
    assert section.enter_if_free()
    section.leave()


def test_work_that_fails_leaves_the_lock_free() -> None:
    section = Section()

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        section.hand_in(fail)
    assert section.enter()
    section.leave()


def test_many_threads_hand_in_and_all_of_it_is_done() -> None:
    section, done, barrier = Section(), list[int](), threading.Barrier(8)

    def work() -> None:
        barrier.wait(DEADLINE)
        for number in range(200):
            if number % 3:
                section.hand_in(lambda: done.append(1))
            elif section.enter():
                done.append(1)
                section.leave()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(done) == 1600
