"""The gate in front of tests that need a real component."""

import pytest

from tests.support import real


@pytest.fixture(autouse=True)
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(real.REQUIRE, raising=False)


def test_without_the_program_the_test_is_skipped_loudly() -> None:
    """With the command that helps."""
    with pytest.raises(pytest.skip.Exception, match=r"NOT TESTED FOR REAL.*apt-get install"):
        real.require("prometheus")


def test_where_real_components_are_required_the_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that must have them doesn't pass without."""
    monkeypatch.setenv(real.REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match="'promtool' is not installed"):
        real.require("promtool")
