"""The page on real coding agents, from what the tests with them found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
RESULTS = HERE.parent / "tests" / "agents" / "results.json"

_TITLES = {"claude-code": "Claude Code", "codex": "Codex CLI", "gemini-cli": "Gemini CLI"}

_INTRODUCTION = """\
# Coding agents: what was tried with the real programs

Generated from `tests/agents/results.json` by `docs/generate.py`; do not edit by hand.

The programs themselves, from npm in the versions below, ran in clean homes against a scripted
provider on the loopback interface, under [`otel-budget run`](run.md) with a sidecar and its
[receiver](receiver.md), or with [hooks](hooks.md) wired by hand or
[installed](install-agents.md). The provider wrote down what it served, when, and what stood in each
prompt; the table compares. `make test-agents` runs everything again; with
`OTEL_BUDGET_UPDATE_GOLDEN=1` it writes new results.

The limit is 70,000 tokens, which the fifth call of twelve reaches; the warning line is at 80 %.
"""

_COLUMNS = """
- **counted**: what the sidecar had at the end is what was served, to the token, with calls beside
  the task, cached input, cache writes and reasoning inside; and where the agent says what it cost,
  the same to the cent.
- **stopped**: calls that were served after the one that crossed the limit, to a model that does not
  obey. It is told at that moment to give its answer, and that is the call; then the run ends with
  exit status 3. Codex has no hook that ends a turn: it is denied its tools, then sent SIGINT, which
  cuts the call that it has begun by then.
- **briefed**: where "wrap up" stood, after the call that crossed the warning line.
- **resumed**: the stopped session went on after its limit was raised, with all that was said in
  it, and what both processes used was counted once.
- **delay**: from the last byte of the call that crossed the limit to the end of the program. Calls
  take 0.6 s here, Codex's last ones 3 s. One machine, busy: to compare, not to rely on.
"""

_FURTHER = """
## Also tried

"yes": a test of it passes. A dash: the agent has no such thing, or it was not tried.
"""

_ROWS = (
    ("two sessions at once are two runs", "at_once"),
    ("a sub-agent is part of its run", "sub_agent"),
    ("`/clear` and `/compact` stay in one run", "clear_and_compact"),
    ("a model that obeys: calls after the crossing, the last its answer", "obeys"),
    ("interactive: the turn is stopped, the next prompt blocked with the reason", "interactive"),
    ("interactive: Ctrl-C ends it, the terminal is as it was", "terminal"),
    ("`--no-hooks`: calls begun after the crossing, ended by a signal", "signalled"),
    ("hooks wired by hand: `http`", "by_http"),
    ("hooks wired by hand: `curl`", "by_curl"),
    ("hooks wired by hand: `otel-budget hook`", "by_hook"),
    ("`otel-budget install`, then the plain program; `--remove` restores to the byte", "installed"),
    ("telemetry that its user switched off", "switched_off"),
)

_PROSE = """
## What each of them needs

**Claude Code.** Nothing but `otel-budget run -- claude …`: telemetry by its environment, hooks by
`--settings`, into which your own `--settings` are merged. `--bare` and `--safe-mode` run no hooks;
then it is ended by a signal. In text mode it does not say why its hooks ended it: `run` does.

**Codex CLI.** It runs only hooks that you have trusted: install them and trust them once when it
asks, or give `--trust-hooks`. Without hooks `codex exec` is ended by SIGINT, cleanly, but without a
last answer. Its metrics name no session and come when a turn ends, so its logs are counted. In
the terminal it is started with `--no-daemon`: its background server keeps the environment of the
session that was first, and would count all later ones as that one. Installed and started without
`run`, it tells of a call a second later, so of short calls one more may be made.

**Gemini CLI.** It takes hooks from its settings file alone: `otel-budget install gemini-cli`
once. Without them it is counted from logs every 5 s and ended by a signal, which is that much
later. Its metrics come every 10 s, and nothing changes that.

## Not covered

- Whether a real model obeys. That the text stands in its prompt is seen, what it makes of it is
  not. What must hold does not depend on it.
- Real providers, Bedrock and Vertex; macOS and Windows; other versions than these.
- Hooks inside Codex's background server; its app-server protocol; sessions of its cloud.
- A call that is cut off by a signal: what the provider bills of it, no telemetry says.
- opencode, aider, goose: whatever pushes OTLP metrics or the logs of a [preset](presets.md) is
  counted by the [receiver](receiver.md), but these were not tried. opencode sends traces alone,
  which are not counted.
- A user who takes the hooks out of the settings, or starts the agent without `run`: these are
  guards of one's own, not against oneself. See [security.md](security.md).
"""


def agents_page() -> str:
    """Return the page."""
    results: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    lines = [_INTRODUCTION, "| agent | counted | stopped | briefed | resumed | delay |"]
    lines.append("|---|---|---|---|---|---|")
    for agent, found in results.items():
        cells = [_cell(found, *column) for column in _MAIN]
        lines.append(f"| {_TITLES[agent]} {found['version']} | {' | '.join(cells)} |")
    lines += [_COLUMNS.rstrip(), _FURTHER]
    lines.append(f"| | {' | '.join(_TITLES[agent] for agent in results)} |")
    lines.append("|---|" + "---|" * len(results))
    for words, what in _ROWS:
        cells = [_cell(found, what, _yes) for found in results.values()]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" + _PROSE


def _cell(found: dict[str, Any], what: str, words: Callable[[dict[str, Any]], str]) -> str:
    """Return what a table says of one thing; a dash for what no test has noted."""
    return words(found[what]) if what in found else "-"


def _counted(found: dict[str, Any]) -> str:
    money = f", ${found['cost_usd']}" if "cost_usd" in found else ""
    return f"exact ({found['tokens']:,} tokens, {found['calls']} calls{money})"


def _stopped(found: dict[str, Any]) -> str:
    calls = found["calls_after"]
    return f"{calls} call{'' if calls == 1 else 's'} after, {found['how']}"


def _briefed(found: dict[str, Any]) -> str:
    return str(found["found"])


def _resumed(found: dict[str, Any]) -> str:
    return f"exact ({found['tokens']:,} tokens, {found['calls']} calls)"


def _delay(found: dict[str, Any]) -> str:
    return f"{found['seconds']} s"


def _yes(found: dict[str, Any]) -> str:
    return str(found.get("calls_after", found.get("found", "yes")))


_MAIN = (
    ("counted", _counted), ("stopped", _stopped), ("briefed", _briefed), ("resumed", _resumed),
    ("stopped", _delay),
)  # fmt: skip
