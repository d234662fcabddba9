"""What the pictures of the dashboards do with results before anything is drawn."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from tests.support.paths import ROOT

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

from picture_panels import checkpoint_rows, merged_rows, named  # noqa: E402 - docs is no package

AGES = {"x": 2.0, "y": 1.0}


def _table(*letters: str, desc: bool = True) -> dict[str, Any]:
    fields = ["run", "state", *(f"Value #{letter}" for letter in letters)]
    order = {field: index for index, field in enumerate(fields)}
    names = {field: field.removeprefix("Value #").lower() for field in fields}
    organize = {"indexByName": order, "renameByName": names}
    return {
        "targets": [{"refId": letter} for letter in letters],
        "transformations": [
            {"id": "merge", "options": {}}, {"id": "organize", "options": organize},
        ],
        "options": {"sortBy": [{"displayName": "b", "desc": desc}]},
    }  # fmt: skip


def _checkpoints() -> dict[str, Any]:
    return {"targets": [{"legendFormat": name} for name in ("checkpoint", "tokens", "cost")]}


def test_a_series_is_called_what_its_legend_says() -> None:
    assert named({"legendFormat": "{{verdict}}: {{gone}}x"}, {"verdict": "stop"}) == "stop: x"


def test_rows_agree_in_the_labels_that_all_queries_share() -> None:
    results = [
        [({"run": "x", "state": "running"}, 1.0), ({"run": "y", "state": "stopped"}, 1.0)],
        [({"run": name}, age) for name, age in AGES.items()],
    ]
    names, rows = merged_rows(_table("A", "B"), results)
    assert names == ["run", "state", "a", "b"]
    assert rows == [["x", "running", 1.0, 2.0], ["y", "stopped", 1.0, 1.0]]


def test_a_label_that_some_rows_lack_tells_rows_apart_all_the_same() -> None:
    """Prometheus leaves out an empty one: of a budget without groups, the group."""
    values = [({"run": "x"}, 1.0), ({"run": "x", "state": "running"}, 2.0)]
    names, rows = merged_rows(_table("A", "B"), [values, values])
    assert names == ["run", "state", "a", "b"]
    assert rows == [["x", "running", 2.0, 2.0], ["x", None, 1.0, 1.0]]


def test_a_row_without_a_value_has_none_and_comes_last_in_either_order() -> None:
    results = [[({"run": name}, 1.0) for name in "zxy"], [({"run": n}, a) for n, a in AGES.items()]]
    for desc, expected in ((True, "xyz"), (False, "yxz")):
        _, rows = merged_rows(_table("A", "B", desc=desc), results)
        assert [row[0] for row in rows] == list(expected)
        assert rows[-1] == ["z", None, 1.0, None]


def test_a_table_of_nothing_is_empty() -> None:
    assert merged_rows(_table("A", "B"), [[], []]) == (["run", "state", "a", "b"], [])


def test_checkpoints_take_what_was_used_at_their_own_time() -> None:
    # The cost is known later than the tokens: joined by place, it would be a later one's.
    series = [
        ("checkpoint", [8.0, 9.0, 10.0], [1.0, 2.0, 2.0]),
        ("tokens", [7.0, 8.0, 9.0, 10.0], [5.0, 10.0, 20.0, 30.0]),
        ("cost", [9.0, 10.0], [0.2, 0.3]),
    ]
    names, rows = checkpoint_rows(_checkpoints(), series)
    assert names == ["checkpoint", "tokens", "cost"]
    assert rows == [["after 8 s", 10.0, None], ["after 9 s", 20.0, 0.2]]


def test_the_first_that_is_not_missing_counts() -> None:
    series = [
        ("checkpoint", [8.0, 9.0], [1.0, 1.0]),
        ("tokens", [9.0], [20.0]),
        ("cost", [8.0, 9.0], [0.1, 0.2]),
    ]
    assert checkpoint_rows(_checkpoints(), series)[1] == [["after 8 s", 20.0, 0.1]]


def test_a_run_without_checkpoints_has_no_rows() -> None:
    assert checkpoint_rows(_checkpoints(), []) == (["checkpoint", "tokens", "cost"], [])


def test_none_of_it_needs_matplotlib() -> None:
    code = "import sys, picture_panels; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=DOCS, check=True)
