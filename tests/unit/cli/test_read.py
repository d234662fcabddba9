"""otel-budget read: every page of another program as its truth says, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.cli.main import main
from tests.support.exposition import line, page, serve
from tests.support.http_server import serving
from tests.support.paths import TESTS

FOREIGN = TESTS / "foreign"
PAGES = sorted(FOREIGN.glob("*.prom"))
AMOUNTS = ("input", "output", "cached", "cache_write", "reasoning", "calls", "cost_usd")


def expected_of(path: Path) -> dict[str, Any]:
    """Return what is known of a page."""
    for name in (f"{path.name}.expected.json", f"{path.stem}.expected.json"):
        if (FOREIGN / name).exists():
            found: dict[str, Any] = json.loads((FOREIGN / name).read_text(encoding="utf-8"))
            return found
    raise AssertionError(f"{path} has no expected reading")


def read(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    """Run the command and return its JSON."""
    status = main(["read", *argv, "--json"])
    out, err = capsys.readouterr()
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_each_page_is_read_as_its_truth_says(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recognised without being told, exact to the token and the dollar."""
    found, expected = read(capsys, str(path)), expected_of(path)
    if "sessions" in expected:
        amounts = [{k: s[k] for k in ("session_id", *AMOUNTS)} for s in found["sessions"]]
        assert amounts == expected["sessions"]
        assert found["preset"] == expected["preset"]
        for one in expected.get("ignored", ()):
            assert any(one.items() <= ignored.items() for ignored in found["ignored"]), one
        return
    (session,) = found["sessions"]
    truth = expected.get("truth") or expected["truth_at_scrape"]
    if path.name.startswith("claude_code"):
        # Its metrics cannot show them: unknown, which is not 0.
        assert session["reasoning"] is None
        assert session["calls"] is None
        assert session["cost_usd"] == str(expected["reading"]["cost_usd"])
        truth = {k: n for k, n in truth.items() if k not in ("reasoning", "model_calls_served")}
    assert {key: session[key] for key in truth} == truth


def test_the_scopes_and_values_that_did_not_count_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Metric, labels, number of samples and the reason."""
    found = read(capsys, str(FOREIGN / "kong_ai.synthetic.prom"))
    assert found["ignored"] == [
        {
            "metric": "kong_ai_llm_tokens_total",
            "labels": {"token_type": "total_tokens"},
            "samples": 1,
            "reason": "the total of the other two",
        }
    ]


def test_the_more_specific_program_is_chosen_and_the_others_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same choice for the same page, with the reason."""
    found = read(capsys, str(FOREIGN / "mixed_page.prom"))
    assert found["preset"] == "claude_code"
    assert found["recognised_by"] == (
        "claude_code_token_usage_total is on the page; it goes before envoy_ai_gateway (by "
        "gen_ai_client_token_usage_token_sum), vllm (by vllm:prompt_tokens_total), gen_ai (by "
        "gen_ai_client_token_usage_token_sum), which fit as well"
    )
    reasons = {one["metric"]: one["reason"] for one in found["ignored"]}
    assert reasons["vllm:prompt_tokens_total"] == "counts with --preset vllm, which was not used"


def test_another_program_of_a_page_is_read_when_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """--preset overrules what is recognised."""
    found = read(capsys, str(FOREIGN / "mixed_page.prom"), "--preset", "vllm")
    (session,) = found["sessions"]
    assert (session["input"], session["output"], session["calls"]) == (1000, 300, 3)
    assert found["recognised_by"] == "--preset"


def test_the_pages_of_otel_budget_itself_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what a resumed run brought along, and the breakdown as far as it goes."""
    file = tmp_path / "own.prom"
    typed = [
        line(semconv.PHASE_TOKENS, n, "run-1", phase="p", model="m", token_type=t)
        for n, t in ((700, "input"), (300, "output"))
    ]
    text = page(
        line(semconv.SESSION_TOKENS, 1000, "run-1"),
        line(semconv.SESSION_API_CALLS, 4, "run-1"),
        line(semconv.SESSION_COST, 0.25, "run-1"),
        line(semconv.CARRIED_OVER, 500, "run-1", resource="tokens", unit="tokens"),
        line(semconv.CARRIED_OVER, 12.5, "run-1", resource="duration", unit="seconds"),
        *typed,
        line(semconv.PHASE_TOKEN_DETAILS, 100, "run-1", phase="p", model="m", detail="cache_read"),
    )
    file.write_text(text, encoding="utf-8")
    found = read(capsys, str(file))
    assert found["preset"] == "otel_budget"
    (session,) = found["sessions"]
    assert session == {
        "session_id": "run-1", "input": 700, "output": 300, "cached": 100, "cache_write": None,
        "reasoning": None, "calls": 4, "cost_usd": "0.25", "tool_calls": None, "tokens": 1500,
        "tokens_at_least": False, "implausible": [],
    }  # fmt: skip


def test_people_see_calls_of_tools_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Where a program counts them."""
    assert main(["read", str(FOREIGN / "codex_tools.synthetic.prom")]) == 0
    assert "codex: tool calls: 4" in capsys.readouterr().out.splitlines()
    assert main(["read", str(FOREIGN / "codex_collector.prom")]) == 0
    assert "tool calls" not in capsys.readouterr().out


def test_a_preset_of_ones_own_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the form that the shipped ones have."""
    own = tmp_path / "my-program.yaml"
    own.write_text(
        "session: {labels: [run]}\n"
        "metrics:\n"
        "  - names: my_tokens_total\n"
        "    label: kind\n"
        "    values: {in: input, out: output, all: repeat}\n",
        encoding="utf-8",
    )
    file = tmp_path / "page.prom"
    lines = [f'my_tokens_total{{run="r",kind="{k}"}} {n}\n' for k, n in (("in", 5), ("all", 5))]
    file.write_text("".join(lines), encoding="utf-8")
    found = read(capsys, str(file), "--preset", str(own))
    assert found["preset"] == "my_program"
    (session,) = found["sessions"]
    assert (session["session_id"], session["input"], session["output"]) == ("r", 5, None)


def test_a_wrong_preset_file_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage, like a configuration."""
    own = tmp_path / "own.yaml"
    own.write_text("metrics:\n  - {names: a_total, count: input}\n", encoding="utf-8")
    assert main(["read", str(PAGES[0]), "--preset", str(own)]) == 2
    assert f"{own}:2: metrics[0].count: is not a key here" in capsys.readouterr().err


def test_an_unknown_preset_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """With the names there are, and the likely one."""
    assert main(["read", str(PAGES[0]), "--preset", "claude-code"]) == 2
    assert "did you mean 'claude_code'?" in capsys.readouterr().err


def test_a_page_that_nobody_recognises_is_an_error_that_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lists what was seen and the presets."""
    file = tmp_path / "page.prom"
    file.write_text("go_goroutines 7\nprocess_cpu_seconds_total 1.5\n", encoding="utf-8")
    assert main(["read", str(file)]) == 1
    err = capsys.readouterr().err
    assert "go_goroutines, process_cpu_seconds_total" in err
    assert "claude_code" in err
    assert "--preset" in err


@pytest.mark.parametrize(
    ("text", "status"),
    [("<html>no</html>\n", 1), ("", 1), ("a 1\n" * 3 + "{\n", 1), (None, 2)],
)
def test_what_is_no_page_ends_in_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, status: int
) -> None:
    """A message, no traceback."""
    file = tmp_path / "page.prom"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    assert main(["read", str(file)]) == status
    assert capsys.readouterr().err.startswith("otel-budget: ")


def test_a_file_that_may_have_been_cut_off_is_read_with_a_remark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last number may be half a number."""
    file = tmp_path / "page.prom"
    file.write_text('claude_code_token_usage_total{type="input",session_id="a"} 30', "utf-8")
    assert main(["read", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "30" in out
    assert "was it cut off?" in err


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_people_see_fits_80_columns(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is on the page."""
    assert main(["read", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("unknown" in text for text in lines) or path.stem.startswith(("litellm", "gen_ai"))


def test_hostile_labels_reach_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No escape sequences, no line breaks, no flood."""
    evil = "\x1b[2J\\n" + "x" * 2000
    file = tmp_path / "page.prom"
    file.write_text(
        f'claude_code_token_usage_total{{type="{evil}",session_id="a"}} 3\n'
        f'claude_code_token_usage_total{{type="input",session_id="{evil}"}} 3\n'
        'claude_code_token_usage_total{type="input",session_id="a"} 9007199254740992\n',
        encoding="utf-8",
    )
    assert main(["read", str(file)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    assert len(out) < 2000
    assert main(["read", str(file), "--json"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_label_that_no_scrape_would_take_is_refused_and_not_printed_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "page.prom"
    evil = "\x1b[2J" + "x" * 5000
    file.write_text(
        f'claude_code_token_usage_total{{type="input",session_id="{evil}"}} 3\n', encoding="utf-8"
    )
    assert main(["read", str(file)]) == 1
    told = capsys.readouterr().err
    assert "5,004 characters, more than 2,048" in told
    assert "\x1b" not in told
    assert len(told) < 200


def test_a_url_is_read_like_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A session that its program does not name is named after host and port."""
    with serve() as endpoint:
        endpoint.show((FOREIGN / "vllm.synthetic.prom").read_text(encoding="utf-8"))
        (session,) = read(capsys, endpoint.url)["sessions"]
        assert session["session_id"] == f"vllm@{endpoint.address}"
        assert (session["input"], session["calls"]) == (1000, 3)


def test_a_url_that_does_not_answer_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Not a traceback; and one with a password is refused without showing it."""
    with serve() as endpoint:
        endpoint.show(None)
        assert main(["read", endpoint.url]) == 1
    assert main(["read", "http://user:hunter2@127.0.0.1:1/metrics"]) == 2
    err = capsys.readouterr().err
    assert "hunter2" not in err
    assert "Traceback" not in err


SPRING = """\
# TYPE gen_ai_client_token_usage_total counter
gen_ai_client_token_usage_total{gen_ai_operation_name="chat",gen_ai_token_type="input"} 2562
gen_ai_client_token_usage_total{gen_ai_operation_name="chat",gen_ai_token_type="output"} 41
gen_ai_client_token_usage_total{gen_ai_operation_name="chat",gen_ai_token_type="total"} 2603
gen_ai_client_token_usage_total{gen_ai_operation_name="embedding",gen_ai_token_type="input"} 130
gen_ai_client_token_usage_total{gen_ai_operation_name="embedding",gen_ai_token_type="total"} 130
# TYPE gen_ai_client_operation_seconds summary
gen_ai_client_operation_seconds_count{gen_ai_operation_name="chat"} 7
"""


def test_the_tokens_of_gen_ai_are_read_from_a_counter_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Spring AI exports them; the total is never added."""
    file = tmp_path / "page.prom"
    file.write_text(SPRING, encoding="utf-8")
    found = read(capsys, str(file))
    assert (found["preset"], found["not_understood"]) == ("gen_ai", [])
    (session,) = found["sessions"]
    assert (session["input"], session["output"], session["calls"]) == (2692, 41, 7)
    assert session["tokens"] == 2733


def test_a_counter_beside_the_histogram_of_the_same_tokens_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever says more."""
    file = tmp_path / "page.prom"
    histogram = 'gen_ai_client_token_usage_sum{gen_ai_token_type="input"} 2692\n'
    file.write_text(SPRING + histogram, encoding="utf-8")
    (session,) = read(capsys, str(file))["sessions"]
    assert session["tokens"] == 2733


UTF8 = """\
# TYPE "gen_ai.client.token.usage" histogram
{"gen_ai.client.token.usage_bucket","gen_ai.token.type"="input",le="+Inf"} 12
{"gen_ai.client.token.usage_sum","gen_ai.token.type"="input"} 5400
{"gen_ai.client.token.usage_count","gen_ai.token.type"="input"} 12
{"gen_ai.client.token.usage_sum","gen_ai.token.type"="output"} 900
{"gen_ai.client.token.usage_count","gen_ai.token.type"="output"} 12
"""


@pytest.mark.parametrize("preset", [(), ("--preset", "gen_ai")])
def test_names_with_dots_are_read_as_if_they_were_escaped(
    preset: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Prometheus does it for readers that do not ask for UTF-8."""
    file = tmp_path / "page.prom"
    file.write_text(UTF8, encoding="utf-8")
    (session,) = read(capsys, str(file), *preset)["sessions"]
    assert (session["input"], session["output"], session["calls"]) == (5400, 900, 12)


@pytest.mark.parametrize(
    "text",
    [
        SPRING,
        'litellm_tokens_total{model="m"} 5\n',
        '{"acme.llm.cost.usd"} 0.5\n',
        'claude_code_token_usage_total{session_id="/",type="input"} 5\n',
    ],
)
def test_use_that_is_not_understood_is_not_called_none(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits with another status, and names the metrics."""
    file = tmp_path / "page.prom"
    file.write_text(text, encoding="utf-8")
    assert main(["read", str(file), "--preset", "claude_code"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "not understood: 1 metric looks like use, and none of it is counted" in out
    assert "nothing was used yet" not in out
    assert main(["read", str(file), "--preset", "claude_code", "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["not_understood"]) == 1


def test_a_page_on_which_nothing_was_used_is_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A metric at 0 is no use, whatever its name."""
    file = tmp_path / "page.prom"
    file.write_text("acme_tokens_total 0\nprocess_cpu_seconds_total 5\n", encoding="utf-8")
    assert main(["read", str(file), "--preset", "claude_code"]) == 0
    assert "nothing was used yet" in capsys.readouterr().out


def test_tokens_that_are_not_told_apart_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A foreign agent need export no more than one counter."""
    file = tmp_path / "page.prom"
    file.write_text('otel_budget_tokens_total{session_id="a"} 12000\n', encoding="utf-8")
    assert main(["read", str(file)]) == 0
    assert "a: 12,000 tokens count, which it does not tell apart" in capsys.readouterr().out


def test_an_agent_on_which_no_run_is_has_used_nothing_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the process used before: that is in its own counters."""
    file = tmp_path / "page.prom"
    before = 'otel_budget_usage_tokens_total{workflow="w"} 12\n'
    file.write_text(f'otel_budget_build_info{{version="1"}} 1\n{before}', encoding="utf-8")
    assert main(["read", str(file)]) == 0
    assert "nothing was used yet" in capsys.readouterr().out


def test_the_page_of_a_sidecar_is_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its address is easily taken for an agent's."""
    file = tmp_path / "page.prom"
    build = 'otel_budget_build_info{version="1"} 1\n'
    file.write_text(f"{build}otel_budget_sidecar_sessions 3\n", encoding="utf-8")
    assert main(["read", str(file)]) == 1
    assert "this is the page of a sidecar" in capsys.readouterr().err


def test_a_page_that_is_partial_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    """And the number it is cut in is none."""
    text = b'otel_budget_tokens_total{session_id="a"} 12\n' + b"otel_budget_cost_usd_total{sess"
    with serving(lambda _path, _body: (206, text), "text/plain; version=0.0.4") as url:
        assert main(["read", f"{url}/metrics", "--json"]) == 0
    said = capsys.readouterr()
    assert "its page is partial: HTTP 206" in said.err
    assert [s["session_id"] for s in json.loads(said.out)["sessions"]] == ["a"]
