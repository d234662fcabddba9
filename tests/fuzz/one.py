"""``python -m tests.fuzz.one TARGET [libFuzzer's flags]``: fuzz one target, guided by its coverage.

Inputs that found something new are kept in ``build/fuzz/TARGET``, and so is one that crashes: put
it, made smaller, into ``tests/fuzz/corpus/TARGET``, where it is a test from then on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["otel_budget", "prometheus_client", "yaml"]):
    from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent


def main() -> None:
    """Fuzz."""
    name, *flags = sys.argv[1:]
    found = Path("build", "fuzz", name)
    found.mkdir(parents=True, exist_ok=True)
    argv = [sys.argv[0], *flags, "-print_final_stats=1", f"-artifact_prefix={found}/",
            str(found), str(HERE / "corpus" / name)]  # fmt: skip
    atheris.Setup(argv, TARGETS[name])
    atheris.Fuzz()


main()
