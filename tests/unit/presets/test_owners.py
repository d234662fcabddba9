"""Whose the runs of other programs are, and which kinds their tokens are of."""

from __future__ import annotations

import pytest

from otel_budget.core.owner_labels import Details
from otel_budget.core.samples import Sample
from otel_budget.core.token_kinds import KIND_COUNTERS
from otel_budget.presets.counting import ForeignRun, assembled, count
from otel_budget.presets.loader import preset, shipped
from otel_budget.presets.parser import PresetError

CLAUDE = shipped()["claude_code"]
WEIGHED = Details(("organization", "department"), token_kinds=True)


def claude(kind: str = "input", **labels: str) -> Sample:
    """Return one series of Claude Code."""
    name = "claude_code_token_usage_total"
    return Sample(name, {"type": kind, "session_id": "s", **labels}, 100.0)


def run_of(*samples: Sample, details: Details = WEIGHED) -> ForeignRun:
    """Return the one run there is."""
    (run,) = count(CLAUDE, samples, details=details).sessions
    return run


def test_a_preset_says_which_label_of_its_program_is_which() -> None:
    labels = {"user_email": "ann@example.com", "user_id": "0f", "organization_id": "org-1"}
    assert run_of(claude("input", **labels)).labels == {
        "user": "ann@example.com", "organization": "org-1",
    }  # fmt: skip
    assert run_of(claude("input", **labels), details=Details()).labels == {
        "user": "ann@example.com"
    }


def test_a_label_of_that_very_name_counts_before_the_programs_own() -> None:
    """OTEL_RESOURCE_ATTRIBUTES=user=build,department=x of whoever starts it is on every series."""
    labels = {"user": "build", "user_email": "ann@example.com", "department": "x"}
    assert run_of(claude("input", **labels)).labels == {"user": "build", "department": "x"}


def test_a_program_that_says_nothing_of_it_leaves_it_unknown() -> None:
    run = run_of(claude())
    assert run.labels is None
    counted = count(CLAUDE, [claude()], details=WEIGHED)
    assert assembled(counted, "t", 1.0).sessions[0].attributes.labels is None


def test_of_two_values_one_run_has_the_same_in_any_order() -> None:
    two = [claude(user_email="bob"), claude("output", user_email="ann")]
    assert run_of(*two).labels == run_of(*reversed(two)).labels == {"user": "ann"}


def test_the_run_of_all_that_a_program_does_not_tell_apart_is_nobodys() -> None:
    proxy = shipped()["litellm_proxy"]
    name = "litellm_input_tokens_metric_total"
    both = [Sample(name, {"user_email": user, "team_alias": "t"}, 5.0) for user in ("ann", "bob")]
    (run,) = count(proxy, both, "proxy").sessions
    assert run.labels == {"team": "t"}


def test_values_without_end_are_looked_at_no_further() -> None:
    many = [claude(user_email=f"u{number}") for number in range(5000)]
    assert run_of(*many).labels == {"user": "u0"}


@pytest.mark.parametrize("value", ["x" * 300, "\ud800", "a\x00b"])
def test_a_value_that_cannot_say_it_is_left_out(value: str) -> None:
    assert run_of(claude(user_email=value, organization_id="o")).labels == {"organization": "o"}


def test_disjoint_types_are_kinds_with_their_wholes() -> None:
    kinds = {"input": 10.0, "cacheRead": 70.0, "cacheCreation": 20.0, "output": 5.0}
    run = run_of(*(claude(kind)._replace(value=value) for kind, value in kinds.items()))
    found: dict[str, object] = {}
    for (counter, _), value in run.counters.items():
        found[counter] = found.get(counter, 0) + value  # type: ignore[operator] # counts
    assert found == {
        "tokens": 105, KIND_COUNTERS["input"]: 100, KIND_COUNTERS["cache_read"]: 70,
        KIND_COUNTERS["cache_write"]: 20, KIND_COUNTERS["output"]: 5,
    }  # fmt: skip


def test_kinds_are_not_counted_where_nothing_weighs_them() -> None:
    run = run_of(claude(), claude("cacheRead"), details=Details())
    assert {counter for counter, _ in run.counters} == {"tokens"}


def test_a_metric_of_parts_alone_is_a_kind_and_adds_nothing() -> None:
    proxy = shipped()["litellm_proxy"]
    samples = [
        Sample("litellm_input_tokens_metric_total", {}, 100.0),
        Sample("litellm_input_cached_tokens_metric_total", {}, 60.0),
    ]
    (run,) = count(proxy, samples, "p", WEIGHED).sessions
    found = {counter: value for (counter, _), value in run.counters.items()}
    assert found == {
        "tokens": 100, KIND_COUNTERS["input"]: 100, KIND_COUNTERS["cache_read"]: 60,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "allowed"),
    [
        ("user", "a mapping"),
        ({"user": []}, "a label name"),
        ({"user": "user.email"}, "a label name"),
        ({"my user": "x"}, "a label name"),
        ({"user": 7}, "a list"),
    ],
)
def test_labels_that_cannot_be_are_refused_with_their_key(labels: object, allowed: str) -> None:
    with pytest.raises(PresetError, match=allowed) as caught:
        preset({"metrics": [{"names": "n_total", "counts": "input"}], "labels": labels})
    assert caught.value.at[0] == "labels"
