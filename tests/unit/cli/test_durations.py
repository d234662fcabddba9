"""One grammar for every duration that is typed: the same texts are read, the same are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_budget.cli.main import main
from otel_budget.config.load import load
from otel_budget.core import validation, verdict_json
from otel_budget.errors import InvalidConfigError, InvalidValueError
from tests.support.http_server import serving
from tests.support.sidecar_fixtures import verdict

READ = [
    ("90", 90.0), ("0.5", 0.5), ("500ms", 0.5), ("45s", 45.0), ("30m", 1800.0), ("2h", 7200.0),
    ("1h30m", 5400.0), ("1d", 86_400.0), ("1.5h", 5400.0), ("1m30s", 90.0),
]  # fmt: skip
REFUSED = [
    "0", "0s", "-5", "nan", "inf", "", " ", "5 s", "1e3", "1h 30m", "h", "1w", "1H", "1h30", "5,5",
]  # fmt: skip

#: Every argument that is a duration; the file stands for every key of one.
ARGUMENTS = {
    "--for of stop": ["session", "stop", "run-1", "--reason", "r", "--for"],
    "--for of limits": [
        "session",
        "limits",
        "run-1",
        "--reason",
        "r",
        "--max-tokens",
        "1",
        "--for",
    ],
    "--interval": ["sidecar", "--target", "http://a/metrics", "--interval"],
    "--lease": ["sidecar", "--target", "http://a/metrics", "--lease"],
    "--timeout of health": ["health", "--timeout"],
    "--timeout of doctor": ["doctor", "--timeout"],
}


@pytest.mark.parametrize(("text", "seconds"), READ)
def test_a_duration_is_read_as_seconds(text: str, seconds: float) -> None:
    """With units, several of them, or none."""
    assert validation.duration("x", text) == seconds


@pytest.mark.parametrize("number", [1, 0.25, 2**53])
def test_a_number_is_seconds(number: float) -> None:
    """As a file has it."""
    assert validation.duration("x", number) == number


@pytest.mark.parametrize("value", [*REFUSED, 0, -1, True, None, 2**53 + 2, 10**400, [], "9" * 400])
def test_what_is_no_duration_is_refused_with_what_is(value: object) -> None:
    """Zero is none: what would wait, or hold, for no time at all is a mistake."""
    with pytest.raises(InvalidValueError, match=r"^x: .* allowed: a duration above 0, such as"):
        validation.duration("x", value)


@pytest.mark.parametrize("argv", ARGUMENTS.values(), ids=ARGUMENTS)
@pytest.mark.parametrize("text", REFUSED)
def test_every_argument_refuses_the_same_by_its_name(
    argv: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is asked or started."""
    assert main([*argv[:-1], f"{argv[-1]}={text}"]) == 2
    assert f"{argv[-1]}: {text!r} is not allowed; allowed: a duration above 0" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("key", ["lease", "stale_after", "hold", "forget_after"])
@pytest.mark.parametrize(("text", "seconds"), READ)
def test_a_file_reads_the_same(key: str, text: str, seconds: float, tmp_path: Path) -> None:
    """A key that may also be ``auto`` is one."""
    assert getattr(load(_file(tmp_path, key, text)).verdicts, key) == seconds


@pytest.mark.parametrize("key", ["lease", "stale_after", "hold", "forget_after"])
@pytest.mark.parametrize("text", REFUSED)
def test_a_file_refuses_the_same(key: str, text: str, tmp_path: Path) -> None:
    """With its line."""
    with pytest.raises(InvalidConfigError, match=rf":2: verdicts\.{key}: .*a duration above 0"):
        load(_file(tmp_path, key, text))


def _file(folder: Path, key: str, text: str) -> Path:
    file = folder / "sidecar.yaml"
    source = "source: {scrape: {targets: ['http://127.0.0.1:9464/metrics']}}"
    file.write_text(f"{source}\nverdicts: {{{key}: {json.dumps(text)}}}\n")
    return file


@pytest.mark.parametrize(("text", "seconds"), READ)
def test_an_operators_order_holds_for_as_long_as_is_typed(text: str, seconds: float) -> None:
    """The sidecar is told seconds."""
    asked: list[Any] = []

    def answer(_path: str, body: bytes) -> tuple[int, bytes]:
        asked.append(json.loads(body))
        return 200, verdict_json.to_json(verdict()).encode()

    with serving(answer) as url:
        argv = ["session", "stop", "run-1", "--reason", "r", "--for", text, "--sidecar", url]
        assert main(argv) == 0
    assert asked[0]["for_seconds"] == seconds
