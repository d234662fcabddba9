"""The HTTP side of the provider: chooses an answer from the conversation, writes the log."""

from __future__ import annotations

import gzip
import json
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import TYPE_CHECKING, Any, Self

from tests.agents.provider import conversation, gemini_content
from tests.libraries.provider import anthropic_messages, openai_responses
from tests.libraries.provider.script import TOKENS, Answer, Call, Spent, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from tests.agents.provider.conversation import Task, Turn
    from tests.libraries.provider.script import Event

    Whole = Callable[[Call], dict[str, Any]]
    Stream = Callable[[Call], Iterator[Event]]

#: End of the path to: name of the API, a whole answer, a stream.
_APIS: dict[str, tuple[str, Whole, Stream]] = {
    "/responses": ("responses", openai_responses.response, openai_responses.response_events),
    "/messages": ("messages", anthropic_messages.message, anthropic_messages.message_events),
    ":generateContent": ("gemini", gemini_content.content, gemini_content.content_events),
    ":streamGenerateContent": ("gemini", gemini_content.content, gemini_content.content_events),
}
#: What the agents ask of a small model beside the task, by a word of the question: the answer.
_BESIDE: dict[str, dict[str, Any]] = {
    "next_speaker": {"reasoning": "done", "next_speaker": "user"},
    "model_choice": {"reasoning": "simple", "model_choice": "flash"},
    "complexity_score": {"complexity_reasoning": "simple", "complexity_score": 10},
    "isNewTopic": {"title": "A title", "isNewTopic": True},
    '"title"': {"title": "A title"},
}
#: What a hook says when it refuses a tool for good; an obedient model then gives its answer.
LAST_WORDS = "final answer"


@dataclass(slots=True)
class Entry:
    """One request to a model, as the provider saw it."""

    number: int
    """From 1."""
    api: str
    model: str
    label: str | None
    """Of the task in its prompt; None without a task."""
    main: bool
    """It offered a tool for the task; else a title, a summary or the like."""
    session: str | None
    """What the agent names its session in a header, where it does."""
    turns: tuple[Turn, ...]
    spent: Spent
    began: float
    """time.time() at which the request had come."""
    ended: float | None = None
    """time.time() after the last byte; None while it is being served."""
    cut: bool = False
    """The client hung up before the end."""
    tool: str | None = None
    """The tool that was called instead of a text."""

    def says(self, text: str) -> bool:
        """Return whether a text stands in the prompt, in whatever was not the model's own."""
        return any(text in turn.text for turn in self.turns if turn.role != "model")


@dataclass(frozen=True, slots=True)
class Served:
    """What was served, to be compared with what was counted."""

    calls: int
    input: int
    output: int
    cached: int
    cache_write: int
    reasoning: int

    @property
    def tokens(self) -> int:
        """Return what a ceiling of tokens counts."""
        return self.input + self.output


@dataclass(slots=True)
class Provider:
    """A provider on a free port of the loopback interface; a context manager."""

    delay: float = 0.0
    """Seconds before each answer begins."""
    slow: tuple[int, float] = (0, 0.0)
    """From this main call of a task on, another delay; 0 for no such call."""
    think: int = 0
    """Reasoning tokens of each main call."""
    obeys: bool = True
    """The model answers at once when a tool is refused with LAST_WORDS, else it tries again."""
    entries: list[Entry] = field(default_factory=list, repr=False)
    """The log, in order; read it when no agent runs, or through `log`."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _unique: Iterator[int] = field(default_factory=lambda: count(1), repr=False)
    _server: _Server = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Bind the port; serving begins with the context."""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.provider = self

    @property
    def url(self) -> str:
        """Return the address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Serve."""
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _exc: BaseException | None,
        _at: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def log(self, label: str | None = None) -> list[Entry]:
        """Return the requests so far, of one task or of all."""
        with self._lock:
            return [each for each in self.entries if label is None or each.label == label]

    def served(self, label: str | None = None) -> Served:
        """Return what was served to its end; a call that was cut is not in it."""
        whole = [each for each in self.log(label) if each.ended is not None and not each.cut]
        sums = {part: sum(getattr(each.spent, part) for each in whole) for part in TOKENS}
        return Served(calls=len(whole), **sums)

    def crossing(self, tokens: int, label: str | None = None) -> Entry:
        """Return the call with which so many tokens were reached."""
        used = 0
        for each in self.log(label):
            used += each.spent.input + each.spent.output
            if used >= tokens:
                return each
        raise AssertionError(f"{used} tokens were served, fewer than {tokens}")

    def settle(self) -> None:
        """Wait until no answer is under way any more: each is served, or cut."""
        while any(entry.ended is None for entry in self.log()):
            time.sleep(0.05)

    def after(self, entry: Entry, label: str | None = None) -> list[Entry]:
        """Return the main calls that came after another one."""
        return [each for each in self.log(label) if each.number > entry.number and each.main]

    def take(
        self, api: str, body: dict[str, Any], model: str, session: str | None
    ) -> tuple[Call, Entry]:
        """Take note of a request and choose its answer."""
        talk = tuple(conversation.turns(api, body))
        task = conversation.task_of(talk, LAST_WORDS)
        tool = conversation.tool_of(api, body, task)
        with self._lock:
            unique = next(self._unique)
            label = task.label if task else None
            before = sum(each.main and each.label == label for each in self.entries)
            spent = _spent(unique, before, self.think) if tool else Spent(300 + unique, 17)
            is_slow = tool is not None and 0 < self.slow[0] <= before + 1
            delay = self.slow[1] if is_slow else self.delay
            answer = self._answer(task, tool, body, delay)
            entry = Entry(
                unique, api, model, label, tool is not None, session, talk, spent, time.time(),
                tool=answer.tools[0].name if answer.tools else None,
            )  # fmt: skip
            self.entries.append(entry)
        return Call(unique, body | {"model": model}, answer, spent), entry

    def _answer(
        self, task: Task | None, tool: str | None, body: dict[str, Any], delay: float
    ) -> Answer:
        if task is None or tool is None:
            return Answer(text=_beside(body), delay=delay)
        steps = 1 if task.verb == "delegate" else task.steps
        if task.done >= steps or (task.refused and self.obeys):
            return Answer(text=f"All done for {task.label}.", delay=delay)
        given = conversation.arguments(tool, task, task.done + 1)
        return Answer(tools=(ToolCall(tool, given),), delay=delay)


def _spent(unique: int, before: int, think: int) -> Spent:
    """Return the usage of a main call: a prompt cache that grows, and no two calls the same."""
    cached = 14_000 + 350 * (before - 1) if before else 0
    written = 350 if before else 14_000
    return Spent(6 + cached + written, 110 + 7 * unique + think, cached, written, think)


def _beside(body: dict[str, Any]) -> str:
    end = json.dumps(body)[-6000:]
    return next((json.dumps(said) for word, said in _BESIDE.items() if word in end), "All well.")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    provider: Provider

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: agents that are stopped hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Write nothing."""

    def do_HEAD(self) -> None:
        """Say that somebody is here."""
        self._send(200, {})

    def do_GET(self) -> None:
        """List no models; know nothing else."""
        models = self.path.split("?")[0].endswith("/models")
        found = {"object": "list", "models": [], "data": []}
        self._send(200 if models else 404, found if models else {"error": {"message": "unknown"}})

    def do_POST(self) -> None:
        """Answer a request to a model."""
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            data = gzip.decompress(data)
        body, path = json.loads(data or b"{}"), self.path.split("?")[0]
        if path.endswith(("/count_tokens", ":countTokens")):
            return self._send(200, {"input_tokens": 42, "totalTokens": 42})
        for end, (api, whole, stream) in _APIS.items():
            if path.endswith(end):
                model = str(body.get("model") or path.rsplit("/", 1)[-1].split(":")[0])
                session = self.headers.get("x-claude-code-session-id")
                call, entry = self.server.provider.take(api, body, model, session)
                streams = bool(body.get("stream")) or path.endswith(":streamGenerateContent")
                return self._serve(call, entry, whole, stream if streams else None)
        return self._send(404, {"error": {"message": "unknown", "type": "not_found_error"}})

    def _serve(self, call: Call, entry: Entry, whole: Whole, stream: Stream | None) -> None:
        time.sleep(call.answer.delay)
        try:
            self._ask_who_waits()
            if stream is None:
                self._send(200, whole(call), f"req_fake_{call.unique}")
            else:
                self._send_events(stream(call), f"req_fake_{call.unique}")
        except OSError:
            entry.cut, self.close_connection = True, True
        entry.ended = time.time()

    def _ask_who_waits(self) -> None:
        """Raise ConnectionError if the client has hung up: a first write would still succeed."""
        ready, _, _ = select.select([self.connection], [], [], 0)
        if ready and not self.connection.recv(1, socket.MSG_PEEK):
            raise ConnectionResetError

    def _send(self, status: int, body: dict[str, Any], request: str | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if request:
            self.send_header("request-id", request)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _send_events(self, events: Iterator[Event], request: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("request-id", request)
        self.end_headers()
        for event in events:
            name = f"event: {event.name}\n" if event.name else ""
            data = f"{name}data: {event.data}\n\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")
