"""The programs, a provider and a clean home for each test with real agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.agents.governed import judging
from tests.agents.home import Home
from tests.agents.programs import folder_of_programs
from tests.agents.provider import Provider

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agents.governed import Judge


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder with the agents' programs, for a PATH."""
    return folder_of_programs()


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider of this test's own."""
    with Provider() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, programs: Path, provider: Provider) -> Home:
    """A clean home, with the provider in its environment."""
    return Home(tmp_path / "home", programs, provider.url)


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Judge]:
    """A sidecar with a receiver, of this test's own."""
    with judging(tmp_path) as running:
        yield running
