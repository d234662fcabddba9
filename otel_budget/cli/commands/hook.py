"""``otel-budget hook``: a coding agent's hook, answered by the sidecar.

An agent waits for it at every step, so nothing is loaded but what one request needs. What the
answer is, the sidecar decides; only where it gives none, and ``--fail-closed`` says so, is the
agent's own way of blocking written here.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget.agents.known import names
from otel_budget.cli import options
from otel_budget.cli.command import EXIT_OK, EXIT_USAGE, Command
from otel_budget.cli.plain_words import Plain
from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.logs.text import one_line, printable
from otel_budget.sdk.sidecar_client.exchange import Limits
from otel_budget.sdk.sidecar_client.request import Asker, AskError

if TYPE_CHECKING:
    import argparse

AGENTS: Final = names()
#: Bytes of an input that are sent on: what the sidecar reads as a whole, and one that says that
#: there is more. What names the event comes first.
_MOST_INPUT: Final = 1_048_577
_BLOCK: Final = 65_536
#: The sidecar itself waits at most 1.4 s for what was just used.
_LIMITS: Final = Limits(silence=4.0, body=1_000_000, whole=4.5)
_HEADERS: Final = {"Accept": "application/json", "Content-Type": "application/json"}

_EPILOG: Final = f"""Reads the hook's input and prints the answer that the agent understands.
Without an answer of the sidecar it prints nothing, so that the agent goes on, and says why on
stderr; with --fail-closed it blocks the step instead, where the agent can block it.

exit status:
  {EXIT_OK}  answered, or no sidecar: see above
  {EXIT_USAGE}  wrong usage; with --fail-closed an input that is none: agents take it for a refusal

examples (as a hook's command; otel-budget install AGENT writes them):
  otel-budget hook claude-code --url http://127.0.0.1:9465
  otel-budget hook codex --fail-closed"""


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("agent", choices=AGENTS, help="whose hook it is")
    where = f"{options.ENV_SIDECAR}, else {options.DEFAULT_SIDECAR}"
    command.add_argument("--url", metavar="URL", default=options.sidecar_url(),
                         help=f"where the sidecar listens (default: {where})")  # fmt: skip
    run = f"the run's id (default: {options.ENV_RUN}, else the agent's own session id)"
    command.add_argument("--run", metavar="SESSION", default=options.run_id(), help=run)
    command.add_argument("--fail-closed", action="store_true",
                         help="block the step if the sidecar does not answer")  # fmt: skip


def _hook(arguments: argparse.Namespace) -> int:
    sent = _input()
    try:
        answer = _answer(arguments, sent)
    except OtelBudgetError as exc:
        problem = one_line(str(exc), 500)
        if arguments.fail_closed:
            return _blocked(arguments.agent, sent, problem)
        print(f"otel-budget: not held to any budget: {printable(problem)}", file=sys.stderr)
        return EXIT_OK
    sys.stdout.write(answer)
    return EXIT_OK


def _input() -> bytes:
    """Return the beginning of what is sent, having read all: who sends must not be hung up on."""
    kept = b""
    while block := sys.stdin.buffer.read(_BLOCK):
        if len(kept) < _MOST_INPUT:
            kept = (kept + block)[:_MOST_INPUT]
    return kept


def _answer(arguments: argparse.Namespace, sent: bytes) -> str:
    """Return the sidecar's answer. Raises AskError, and what its address and files may raise."""
    asker = Asker.of(arguments.url)
    path = f"/v1/hooks/{arguments.agent}"
    if arguments.run:
        path += f"?run={quote(arguments.run, safe='')}"
    headers = {**asker.address.headers("application/json"), **_HEADERS}
    body = asker.send(f"POST {path}", headers, sent, _LIMITS).body
    # Whatever else answers there: an agent would take its text for what the user wants said.
    if not body.lstrip().startswith(b"{"):
        raise AskError(f"{arguments.url} does not answer like a sidecar")
    return body.decode("utf-8", "replace")


def _blocked(name: str, sent: bytes, problem: str) -> int:
    """Block a step as its agent lets it be blocked, or say that it cannot be."""
    import json

    from otel_budget.agents.base import Answer, Step
    from otel_budget.agents.hook_input import WHOLE, hook_input
    from otel_budget.agents.known import hooks_of

    agent = hooks_of(name)
    said = f"otel-budget: stopped, as the sidecar gives no answer: {printable(problem)}"
    try:
        event = None if agent is None else agent.read(hook_input(sent, is_whole=len(sent) <= WHOLE))
    except InvalidValueError:
        event = None
    print(said, file=sys.stderr)
    if agent is None or event is None:
        return EXIT_USAGE
    steps = agent.can(event).steps
    step = next((one for one in (Step.END, Step.DENY) if one in steps), Step.GO_ON)
    if step is not Step.GO_ON:
        print(json.dumps(agent.write(event, Answer(step, said))))
    return EXIT_OK


COMMAND: Final = Command(
    "hook",
    "answer a coding agent's hook as the sidecar does",
    _hook,
    _add_arguments,
    _EPILOG,
    plain=Plain(
        positionals={"agent": AGENTS},
        options={"--url": options.sidecar_url, "--run": options.run_id},
        flags=("--fail-closed",),
    ),
)
