"""How right a count is, in words: what the provider served against what was counted.

| verdict | meaning |
|---|---|
| exact | calls, failures, input, output and all their parts are those of the provider's log |
| parts missing | calls, input and output are exact, the named parts of them lack something |
| outside the run | exact, but a part of it was counted in the process's own account |
| counted as failed | calls that were served, whose telemetry ended as an error without tokens |
| unknown | calls of which the budget itself says that it does not know their tokens |
| not seen | something is missing, and nothing says so |
| wrong | something was counted that the provider did not serve |
"""

from __future__ import annotations

from typing import Any, Final

from tests.libraries.provider.script import TOKENS

EXACT: Final = "exact"
_PARTS: Final = ("cached", "cache_write", "reasoning")


def verdict(outcome: dict[str, Any]) -> str:
    """Return the verdict of one scenario; of several runs only the kinds if they differ."""
    if outcome["error"] is not None:
        return f"error: {outcome['error'].strip().splitlines()[-1]}"
    found = {compare(run["served"], run["counted"]) for run in outcome["runs"]}
    outside = outcome["outside"]
    if len(found) > 1:  # which call is lost to which run is chance; the kind of loss is not
        return " | ".join(sorted({each.split(":")[0] for each in found}))
    if not outside:
        return found.pop()
    summed = sums(outcome)
    both = {name: value + outside.get(name, 0) for name, value in summed["counted"].items()}
    where = f"outside the run: {_calls(outside.get('calls', 0) + outside.get('failed', 0))}"
    whole = compare(summed["served"], both)
    return where if whole == EXACT else f"{where}; {whole}"


def sums(outcome: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return what was served and counted in all runs of a scenario together."""
    runs = outcome["runs"]
    return {
        side: {name: sum(run[side][name] for run in runs) for name in runs[0][side]}
        for side in ("served", "counted")
    }


def compare(served: dict[str, int], counted: dict[str, int]) -> str:
    """Return the verdict of what was counted, by name, against what was served."""
    off = {
        name: counted[name] - served[name]
        for name in ("calls", "failed", *TOKENS)
        if counted[name] != served[name]
    }
    differences = ", ".join(f"{name} {by:+d}" for name, by in off.items())
    lost = -off.get("calls", 0)
    if 0 < lost <= counted["failed"] and off.get("failed", 0) in (0, lost):
        rest = {name for name, by in off.items() if by > 0} - {"failed"}
        if not rest and not counted["unknown"]:
            return f"counted as failed: {_calls(lost)}"
    if any(by > 0 for by in off.values()):
        return f"wrong: {differences}"
    if counted["unknown"]:
        missing = f", calls {-lost:+d}" if lost else ""
        return f"unknown: {_calls(counted['unknown'])}{missing}"
    if not off:
        return EXACT
    if off.keys() <= set(_PARTS):
        return "parts missing: " + ", ".join(off)
    return f"not seen: {differences}"


def _calls(number: int) -> str:
    return "1 call" if number == 1 else f"{number} calls"
