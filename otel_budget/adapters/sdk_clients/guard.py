"""Ask before a request of a client goes out, and count it after: at the one place all go through.

In both SDKs that is ``request`` of the client, around their own retries: those are one call. What
another adapter of ours has asked for already (LiteLLM, LangChain and others call these SDKs) goes
through as it is: that adapter counts it, and ends the run.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from otel_budget.adapters.ending import AS_BEFORE
from otel_budget.adapters.open_call import Asking
from otel_budget.adapters.sdk_clients.answers import said_by
from otel_budget.adapters.sdk_clients.raw_bodies import follow_body
from otel_budget.adapters.sdk_clients.streams import follow_stream
from otel_budget.genai import attribution
from otel_budget.genai.reported_call import HasUsageSink, sink_of
from otel_budget.genai.values import field

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from otel_budget.adapters.ending import Ending
    from otel_budget.adapters.open_call import OpenCall, Progress
    from otel_budget.adapters.request_shapes import Shape

#: The guarding of a client, or of a class, among its attributes.
GUARDING: Final = "otel_budget_guarding"
_PLAIN: Final = "otel_budget_plain"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Requests that are model calls."""

    operation: str = "chat"
    shape: Shape | None = None
    """How their last request is made; None: a text cannot be put into them."""


@dataclass(frozen=True, slots=True)
class Sdk:
    """What tells the requests of one SDK apart."""

    scope: str
    provider: str
    """Of a client that talks to ``host``; what others serve by that API is not known."""
    host: str
    endpoints: Mapping[str, Endpoint]
    """By the end of the path, the longest first."""

    def endpoint(self, options: Any) -> Endpoint | None:
        """Return what a request is; None: no model call."""
        if str(options.method).lower() != "post" or not isinstance(options.json_data, dict):
            return None
        path = urlsplit(str(options.url)).path
        return next((it for end, it in self.endpoints.items() if path.endswith(end)), None)


@dataclass(frozen=True, slots=True)
class Guarding:
    """How the requests of some clients are guarded."""

    sdk: Sdk
    monitor: HasUsageSink | None = None
    """Of the run; None: that of the context of each request."""
    ending: Ending = AS_BEFORE
    progress: Progress | None = None
    """Of a request's body: how far the run is."""


def guarded(client: Any, guarding: Guarding) -> Any:
    """Return a client every request of which is asked for; so are those of its copies.

    It stays the object it is, and an instance of its class. Guarded before, it is guarded anew.
    """
    kind = vars(type(client)).get(_PLAIN, type(client))
    request = _guarding_request(kind, lambda: kind.request, lambda: guarding)
    own = {"request": request, GUARDING: guarding,
           _PLAIN: kind, "__module__": kind.__module__, "__qualname__": kind.__qualname__,
           "__doc__": kind.__doc__}  # fmt: skip
    client.__class__ = type(kind.__name__, (kind,), own)
    return client


def guard_class(kind: type[Any], guarding: Guarding) -> None:
    """Guard every client of a class, those that were made before, too. Again: as told last."""
    if GUARDING not in vars(kind):
        plain = kind.request
        kind.request = _guarding_request(kind, lambda: plain, lambda: getattr(kind, GUARDING))
    setattr(kind, GUARDING, guarding)


def _guarding_request(
    kind: type[Any],
    plain_of: Callable[[], Callable[..., Any]],
    guarding_of: Callable[[], Guarding],
) -> Callable[..., Any]:
    """Return what takes the place of the ``request`` of a class of clients.

    plain_of, guarding_of: asked at each request. Others may have wrapped ``request`` since.
    """

    @functools.wraps(kind.request)
    def request(self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        plain, guarding = plain_of(), guarding_of()
        endpoint = _endpoint(guarding, options)
        if endpoint is None:
            return plain(self, cast_to, options, *args, **kwargs)
        guard = _Request(guarding, endpoint, self, options)
        return guard.send(lambda asked: plain(self, cast_to, asked, *args, **kwargs))

    @functools.wraps(kind.request)
    async def request_async(
        self: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any
    ) -> Any:
        plain, guarding = plain_of(), guarding_of()
        endpoint = _endpoint(guarding, options)
        if endpoint is None:
            return await plain(self, cast_to, options, *args, **kwargs)
        guard = _Request(guarding, endpoint, self, options)
        return await guard.send_async(lambda asked: plain(self, cast_to, asked, *args, **kwargs))

    return request_async if hasattr(kind, "__aenter__") else request


def _endpoint(guarding: Guarding, options: Any) -> Endpoint | None:
    """Return what a request is; None: it is no model call, or is asked for and counted already."""
    endpoint = guarding.sdk.endpoint(options)
    return None if endpoint is None or attribution.scope_around() is not None else endpoint


class _Request:
    """One request that is a model call."""

    def __init__(self, guarding: Guarding, endpoint: Endpoint, client: Any, options: Any) -> None:
        body = self._body = options.json_data
        self._options, self._shape = options, endpoint.shape
        self._answer: Any = None
        """The model's, before the application's own form of it: that may fail."""
        said = {
            "operation": endpoint.operation,
            "model": body.get("model"),
            "service_tier": body.get("service_tier"),
            "provider": _provider(guarding.sdk, client),
        }
        sink = sink_of(guarding.monitor)
        self._asking = Asking(
            guarding.sdk.scope, sink, guarding.ending, self._shape, body, said, guarding.progress
        )

    def send(self, plain: Callable[[Any], Any]) -> Any:
        """Ask, send, and count what comes back. Raises BudgetExceeded, and sends nothing."""
        call = self._asking.begin()
        try:
            with call.reported.around():
                answer = plain(self._sent(call))
        except BaseException as exc:
            self._close_failed(call, exc)
            raise
        return _followed(answer, call)

    async def send_async(self, plain: Callable[[Any], Awaitable[Any]]) -> Any:
        """Do as ``send``."""
        call = await self._asking.begin_async()
        try:
            with call.reported.around():
                answer = await plain(self._sent(call))
        except BaseException as exc:
            self._close_failed(call, exc)
            raise
        return _followed(answer, call)

    def _sent(self, call: OpenCall) -> Any:
        """Return the request that goes out; the application's own stays as it is."""
        parser = self._options.post_parser
        if call.body is self._body and not callable(parser):
            return self._options
        options = copy.copy(self._options)
        options.json_data = call.body
        if callable(parser):
            options.post_parser = functools.partial(self._parsed, parser, call)
        elif call.is_last:
            options.post_parser = call.mark
        if call.is_last and self._shape is not None and isinstance(options.extra_json, dict):
            options.extra_json = self._shape.without_tools(options.extra_json)
        return options

    def _parsed(self, parser: Callable[[Any], Any], call: OpenCall, answer: Any) -> Any:
        """Return an answer in the form that the application asked for (``parse``)."""
        self._answer = answer
        return call.mark(parser(answer))

    def _close_failed(self, call: OpenCall, exc: BaseException) -> None:
        """Count a call without an answer; one whose answer had not the form wanted was answered."""
        if self._answer is None:
            call.fail(exc)
        else:
            call.close(**said_by(self._answer))


def _provider(sdk: Sdk, client: Any) -> str | None:
    host = getattr(getattr(client, "base_url", None), "host", None)
    return sdk.provider if isinstance(host, str) and host.endswith(sdk.host) else None


def _followed(answer: Any, call: OpenCall) -> Any:
    """Return an answer, which counts its call when it was read."""
    raw = getattr(answer, "http_response", None)  # with_raw_response, with_streaming_response
    raw = answer if raw is None and hasattr(answer, "iter_bytes") else raw
    try:
        if raw is not None:
            follow_body(raw, call)
        elif hasattr(answer, "_iterator") and hasattr(answer, "response"):
            follow_stream(answer, call)
        else:
            call.close(failed=field(answer, "status") == "failed", **said_by(answer))
    except Exception:  # noqa: BLE001 - the application has its answer
        call.close()  # of unknown use
    return call.mark(answer)
