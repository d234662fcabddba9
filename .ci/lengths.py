"""Say which modules are long, and refuse functions of more than 40 lines.

A module's length follows from its subject, so past 400 lines there is only a warning: think twice.
A function's lines are those of its body, without its docstring.
"""
# ruff: noqa: T201 - it prints what it finds

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "otel_budget"
LONG_MODULE, LONG_FUNCTION = 400, 40
#: Longer ones, each with its reason. One that is gone, or short enough, is refused as well.
EXCEPTIONS = {
    (
        "otel_budget/ledger/snapshot.py",
        "snapshot_of",
    ): "for each run at each tick: a call costs more",
    ("otel_budget/ledger/run.py", "__init__"): "one line for each field, with what it means",
    ("otel_budget/ledger/run.py", "observe"): "for each run at each reading: a call costs more",
    ("otel_budget/sdk/run_counters.py", "_add"): "for each operation that is recorded",
    (
        "otel_budget/sdk/usage_arguments.py",
        "operation_usage",
    ): "for each operation that is recorded",
    ("otel_budget/sidecar/storage/codec.py", "_load"): "the fields of a row, one after the other",
}


def functions(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Yield name, first line and number of lines of each function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                yield node.name, node.lineno, node.end_lineno - body[0].lineno + 1


def main() -> int:
    """Look at every module; return 1 if a function is too long."""
    refused, used = 0, set()
    for path in sorted(FOLDER.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        where = path.relative_to(FOLDER.parent)
        if (lines := text.count("\n")) > LONG_MODULE:
            print(f"{where}: warning: {lines} lines; is it one subject?")
        for name, line, length in functions(ast.parse(text)):
            if length <= LONG_FUNCTION:
                continue
            if (str(where), name) in EXCEPTIONS:
                used.add((str(where), name))
                continue
            print(f"{where}:{line}: {name} has {length} lines, more than {LONG_FUNCTION}")
            refused = 1
    for module, name in EXCEPTIONS.keys() - used:
        print(f"{module}: {name} needs no exception any more")
        refused = 1
    return refused


if __name__ == "__main__":
    sys.exit(main())
