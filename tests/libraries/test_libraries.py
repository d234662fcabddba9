"""What real libraries spend at a provider is what the budget counts, or the table says why not.

``make test-libraries`` runs it; ``OTEL_BUDGET_UPDATE_GOLDEN=1 make test-libraries`` renews
``results.json``, from which ``docs/generate.py`` makes ``docs/accuracy.md``.
"""

import json
import os
from collections.abc import Iterator

import pytest

from tests.libraries.configurations import BY_NAME
from tests.libraries.environments import NoEnvironmentError
from tests.libraries.live import Live
from tests.libraries.table import RESULTS, read_table, unexpected
from tests.support.real import REQUIRE

pytestmark = pytest.mark.libraries

UPDATE = os.environ.get("OTEL_BUDGET_UPDATE_GOLDEN") == "1"


@pytest.fixture(scope="session")
def live(request: pytest.FixtureRequest) -> Iterator[Live]:
    """All selected configurations, running."""
    names: list[str] = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "live" in item.fixturenames
    ]
    running = Live(names)
    yield running
    running.close()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_run_counts_what_the_provider_served(name: str, live: Live) -> None:
    """In every scenario; the verdict is that of the table, neither worse nor better."""
    try:
        result = live.result(name)
    except NoEnvironmentError as error:
        if os.environ.get(REQUIRE) == "1":
            raise
        pytest.skip(f"NOT TESTED FOR REAL: {error}")
    if UPDATE:
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        known[name] = result
        ordered = {each: known[each] for each in BY_NAME if each in known}
        RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    wrong = unexpected(result["scenarios"], read_table().get(name, {}))
    assert not wrong, "\n".join([f"{name} {result['versions']}", *wrong])
