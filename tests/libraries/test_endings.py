"""A run that is stopped ends with something in hand, in real frameworks; the provider's log is the
truth (``make test-libraries``)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.libraries.endings import FRAMEWORKS, RUNS, Endings, cases, overruns, wrong_with
from tests.libraries.environments import NoEnvironmentError
from tests.libraries.provider.conversation import FINAL
from tests.support.real import REQUIRE

pytestmark = pytest.mark.libraries


@pytest.fixture(scope="session")
def endings(request: pytest.FixtureRequest) -> Iterator[Endings]:
    """All selected frameworks, playing."""
    playing = Endings(
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "endings" in item.fixturenames
    )
    yield playing
    playing.close()


def _of(endings: Endings, name: str) -> dict[str, Any]:
    try:
        return endings.of(name)
    except NoEnvironmentError as error:
        if os.environ.get(REQUIRE) == "1":
            raise
        pytest.skip(f"NOT TESTED FOR REAL: {error}")


@pytest.mark.parametrize(("name", "scenario", "on_stop"), list(cases()))
def test_a_run_that_is_stopped_ends_as_it_was_told_to(
    name: str, scenario: str, on_stop: str, endings: Endings
) -> None:
    """With an exception that has what was finished; or with one last answer, marked."""
    outcomes = _of(endings, name)["outcomes"]
    found = [o for o in outcomes if (o["scenario"], o["on_stop"]) == (scenario, on_stop)]
    assert len(found) == 1
    assert not wrong_with(found[0]), "\n".join([*wrong_with(found[0]), str(found[0])])


@pytest.mark.parametrize("name", [each.name for each in FRAMEWORKS])
def test_of_many_runs_at_their_limit_each_ends_with_an_answer_and_none_overruns(
    name: str, endings: Endings
) -> None:
    """By more than its last call was larger than the one before."""
    runs = _of(endings, name)["fifty"]
    assert len(runs) == RUNS
    for limit, used, sizes, seen in runs:
        assert (seen["error"], seen["answer"]) == (None, FINAL), seen
        assert seen["cut_short"] is not None
        before, last = sizes
        assert used - limit <= max(0, last - before), (limit, used, sizes)
    over = overruns(runs)
    left = sum(max(0, limit - used) / limit for limit, used, *_ in runs) / RUNS
    print(
        f"{name}: {RUNS} of {RUNS} runs end with an answer; "
        f"{sum(each > 0 for each in over)} over their limit, by {max(over):.1%} at most; "
        f"{left:.1%} of the limit unused on average"
    )


@pytest.mark.parametrize("name", [each.name for each in FRAMEWORKS])
def test_what_a_framework_has_of_its_own_holds(name: str, endings: Endings) -> None:
    """Checkpoints, coroutines, hooks: as its module says; and no traceback on standard error."""
    found = _of(endings, name)
    wrong = {check: said for check, said in found["more"].items() if said is not None}
    assert not wrong, "\n".join(f"{check}: {said}" for check, said in wrong.items())
    assert "Traceback" not in found["stderr"], found["stderr"][-3000:]
