"""``python -m tests.fuzz [SECONDS [TARGET ...]]``: fuzz targets for so long, by default all, 600 s.

Shows how far it is, and exits 1 if an input crashed one of them.
"""

from __future__ import annotations

import re
import subprocess
import sys

from tests.fuzz.targets import TARGETS
from tests.support.figures import note


def main() -> int:
    """Fuzz them one after the other."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    names = sys.argv[2:] or list(TARGETS)
    inputs, crashed = 0, []
    for number, name in enumerate(names, start=1):
        print(f"{number} of {len(names)}: {name}, {seconds} s ...", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.one", name, f"-max_total_time={seconds}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        found = re.search(r"number_of_executed_units: (\d+)", done.stdout)
        ran = 0 if found is None else int(found[1])
        inputs += ran
        print(f"  {ran:,} inputs, exit status {done.returncode}", flush=True)
        if done.returncode:
            crashed.append(name)
            print(done.stdout[-3000:])
            continue
        note(
            "Tried by machines", f"{name}: fuzzed by its coverage for {seconds} s",
            f"{ran:,} inputs, no crash", test=f"tests/fuzz/targets.py::{name}",
        )  # fmt: skip
    print(f"{inputs:,} inputs; crashed: {', '.join(crashed) or 'none'}")
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main())
