"""The environment of the program that is run."""

import pytest

from otel_budget.launcher.environment import notes, past_proxies

OURS = ("http://127.0.0.1:9465", "http://127.0.0.1:4318")
PROXY = {"HTTP_PROXY": "http://proxy:3128"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        (PROXY, "127.0.0.1"),
        ({"all_proxy": "socks5://proxy:1080"}, "127.0.0.1"),
        ({**PROXY, "NO_PROXY": "corp.example"}, "corp.example,127.0.0.1"),
        ({**PROXY, "NO_PROXY": "a", "no_proxy": "b"}, "b,127.0.0.1"),
        ({**PROXY, "no_proxy": "*"}, None),
        ({**PROXY, "no_proxy": "localhost, 127.0.0.1"}, None),
    ],
)
def test_what_is_on_this_machine_is_pushed_to_past_any_proxy(
    given: dict[str, str], expected: str | None
) -> None:
    added = {} if expected is None else {"no_proxy": expected, "NO_PROXY": expected}
    assert past_proxies(given, *OURS) == added


def test_a_sidecar_elsewhere_is_reached_as_its_user_says() -> None:
    assert past_proxies(PROXY, "https://budget.example", "https://budget.example:4318") == {}


@pytest.mark.parametrize(("value", "said"), [("true", 1), ("TRUE", 1), ("false", 0), ("", 0)])
def test_that_telemetry_is_switched_on_for_the_run_is_said(
    value: str, said: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", value)
    assert len([note for note in notes() if "OTEL_SDK_DISABLED" in note]) == said
