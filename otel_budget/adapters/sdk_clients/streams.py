"""Answers that come in pieces: counted once, when the stream ends, is left or breaks."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from otel_budget.adapters.sdk_clients.answers import said_by
from otel_budget.genai.values import field

if TYPE_CHECKING:
    from otel_budget.adapters.open_call import OpenCall

_FAILED: Final = "response.failed"
#: The last events of OpenAI's Responses: they have the whole answer.
_LAST: Final = ("response.completed", "response.incomplete", _FAILED)


class Streamed:
    """One call whose answer comes in pieces."""

    def __init__(self, call: OpenCall) -> None:
        """Have seen nothing yet."""
        self.call = call
        self.is_read = False
        """Its next piece is being read: what closes the connection now is the end of the answer."""
        self._answer: Any = None
        self._usage: dict[str, Any] = {}
        self._is_whole = self._failed = False

    def see(self, piece: Any) -> None:
        """Take in an event, or a chunk: an object of the SDK or a decoded mapping."""
        self.call.mark_piece(piece)
        kind = field(piece, "type")
        if kind == "message_start":
            self._answer = field(piece, "message")
            self._add(field(self._answer, "usage"))
        elif kind == "message_delta":
            self._add(field(piece, "usage"))
            self._is_whole |= field(field(piece, "delta"), "stop_reason") is not None
        elif kind in _LAST:
            self._answer, self._is_whole, self._failed = piece, True, kind == _FAILED
        elif kind == "error":
            self._failed = True
        elif kind is None:
            self._see_chunk(piece)

    def _see_chunk(self, chunk: Any) -> None:
        """Take in a chunk of Chat Completions: the last one that has a usage counts."""
        has_usage = field(chunk, "usage") is not None
        if has_usage or self._answer is None:
            self._answer = chunk
        choices = field(chunk, "choices")
        ends = not choices or field(choices[0], "finish_reason") is not None
        self._is_whole |= has_usage and ends

    def _add(self, usage: Any) -> None:
        """Take in Anthropic's usage: later events repeat parts of it, as totals."""
        self._usage |= {name: value for name, value in _fields(usage) if value is not None}

    def end(self) -> None:
        """Count what was read to its end."""
        self.call.close(failed=self._failed, **self._said())

    def leave(self) -> None:
        """Count what was closed, or dropped: of one that was not whole the output is unknown."""
        if not self.is_read:
            self.call.close(failed=self._failed, **self._so_far())

    def fail(self, exc: BaseException) -> None:
        """Count what broke."""
        self.call.fail(exc, **self._so_far())

    def _so_far(self) -> dict[str, Any]:
        return self._said() | ({} if self._is_whole else {"output": None, "reasoning": None})

    def _said(self) -> dict[str, Any]:
        if not self._usage:
            return (
                {}
                if self._answer is None
                else said_by(field(self._answer, "response") or self._answer)
            )
        about = {name: field(self._answer, name) for name in ("id", "model")}
        return said_by(about | {"usage": self._usage})


def _fields(value: Any) -> list[tuple[str, Any]]:
    return list((value if isinstance(value, dict) else getattr(value, "__dict__", {})).items())


class Pieces:
    """What a stream gives, seen as it is read."""

    def __init__(self, given: Any, streamed: Streamed) -> None:
        """Read nothing yet."""
        self._given, self._streamed = given, streamed

    def __getattr__(self, name: str) -> Any:
        """Return what a generator has besides."""
        return getattr(self._given, name)

    def __iter__(self) -> Pieces:
        """Iterate."""
        return self

    def __aiter__(self) -> Pieces:
        """Iterate."""
        return self

    def __next__(self) -> Any:
        """Return the next piece."""
        self._streamed.is_read = True
        try:
            piece = next(self._given)
        except BaseException as exc:
            self._ended(exc, StopIteration)
            raise
        finally:
            self._streamed.is_read = False
        self._streamed.see(piece)
        return piece

    async def __anext__(self) -> Any:
        """Return the next piece."""
        self._streamed.is_read = True
        try:
            piece = await anext(self._given)
        except BaseException as exc:
            self._ended(exc, StopAsyncIteration)
            raise
        finally:
            self._streamed.is_read = False
        self._streamed.see(piece)
        return piece

    def _ended(self, exc: BaseException, ended: type[BaseException]) -> None:
        if isinstance(exc, ended):
            self._streamed.end()
        else:
            self._streamed.fail(exc)

    def __del__(self) -> None:
        """Count a stream that was dropped."""
        self._streamed.leave()


def follow_stream(stream: Any, call: OpenCall) -> None:
    """Count a stream of an SDK when it ends. It stays the object it is."""
    streamed = Streamed(call)
    stream._iterator = Pieces(stream._iterator, streamed)  # noqa: SLF001 - what both SDKs read it by
    see_response(stream.response, streamed)


class SeenResponse:
    """What an HTTP response does besides: its bytes are seen, and so is its end.

    It stays the object it is, and an instance of its class.
    """

    otel_budget_streamed: Streamed
    otel_budget_sees_bytes = False

    def close(self) -> None:
        """Close it: a call whose answer was not read to its end is counted by what is known."""
        self.otel_budget_streamed.leave()
        super().close()  # type: ignore[misc] # of the response's own class

    async def aclose(self) -> None:
        """Do as ``close``."""
        self.otel_budget_streamed.leave()
        await super().aclose()  # type: ignore[misc] # as above

    def iter_bytes(self, *args: Any, **kwargs: Any) -> Any:
        """Return the bytes: all there is to read them goes through here, or through its twin."""
        given = super().iter_bytes(*args, **kwargs)  # type: ignore[misc] # as above
        return Pieces(given, self.otel_budget_streamed) if self.otel_budget_sees_bytes else given

    def aiter_bytes(self, *args: Any, **kwargs: Any) -> Any:
        """Return the bytes, asynchronously."""
        given = super().aiter_bytes(*args, **kwargs)  # type: ignore[misc] # as above
        return Pieces(given, self.otel_budget_streamed) if self.otel_budget_sees_bytes else given


@functools.cache
def _seen(kind: type) -> type:
    return type(kind.__name__, (SeenResponse, kind), {})


def see_response(response: Any, streamed: Streamed, *, sees_bytes: bool = False) -> None:
    """Count a call when its HTTP response ends. sees_bytes: what is read is for ``streamed``."""
    kind: type = type(response)
    response.__class__ = _seen(kind)
    response.otel_budget_streamed, response.otel_budget_sees_bytes = streamed, sees_bytes
