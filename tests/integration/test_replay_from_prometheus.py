"""``otel-budget replay --prometheus``: how it is asked, what it says, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_budget.cli.main import main
from otel_budget.config.load import load
from otel_budget.errors import InvalidValueError
from otel_budget.replay.from_prometheus import settings_for
from tests.integration.test_replay_bad_history import BEGIN, END, api, good, refusal

RANGE = (f"--from={BEGIN}", f"--to={END}")


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return a file with a policy and nothing else."""
    path = tmp_path / "policy.yaml"
    path.write_text("resource_limits: {max_tokens: 3000}\n")
    return str(path)


def replay(config: str, *flags: str) -> int:
    """Return the exit status of a replay."""
    return main(["replay", "--config", config, "--json", *flags])


def test_verdicts_and_what_was_read_are_printed(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "t.jsonl"
    with api(good) as (url, _):
        assert replay(config, "--prometheus", url, *RANGE, "--write-trace", str(written)) == 0
    out, err = capsys.readouterr()
    *changes, last = map(json.loads, out.splitlines())
    assert [(c["t"] - BEGIN, c["status"], c["limit_from"]) for c in changes] == [
        (0, "ok", None), (1410, "approaching", "sidecar"), (2010, "exceeded", "sidecar"),
    ]  # fmt: skip
    summary = last["summary"]
    assert (summary["runs"], summary["open"], summary["stopped"]) == (1, 1, 1)
    assert (summary["used"]["tokens"], summary["recorded"]["tokens"]) == (3010, 4600)
    history = summary["history"]
    assert (history["from"], history["to"], history["gaps"]) == (BEGIN, END, 0)
    assert history["began_before"] == 1
    assert "began before the range: 1 of the runs" in err
    assert replay(config, "--traces", str(written)) == 0
    again = [json.loads(line) for line in capsys.readouterr()[0].splitlines()]
    assert [one["status"] for one in again[:-1]] == ["ok", "approaching", "exceeded"]
    assert again[-1]["summary"]["recorded"]["tokens"] == 4600


def test_a_gap_is_said_and_counted(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    def reply(path: str, form: dict[str, str]) -> tuple[int, bytes]:
        status, body = good(path, form)
        data = json.loads(body)
        for row in data["data"]["result"]:
            row["values"] = [v for v in row["values"] if float(v[0]) > BEGIN + 900]
        return status, json.dumps(data).encode()

    with api(reply) as (url, _):
        assert replay(config, "--prometheus", url, *RANGE) == 0
    out, err = capsys.readouterr()
    history = json.loads(out.splitlines()[-1])["summary"]["history"]
    assert (history["gaps"], history["gap_seconds"]) == (1, 915.0)
    assert history["first_gaps"][0]["from"] == BEGIN
    assert "nothing is known from 2026-01-01T00:00:00+00:00 to 2026-01-01T00:15:15+00:00" in err


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        ((f"--from={END}", f"--to={BEGIN}"), 1, "is empty"),
        (("--from=0", "--to=10"), 1, "no sample of any run"),
        (("--from=yesterday",), 2, "--from"),
        ((), 2, "--from: is missing"),
        (("--from=-1h", "--to=4000000000"), 2, "in the future"),
        (("--from=-1h", "--traces", "t.jsonl"), 2, "either --traces or --prometheus"),
    ],
)
def test_a_range_that_cannot_be_is_an_error(
    flags: tuple[str, ...], status: int, said: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": []}})
    with api(lambda *_: (200, empty.encode())) as (url, _):
        assert replay(config, "--prometheus", url, *flags) == status
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""


def test_how_long_ago_is_a_value_and_no_option(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with api(lambda *_: (422, refusal("bad_data", "not today"))) as (url, _):
        assert replay(config, "--prometheus", url, "--from", "-7d", "--to", "now") == 1
    assert "not today" in capsys.readouterr().err


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://a", "http://user:secret@a"])
def test_an_address_that_is_none_is_wrong_usage(
    url: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(config, "--prometheus", url, "--from=-1h") == 2
    err = capsys.readouterr().err
    assert "--prometheus" in err
    assert "secret" not in err


def test_a_file_that_is_there_is_refused_before_anything_is_asked(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("mine\n")
    with api(good) as (url, forms):
        assert replay(config, "--prometheus", url, *RANGE, "--write-trace", str(path)) == 2
        assert not forms
    assert "is not overwritten" in capsys.readouterr().err


FILE = """
source:
  prometheus:
    url: "http://own:9090/prefix"
    interval: 7s
    matchers: ['job="agents"']
    headers: {X-Scope-OrgID: secret}
"""


@pytest.mark.parametrize(
    ("url", "sent"), [("http://own:9090/prefix", "secret"), ("http://OWN:9090", "secret"),
                      ("http://other:9090", None), ("https://own:9090", None)],
)  # fmt: skip
def test_credentials_of_the_file_go_to_its_own_server_alone(
    url: str, sent: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(FILE)
    settings = settings_for(load(path), url)
    assert (settings.url, settings.interval, settings.matchers) == (url, 7.0, ('job="agents"',))
    assert settings.access.headers.get("X-Scope-OrgID") == sent


def test_without_a_section_for_it_a_server_is_asked_as_by_default(config: str) -> None:
    settings: Any = settings_for(load(config, needs_source=False), "http://a:1")
    assert (settings.interval, settings.matchers, settings.preset) == (5.0, (), None)
    with pytest.raises(InvalidValueError):
        settings_for(load(config, needs_source=False), "a:1")
