"""``import otel_budget`` loads what is asked for, when it is, and looks as if all were there."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

import otel_budget
from tests.support.paths import ROOT

#: What neither a command that only asks the sidecar nor a hook may load.
HEAVY = {
    "asyncio", "h11", "opentelemetry", "prometheus_client", "psutil", "pydantic", "rich", "sqlite3",
    "starlette", "yaml",
}  # fmt: skip


def in_a_process(code: str, *arguments: str) -> str:
    """Return what a fresh interpreter prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout


def test_to_import_it_loads_none_of_its_parts() -> None:
    """It costs a program that may never count anything next to nothing."""
    code = "import json, sys; import otel_budget; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(in_a_process(code)))
    assert not loaded & (HEAVY | {"logging"})
    assert {name for name in loaded if name.startswith("otel_budget")} == {
        "otel_budget",
        "otel_budget._version",
    }


def test_all_that_is_public_is_there_and_listed() -> None:
    """By attribute, by ``from``, by the star, and in ``dir``."""
    assert set(otel_budget.__all__) <= set(dir(otel_budget))
    everything: dict[str, object] = {}
    exec("from otel_budget import *", everything)  # noqa: S102 - the star is what is tried
    for name in otel_budget.__all__:
        assert everything[name] is getattr(otel_budget, name)
    code = "from otel_budget import ResourceLimits as X; import otel_budget.core.limits as home;"
    assert in_a_process(code + "print(X is home.ResourceLimits)") == "True\n"


def test_every_name_comes_from_where_type_checkers_are_told() -> None:
    """The table of homes and the imports for type checkers are one list."""
    code = """
import ast, inspect, json, otel_budget
tree = ast.parse(inspect.getsource(otel_budget))
(block,) = (n for n in tree.body if isinstance(n, ast.If))
told = {a.name: n.module for n in block.body for a in n.names}
homes = {name: f"otel_budget.{home}" for name, home in otel_budget._HOMES.items()}
assert told == homes, told.items() ^ homes.items()
assert set(homes) | {"__version__"} == set(otel_budget.__all__)
"""
    in_a_process(code)


def test_its_parts_are_attributes_as_they_were_when_all_was_imported() -> None:
    """``import otel_budget`` and then ``otel_budget.errors.OtelBudgetError``."""
    code = "import otel_budget as o; print(o.errors.OtelBudgetError.__name__, o.sdk.__name__)"
    assert in_a_process(code) == "OtelBudgetError otel_budget.sdk\n"


def test_a_name_that_is_not_there_is_refused_as_any_modules() -> None:
    """With the usual words."""
    with pytest.raises(AttributeError, match="module 'otel_budget' has no attribute 'Monitor'"):
        _ = otel_budget.Monitor
    with pytest.raises(ImportError, match="cannot import name 'Monitor' from 'otel_budget'"):
        exec("from otel_budget import Monitor")  # noqa: S102 - as written


def test_what_is_public_can_be_pickled() -> None:
    """By its own module, as before."""
    verdict = pickle.loads(pickle.dumps(otel_budget.ResourceLimits(max_tokens=7)))  # noqa: S301 - our own
    assert verdict == otel_budget.ResourceLimits(max_tokens=7)
    assert pickle.loads(pickle.dumps(otel_budget.instrument)) is otel_budget.instrument  # noqa: S301 - our own


def test_whatever_logs_in_an_agents_process_has_the_limit_on_its_lines() -> None:
    """Also where no name of the package itself is ever asked for."""
    code = """
import logging, otel_budget.sdk.monitor
print([type(one).__name__ for one in logging.getLogger("otel_budget").filters])
"""
    assert in_a_process(code) == "['LineFilter']\n"


def test_only_one_module_makes_the_logger_of_an_agents_process() -> None:
    """Another one's lines might go out before the limit on them is there."""
    makes = 'logger = logging.getLogger("otel_budget")'
    found = [
        path.name
        for path in (ROOT / "otel_budget").rglob("*.py")
        if makes in path.read_text(encoding="utf-8")
    ]
    assert found == []
