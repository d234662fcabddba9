"""Which labels say whose a run is, and what of hostile ones is taken in."""

from __future__ import annotations

import pytest

from otel_budget.core.owner_labels import LABEL_LENGTH, NO_DETAILS, Details, owner_labels


def test_the_usual_labels_are_read_and_those_that_are_named() -> None:
    labels = {"workflow": "w", "team": "a", "tenant": "t", "session_id": "s"}
    assert owner_labels(labels, NO_DETAILS.labels) == {"workflow": "w", "team": "a"}
    assert owner_labels(labels, Details(("tenant",)).labels) == {
        "workflow": "w", "team": "a", "tenant": "t",
    }  # fmt: skip


def test_a_usual_label_that_is_named_again_is_one_label() -> None:
    assert Details(("team", "tenant")).labels.count("team") == 1


def test_what_a_server_renamed_is_the_runs_own() -> None:
    """The server has a label of that name for the target; the run's own is behind the prefix."""
    assert owner_labels({"team": "of-target", "exported_team": "own"}) == {"team": "own"}


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x" * (LABEL_LENGTH + 1),
        "\ud800",
        "a\udfffb",
        "a\nb",
        "\x00",
        "\x1b[2J",
        "\x7f",
        "a\u2028",
    ],
)
def test_a_value_that_cannot_say_it_is_left_out_and_costs_no_other_label(value: str) -> None:
    assert owner_labels({"user": value, "team": "a"}) == {"team": "a"}


@pytest.mark.parametrize("value", ["x" * LABEL_LENGTH, "Zoë", "名前", "a b", "{user=,}%", "😀"])
def test_whatever_text_people_write_is_a_value(value: str) -> None:
    assert owner_labels({"user": value}) == {"user": value}


def test_equal_labels_are_one_object() -> None:
    assert owner_labels({"team": "a"}) is owner_labels({"team": "a", "model": "m"})
