"""A coding agent of the tests: pushes what its calls use, asks its hooks, and does what they say.

Run as a program. Its telemetry is told by the environment and its hooks by ``--settings``, as those
of Claude Code are. Of its own arguments: ``--calls N``, ``--tokens N`` of each, ``--pause S``
between them, ``--ignore SIGNAL`` …, ``--child FILE`` starts a process of its own and writes its id
there, ``--answers`` makes one more that wants no tool, ``--silent`` pushes nothing, ``--stubborn``
goes on although its tools are denied, ``--persists`` goes on until a push succeeds, ``--exit N``.
``-p``, and all else, is taken and means nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from typing import Any


def main() -> int:
    """Play the agent."""
    options = _options()
    for name in options.ignore:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if options.child:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                                 start_new_session=True)  # fmt: skip
        with open(options.child, "w", encoding="utf-8") as file:  # noqa: PTH123 - needs no more
            file.write(str(child.pid))
    agent = Agent(options)
    agent.hook("SessionStart", source="startup")
    print(agent.turn(), flush=True)
    agent.hook("SessionEnd", reason="other")
    return int(options.exit)


class Agent:
    """One session."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.session = options.session_id or str(uuid.uuid4())
        self.hooks: dict[str, Any] = json.loads(options.settings or "{}").get("hooks", {})
        self.prompt: list[str] = []
        """What hooks had said to the model."""

    def turn(self) -> str:
        """Take one prompt; return what becomes of it."""
        answer = self.hook("UserPromptSubmit", prompt="work")
        if answer.get("continue") is False or answer.get("decision") == "block":
            return f"blocked: {answer.get('reason') or answer.get('stopReason')}"
        made, reached = 0, True
        while made < self.options.calls or (self.options.persists and not reached):
            made, reached = made + 1, self.call()
            answer = self.hook("PreToolUse", tool_name="Bash", tool_input={})
            said = answer.get("hookSpecificOutput", {})
            if said.get("additionalContext"):
                self.prompt.append(said["additionalContext"])
            if answer.get("continue") is False:
                return f"stopped: {answer['stopReason']}"
            denied = said.get("permissionDecision") == "deny"
            if denied:
                self.prompt.append(said["permissionDecisionReason"])
            answer = self.hook("PostToolBatch", tool_calls=[])
            context = answer.get("hookSpecificOutput", {}).get("additionalContext")
            if context:
                self.prompt.append(context)
            if answer.get("continue") is False:
                return f"stopped: {answer['stopReason']}"
            if denied and not self.options.stubborn:
                self.call()
                self.hook("Stop")
                return f"final answer, after: {self.prompt}"
        if self.options.answers:
            self.call()
        self.hook("Stop")
        return f"done: {made}" if self.options.persists else "done"

    def call(self) -> bool:
        """Call the model; tell whether what it used was taken."""
        time.sleep(self.options.pause)
        return self.options.silent or push(self.session, self.options.tokens)

    def hook(self, event: str, **fields: object) -> dict[str, Any]:
        """Ask the hooks at an event; return the hardest of what they answer."""
        found: dict[str, Any] = {}
        for group in self.hooks.get(event, ()):
            for hook in group["hooks"]:
                body = {"session_id": self.session, "hook_event_name": event, **fields}
                if hook["type"] == "http":
                    found |= post(hook["url"], body) or {}
                else:
                    found |= command(hook["command"], body)
        return found


def push(session: str, tokens: int) -> bool:
    """Push what one call used, as a delta in JSON, as an exporter does that fails in silence.

    Return whether it was taken.
    """
    environ = os.environ
    endpoint = environ.get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") or (
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/metrics"
    )
    pairs = [pair.partition("=") for pair in environ["OTEL_RESOURCE_ATTRIBUTES"].split(",")]
    now = time.time_ns()
    point = {
        "attributes": _attributes({"session.id": session, "type": "input", "model": "m"}),
        "startTimeUnixNano": str(now - 1), "timeUnixNano": str(now), "asDouble": tokens,
    }  # fmt: skip
    metric = {
        "name": "claude_code.token.usage", "unit": "tokens",
        "sum": {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]},
    }  # fmt: skip
    resource = {"attributes": _attributes({name: value for name, _, value in pairs})}
    scope = {"scope": {"name": "com.anthropic.claude_code"}, "metrics": [metric]}
    sent = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}
    return post(endpoint, sent) is not None


def post(url: str, body: object) -> dict[str, Any] | None:
    """Post JSON; None for anything but a good answer."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found
    except (OSError, ValueError) as exc:
        print(f"agent: {url}: {exc}", file=sys.stderr, flush=True)
        return None


def command(line: str, body: object) -> dict[str, Any]:
    """Run a hook's command as Claude Code does: without the variables of OpenTelemetry."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        ["sh", "-c", line], env=environ, input=json.dumps(body), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    sys.stderr.write(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found


def _attributes(named: dict[str, str]) -> list[dict[str, object]]:
    return [{"key": name, "value": {"stringValue": value}} for name, value in named.items()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--settings")
    parser.add_argument("--session-id")
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--pause", type=float, default=0.05)
    parser.add_argument("--exit", type=int, default=0)
    parser.add_argument("--child")
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--persists", action="store_true")
    parser.add_argument("--ignore", action="append", default=[])
    return parser.parse_known_args()[0]


if __name__ == "__main__":
    sys.exit(main())
