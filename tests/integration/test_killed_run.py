"""A run killed at any moment (SIGKILL), also while it writes, has a whole checkpoint."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from otel_budget.sdk.checkpoints.store import KEEP, CheckpointFolder
from tests.support.figures import length, note

_SEED = 20_261_125
#: Says what it is about to record, records it, and says what it has saved.
RUN = """
import sys
from otel_budget import ResourceMonitor

root, again = sys.argv[1], sys.argv[2] == "again"
if again:
    monitor = ResourceMonitor.resume("run", root)
else:
    monitor = ResourceMonitor(session_id="run", project_root=root)
tokens = monitor.get_usage_report().tokens
print("began", tokens, flush=True)
padding = "x" * 200_000  # so that writing takes its time
while True:
    tokens += 7
    print("spends", tokens, flush=True)
    monitor.record_operation(7, api_call=True)
    if monitor.checkpoint({"tokens": tokens, "padding": padding}) is not None:
        print("saved", tokens, flush=True)
"""


def test_there_is_a_whole_checkpoint_after_every_kill(tmp_path: Path) -> None:
    """It has at least what the last one that was reported had, and no more than was recorded."""
    kills = length(15, 200)
    chance = random.Random(_SEED)
    saved = spent = 0
    checkpoints = 0
    for number in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path), "again" if saved else "new"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        first = process.stdout.readline().split()
        assert first[:1] == ["began"], f"life {number} could not begin"
        began = int(first[1])
        assert saved <= began <= spent or not saved, (saved, began, spent)
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        rest, _ = process.communicate()
        said = [words.split() for words in rest.splitlines()]
        spent = max([began, *(int(each[1]) for each in said if each[0] == "spends")])
        reports = [int(each[1]) for each in said if each[0] == "saved" and len(each) == 2]
        checkpoints += len(reports)
        saved = max([began if saved else 0, *reports])
        if saved:
            kept = CheckpointFolder(tmp_path, "run").read()
            assert saved <= kept.usage.tokens <= spent, (saved, kept.usage.tokens, spent)
            state = kept.state
            assert isinstance(state, dict)
            assert (state["tokens"], len(state["padding"])) == (kept.usage.tokens, 200_000)
            saved = kept.usage.tokens
    _no_litter(tmp_path)
    note(
        "Nothing lost",
        f"{kills} SIGKILLs of a run at random moments, while it wrote 200 kB checkpoints without "
        f"a pause ({checkpoints:,} of them)",
        "each time it resumed from a whole one, no less than the last reported one, no more "
        "than was recorded",
    )


def _no_litter(root: Path) -> None:
    """What was left half written goes when it is old enough to be nobody's."""
    folder = CheckpointFolder(root, "run")
    for leftover in folder.path.glob(".*.tmp"):
        os.utime(leftover, (0, 0))
    folder.take_up()
    folder.write(folder.read())
    left = [path.name for path in root.rglob("*") if path.is_file()]
    assert len(left) == KEEP, left
