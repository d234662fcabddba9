"""What of other programs' metrics counts, as what, and what does not: sample by sample."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_budget.config.load import load
from otel_budget.core.samples import Sample
from otel_budget.presets.counting import Counted, ForeignRun, assembled, count
from otel_budget.presets.loader import preset, shipped
from otel_budget.presets.model import Preset
from otel_budget.presets.parser import PresetError, preset_from
from tests.support.paths import ROOT

CLAUDE = shipped()["claude_code"]
GEN_AI = shipped()["gen_ai"]
TOKENS = "claude_code_token_usage_total"
DOCS = (ROOT / "docs" / "presets.md").read_text(encoding="utf-8")
USAGE = "gen_ai_client_token_usage_sum"


def claude(value: float, kind: str, session: str = "s1", **labels: str) -> Sample:
    """Return one series of Claude Code."""
    return Sample(TOKENS, {"type": kind, "session_id": session, **labels}, value)


def usage(value: float, kind: str, scope: str = "a", name: str = USAGE, **labels: str) -> Sample:
    """Return one series of the histogram of tokens."""
    given = {"gen_ai_provider_name": "openai", "otel_scope_name": scope, **labels}
    return Sample(name, {"gen_ai_token_type": kind, **given}, value)


def only(counted: Counted) -> ForeignRun:
    """Return the one session there is."""
    (session,) = counted.sessions
    return session


def reasons(counted: Counted) -> dict[str, int]:
    """Return why samples did not count, and how many."""
    found: dict[str, int] = {}
    for one, samples in counted.ignored.items():
        found[one.reason] = found.get(one.reason, 0) + samples
    return found


def own(**keys: Any) -> Preset:
    """Return a preset of one's own."""
    return preset_from("own", {"metrics": [{"names": "n_total", "counts": "input"}], **keys})


def test_disjoint_types_add_up_and_are_parts_at_once() -> None:
    """What Claude Code read from its cache is input, and cached."""
    samples = [claude(300, "input"), claude(600, "cacheRead"), claude(100, "cacheCreation")]
    session = only(count(CLAUDE, [*samples, claude(300, "output")]))
    assert session.amounts == {
        "input": 1000, "output": 300, "cached": 600, "cache_write": 100, "tokens": 1300,
    }  # fmt: skip


def test_every_series_is_a_counter_of_its_own_and_parts_are_none() -> None:
    """The ledger sees the reset of each; what is a part only is no counter."""
    vllm = shipped()["vllm"]
    names = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
    samples = [Sample(name, {"engine": e}, 10) for name in names for e in ("0", "1")]
    counted = count(vllm, [*samples, Sample("vllm:prompt_tokens_cached_total", {"engine": "0"}, 9)])
    counters = only(counted).counters
    assert sorted(counters.values()) == [10, 10, 10, 10]
    assert {resource for resource, _ in counters} == {"tokens"}


def test_two_spellings_of_one_metric_count_once_under_one_key() -> None:
    """So it may change its spelling without being counted anew."""
    other = "claude_code_token_usage_tokens_total"
    labels = {"type": "input", "session_id": "s1"}
    one = only(count(CLAUDE, [Sample(TOKENS, labels, 300)]))
    both = count(CLAUDE, [Sample(TOKENS, labels, 300), Sample(other, labels, 400)])
    assert only(both).amounts["input"] == 400
    assert only(both).counters.keys() == one.counters.keys()
    assert reasons(both) == {f"the same as {other}, which counts": 1}


def test_a_label_value_nobody_knows_is_added_to_nothing_and_said() -> None:
    """The tokens of the session are then 'at least'."""
    counted = count(CLAUDE, [claude(300, "input"), claude(7, "audio")])
    session = only(counted)
    assert (session.amounts["tokens"], session.at_least) == (300, True)
    assert counted.dropped == {"token_type": 1}
    assert [dict(one.labels) for one in counted.strange] == [{"type": "audio"}]
    (reading,) = assembled(counted, "t", 0.0).sessions
    assert reading.attributes.unknown_usage_calls == 1


def test_a_session_of_which_nothing_is_known_is_there_and_in_doubt() -> None:
    """It is not absent, and not at 0."""
    (reading,) = assembled(count(CLAUDE, [claude(7, "audio")]), "t", 0.0).sessions
    assert (reading.counters, reading.implausible) == ({}, (TOKENS,))


def test_a_label_value_nobody_knows_that_counts_nothing_makes_nothing_uncertain() -> None:
    """A series at 0 says that nothing was used."""
    assert not only(count(CLAUDE, [claude(300, "input"), claude(0, "audio")])).at_least


def test_what_a_program_does_not_say_is_unknown() -> None:
    """Claude Code counts no calls; without its cost there is none."""
    counted = count(CLAUDE, [claude(300, "input")])
    assert only(counted).amounts.keys() == {"input", "tokens"}
    (reading,) = assembled(counted, "t", 0.0).sessions
    assert {resource for resource, _ in reading.counters} == {"tokens"}
    assert reading.attributes.unknown_usage_calls is None


@pytest.mark.parametrize("odd", ["../etc", "a" * 129, "s1\x1b[31m", "-x", "a b"])
def test_an_odd_session_id_is_dropped_and_counted(odd: str) -> None:
    """It never becomes the name of anything."""
    counted = count(CLAUDE, [claude(300, "input"), claude(9, "input", odd)])
    assert only(counted).amounts["tokens"] == 300
    assert counted.dropped == {"session_id": 1}


def test_without_a_session_label_a_target_is_one_session() -> None:
    """Its id says which preset and where; Claude Code may be told not to name sessions."""
    assert only(count(CLAUDE, [claude(300, "input", "")], "h:9464")).session_id == (
        "claude_code@h:9464"
    )
    vllm = [Sample("vllm:prompt_tokens_total", {"model_name": m}, 1) for m in ("a", "b")]
    assert only(count(shipped()["vllm"], vllm, "[::1]:8000")).session_id == "vllm@::1:8000"
    assert only(count(shipped()["vllm"], vllm)).session_id == "vllm"


def test_the_user_chooses_the_label_of_a_session() -> None:
    """Series without it stay one session of the target."""
    chosen = preset({"extends": "kong_ai", "session": {"labels": ["consumer"]}})
    samples = [
        Sample("kong_ai_llm_tokens_total", {"token_type": "prompt_tokens", "consumer": who}, 5)
        for who in ("alice", "bob", "")
    ]
    ids = [session.session_id for session in count(chosen, samples, "k:8100").sessions]
    assert sorted(ids) == ["alice", "bob", "kong_ai@k:8100"]


def test_a_value_that_names_nobody_is_no_session() -> None:
    """LiteLLM writes None for no end user."""
    chosen = preset(
        {"extends": "litellm_proxy", "session": {"labels": ["end_user"], "nameless": ["None"]}}
    )
    samples = [
        Sample("litellm_input_tokens_metric_total", {"end_user": who}, 5) for who in ("None", "eve")
    ]
    ids = [session.session_id for session in count(chosen, samples).sessions]
    assert sorted(ids) == ["eve", "litellm_proxy"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 2.0**54])
def test_a_value_that_cannot_be_leaves_its_session_in_doubt(value: float) -> None:
    """It is dropped, and not 0."""
    counted = count(CLAUDE, [claude(value, "input"), claude(300, "output")])
    assert only(counted).implausible == (TOKENS,)
    assert only(counted).amounts == {"output": 300, "tokens": 300}
    assert counted.dropped == {"implausible": 1}


def test_a_gauge_is_no_counter_unless_the_preset_says_so() -> None:
    """What is declared as something else is unknown."""
    gauge = Sample("n_total", {}, 5, "gauge")
    assert only(count(own(), [gauge])).implausible == ("n_total",)
    rule = {"names": "n_total", "counts": "input", "gauge": True}
    assert only(count(own(metrics=[rule]), [gauge])).amounts["input"] == 5


def test_of_two_scopes_for_one_provider_the_one_that_says_more_counts() -> None:
    """In whatever order they come; another provider adds up."""
    samples = [
        usage(1000, "input", "a"), usage(300, "output", "a"),
        usage(900, "input", "b"), usage(280, "output", "b"),
        usage(5, "input", "b", gen_ai_provider_name="anthropic"),
    ]  # fmt: skip
    for order in (samples, samples[::-1]):
        counted = count(GEN_AI, order)
        assert only(counted).amounts == {"input": 1005, "output": 300, "tokens": 1305}
        assert reasons(counted) == {"repeats a, which says more or as much and counts": 2}


def test_a_change_of_the_larger_scope_is_no_reset() -> None:
    """The counter of a provider keeps its key and only grows."""
    first = only(count(GEN_AI, [usage(10, "input", "a"), usage(9, "input", "b")])).counters
    later = only(count(GEN_AI, [usage(11, "input", "a"), usage(12, "input", "b")])).counters
    assert list(first.values()) == [10]
    assert list(later.values()) == [12]
    assert first.keys() == later.keys()


def test_processes_on_one_page_are_no_repetition() -> None:
    """A Collector shows many; each counts."""
    samples = [usage(10, "input", service_instance_id=one) for one in ("p", "q")]
    assert only(count(GEN_AI, samples)).amounts["input"] == 20


@pytest.mark.parametrize("word", ["openai", "OpenAI"])
def test_a_provider_is_the_same_under_its_older_label(word: str) -> None:
    """gen_ai.system became gen_ai.provider.name."""
    older = {"gen_ai_system": word, "otel_scope_name": "b", "gen_ai_token_type": "input"}
    counted = count(GEN_AI, [usage(10, "input", "a"), Sample(USAGE, older, 10)])
    assert only(counted).amounts["input"] == 10


def test_of_two_families_one_counts_and_equals_go_to_the_newer() -> None:
    """The newer one has the parts."""
    newer = "gen_ai_client_inference_usage"
    labels = {"gen_ai_provider_name": "openai", "otel_scope_name": "a"}
    samples = [
        usage(100, "input"),
        Sample(f"{newer}_input_tokens_total", {**labels, "gen_ai_token_modality": "text"}, 60),
        Sample(f"{newer}_input_tokens_total", {**labels, "gen_ai_token_modality": "image"}, 40),
        Sample(f"{newer}_cache_read_input_tokens_total", labels, 30),
    ]
    assert only(count(GEN_AI, samples)).amounts == {"input": 100, "cached": 30, "tokens": 100}


def test_calls_come_from_the_histogram_that_knows_more_of_them() -> None:
    """Durations have failed calls, too; an agent is no call."""
    durations = "gen_ai_client_operation_duration_seconds_count"
    labels = {"gen_ai_provider_name": "openai", "otel_scope_name": "a"}
    samples = [
        usage(2, "input", name="gen_ai_client_token_usage_count"),
        usage(2, "output", name="gen_ai_client_token_usage_count"),
        Sample(durations, {**labels, "gen_ai_operation_name": "chat"}, 2),
        Sample(durations, {**labels, "gen_ai_operation_name": "chat", "error_type": "500"}, 1),
        Sample(durations, {**labels, "gen_ai_operation_name": "invoke_agent"}, 1),
    ]
    assert only(count(GEN_AI, samples)).amounts == {"calls": 3}


def test_tokens_of_an_agent_repeat_those_of_its_calls() -> None:
    """They are never added."""
    samples = [usage(10, "input"), usage(10, "input", gen_ai_operation_name="invoke_agent")]
    assert only(count(GEN_AI, samples)).amounts["input"] == 10


def test_a_cost_of_0_from_a_gateway_without_prices_is_unknown() -> None:
    """Kong counts 0 dollars where nobody told it a price."""
    kong = shipped()["kong_ai"]
    labels = {"token_type": "prompt_tokens"}
    tokens = Sample("kong_ai_llm_tokens_total", labels, 5)
    assert only(count(kong, [tokens, Sample("kong_ai_llm_cost_total", {}, 0)])).amounts == {
        "input": 5, "tokens": 5,
    }  # fmt: skip
    priced = only(count(kong, [tokens, Sample("kong_ai_llm_cost_total", {}, 0.1)]))
    assert priced.amounts["cost_usd"] == Decimal("0.1")


def test_the_same_series_twice_counts_once_by_the_larger() -> None:
    """As everywhere."""
    counted = count(CLAUDE, [claude(300, "input"), claude(200, "input")])
    assert only(counted).amounts["input"] == 300
    assert counted.dropped == {"duplicate": 1}


def test_one_series_overflowing_its_labels_is_not_added_blindly() -> None:
    """The SDK folds what is past its cardinality limit into a series without a type."""
    folded = Sample(USAGE, {"otel_metric_overflow": "true"}, 50)
    assert only(count(GEN_AI, [usage(10, "input"), folded])).at_least


@pytest.mark.parametrize(
    ("keys", "at", "said"),
    [
        ({"metrics": 5}, "metrics", "a list"),
        ({"metrics": [{"names": "a b", "counts": "input"}]}, "metrics.0.names", "a metric name"),
        ({"metrics": [{"names": "a", "counts": "in"}]}, "metrics.0.counts", "one or several of"),
        ({"metrics": [{"names": "a"}]}, "metrics.0", "either by counts or by label"),
        ({"metrics": [{"names": "a", "label": "t"}]}, "metrics.0", "either by counts or by label"),
        (
            {"metrics": [{"names": ["a", "a"], "counts": "input"}]},
            "metrics.0.names",
            "no other rule",
        ),
        ({"rank": 101}, "rank", "from 0 to 100"),
        ({"session": {"label": "x"}}, "session.label", "there are the keys labels"),
        ({"session": {"labels": ["a-b"]}}, "session.labels.0", "a label name"),
        ({"title": "a\nb"}, "title", "text of one line"),
        ({"notes": {"input": 3}}, "notes.input", "text of one line"),
        ({"skip": [{"label": "a"}]}, "skip.0", "needs one label"),
        ({"events": [{"counts": "calls"}]}, "events.0.names", "name of an event"),
        ({"events": [{"names": "a b", "counts": "calls"}]}, "events.0.names", "OpenTelemetry"),
        ({"events": [{"names": "a"}]}, "events.0", "by counts, by amounts or by both"),
        ({"events": [{"names": "a", "counts": "input"}]}, "events.0.counts", "one of calls"),
        (
            {"events": [{"names": "a", "counts": "repeat", "amounts": {"b": "input"}}]},
            "events.0",
            "must say what it counts",
        ),
        (
            {"events": [{"names": "a", "amounts": {"b c": "input"}}]},
            "events.0.amounts.b c",
            "quotes",
        ),
        (
            {"events": [{"names": "a", "amounts": {"b": "in"}}]},
            "events.0.amounts.b",
            "one or several of",
        ),
        (
            {"events": [{"names": "a", "counts": "calls", "where": {"b": 5}}]},
            "events.0.where.b",
            "in quotes",
        ),
        (
            {"metrics": [], "events": [{"names": "a", "counts": "repeat"}]},
            "events",
            "count nothing",
        ),
    ],
)
def test_a_preset_that_is_wrong_is_refused_where_it_is_wrong(
    keys: dict[str, Any], at: str, said: str
) -> None:
    """With the path of the key and what is allowed there."""
    with pytest.raises(PresetError) as refused:
        own(**keys)
    assert refused.value.key == at
    assert said in str(refused.value)


def test_an_event_counts_by_what_it_has_and_has_not() -> None:
    """Values are compared as a preset writes them."""
    (rule,) = own(
        events=[
            {
                "names": "call", "counts": "calls", "amounts": {"n": ["input", "cached"]},
                "where": {"kind": ["a", "b"]}, "present": "n", "unless": {"cached": "true"},
            }
        ]
    ).events  # fmt: skip
    assert rule.applies({"kind": "a", "n": 0})
    assert rule.applies({"kind": "b", "n": 0, "cached": False})
    assert not rule.applies({"kind": "a"})
    assert not rule.applies({"kind": "c", "n": 1})
    assert not rule.applies({"n": 1})
    assert not rule.applies({"kind": "a", "n": 1, "cached": True})
    assert rule.all_roles == ("calls", "input", "cached")


def test_a_preset_may_count_events_alone() -> None:
    """A program that pushes log records, and no metrics."""
    found = own(metrics=None, events=[{"names": "call", "counts": "calls"}])
    assert found.measured == frozenset()
    assert found.measured_by_events == {"api_calls"}


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_preset_of_the_package_is_sound(name: str) -> None:
    """It counts tokens, and says by what it is recognised."""
    found = shipped()[name]
    assert found.name == name
    assert found.title
    assert set(found.recognised_by)
    assert {"input", "output"} <= {role for rule in found.metrics for role in rule.all_roles}


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL))
def test_every_example_of_the_documentation_is_a_configuration(tmp_path: Path, text: str) -> None:
    """What people copy is taken as it stands."""
    file = tmp_path / "sidecar.yaml"
    file.write_text(text, encoding="utf-8")
    scrape = load(file).source.scrape
    assert scrape is not None
    assert any(target.preset is not None for target in scrape.targets)


def test_the_documentation_has_a_line_for_every_preset() -> None:
    """And for no other."""
    _, _, table = DOCS.partition("## Presets in the package")
    assert set(re.findall(r"^\| `(\w+)` ", table.partition("##")[0], re.MULTILINE)) == set(
        shipped()
    )
