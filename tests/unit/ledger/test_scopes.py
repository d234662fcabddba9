"""Which group of a budget a run counts in."""

from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Window, WindowKind
from otel_budget.ledger.scopes import effective_labels, group_in

Said = dict[str, str]


def budget(**more: Any) -> Budget:
    """Return a budget over all time."""
    return Budget("all", Window(WindowKind.TOTAL), {semconv.TOKENS: 1}, **more)


@pytest.mark.parametrize(
    ("match", "lineage", "group"),
    [
        ({}, [{}], ("",)),
        ({}, [{"user": "ann"}], ("ann",)),
        ({"team": ("core",)}, [{"user": "ann"}], None),
        ({"team": ("core",)}, [{"user": "ann", "team": "base"}], None),
        ({"team": ("base", "core")}, [{"user": "ann", "team": "core"}], ("ann",)),
        ({"team": ("*",)}, [{"user": "ann", "team": ""}], None),
        ({"team": ("*",)}, [{"user": "ann", "team": "x"}], ("ann",)),
        # It inherits what it does not say itself.
        ({"team": ("core",)}, [{"user": "ann"}, {"team": "core", "user": "bob"}], ("ann",)),
        # It counts where its parent does, once, and where both do as its own.
        ({"team": ("core",)}, [{"team": "x", "user": "ann"}, {"team": "core"}], ("",)),
        ({"team": ("core",)}, [{"team": "x"}, {"team": "y"}, {"team": "core"}], ("",)),
        ({}, [{"user": "ann"}, {"user": "bob"}], ("ann",)),
    ],
)
def test_a_run_counts_in_the_group_of_the_first_labels_that_match(
    match: dict[str, tuple[str, ...]], lineage: list[Said], group: tuple[str, ...] | None
) -> None:
    """Its own first, completed by what it inherits, then those of its ancestors."""
    found = group_in(budget(match=match, per=("user",)), effective_labels(lineage))
    assert found == group
