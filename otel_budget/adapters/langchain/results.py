"""What LangChain's results say of their calls, and the chunks of its streams.

LangChain adds up the usage of all chunks, whatever they mean by it, and drops the cost in those of
OpenAI's API: so the chunks are watched. Loads nothing of LangChain.
"""

from __future__ import annotations

import functools
import json
import sys
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from otel_budget.adapters.sdk_clients import answers
from otel_budget.adapters.sdk_clients.raw_bodies import MAX_ANSWER
from otel_budget.core.extras import WEB_SEARCHES
from otel_budget.genai import billed
from otel_budget.genai.costs import charged, in_headers
from otel_budget.genai.running_total import RunningTotal
from otel_budget.genai.values import as_count, as_money, field, mapping

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

#: LangChain puts a service tier in front of the names of tokens.
_TIERS = ("flex", "priority")
_IN_FRONT = ("", *(f"{tier}_" for tier in _TIERS))
_OPENAI: Final = "langchain_openai.chat_models.base"
#: By the identity of messages, which have no hash.
_CHARGES: Final[dict[int, tuple[ref[Any], Decimal]]] = {}


def said_by(response: Any, chunks: Chunks | None = None) -> dict[str, Any]:
    """Return what a result says of its call, for ``report_of``. chunks: what it was made of."""
    message = message_of(response)
    about = mapping(response.llm_output) | mapping(getattr(message, "response_metadata", None))
    usage = mapping(getattr(message, "usage_metadata", None))
    charge = None
    if chunks is not None:
        usage, charge = chunks.usage(usage), chunks.charge
    of_input = mapping(usage.get("input_token_details"))
    of_output = mapping(usage.get("output_token_details"))
    older = mapping(about.get("token_usage"))
    input_tokens, output_tokens = field(usage, "input_tokens"), field(usage, "output_tokens")
    model = about.get("model_name") or about.get("model")
    return {
        "input": older.get("prompt_tokens") if input_tokens is None else input_tokens,
        "output": older.get("completion_tokens") if output_tokens is None else output_tokens,
        "cached": field(of_input, *(f"{tier}cache_read" for tier in _IN_FRONT)),
        "cache_write": _cache_write(of_input),
        "reasoning": field(of_output, *(f"{tier}reasoning" for tier in _IN_FRONT)),
        "model": model,
        "provider": about.get("model_provider"),
        "response_id": _response_id(about.get("id"), getattr(message, "id", None)),
        "charge": _charge(usage, about) if charge is None else charge,
        "service_tier": _service_tier(about, of_input),
        "extras": _extras(message, usage, about, model),
    }


def said_by_error(error: BaseException) -> dict[str, Any]:
    """Return what is said of a call whose answer was refused for its form; empty: it has none.

    LangChain has the HTTP response with such an error.
    """
    response = getattr(error, "response", None)
    with suppress(Exception):  # it was not read, is no JSON, or is none of HTTP
        if response is not None and response.is_success and len(response.content) <= MAX_ANSWER:
            return answers.said_by(mapping(json.loads(response.content)))
    return {}


def _charge(usage: dict[str, Any], about: dict[str, Any]) -> Decimal | None:
    """Return what a call cost by the word of the model's maker, or of the gateway it went through.

    ``total_cost`` is LangChain's place for it, 0 for a model that costs nothing.
    """
    said = (
        as_money(usage.get("total_cost")),
        *map(charged, (about.get("token_usage"), about.get("usage"), about)),
        in_headers(about.get("headers")),
    )
    return next((cost for cost in said if cost is not None), None)


def _service_tier(about: dict[str, Any], of_input: dict[str, Any]) -> object:
    for tier in _TIERS:
        if tier in of_input or f"{tier}_cache_read" in of_input:
            return tier
    return billed.tier_in_usage(about) or billed.tier_in_usage(about.get("usage"))


def _extras(
    message: Any, usage: dict[str, Any], about: dict[str, Any], model: object
) -> Counter[str]:
    raw = about.get("usage"), about.get("token_usage")
    found = Counter[str]()
    for each in (usage, *raw):
        found |= billed.in_usage(each)
    if not any(field(each, "server_tool_use") for each in raw):
        more = mapping(getattr(message, "additional_kwargs", None))
        for answer in (getattr(message, "content", None), more.get("tool_outputs")):
            found |= billed.tools_in(answer)
    searches = billed.searches_of_gemini(about.get("grounding_metadata"), model)
    found[WEB_SEARCHES] = max(found[WEB_SEARCHES], searches)
    return found


def _cache_write(of_input: dict[str, Any]) -> object:
    """Return what was written to a cache: Anthropic's is told by how long it is kept."""
    by_age = [as_count(of_input.get(f"ephemeral_{age}_input_tokens")) or 0 for age in ("5m", "1h")]
    # 0 beside them, so that it is not added up.
    written = field(of_input, *(f"{tier}cache_creation" for tier in _IN_FRONT))
    return written or sum(by_age) or None


def _response_id(*candidates: object) -> str | None:
    """Return the provider's own id; LangChain makes up ids of runs and messages, too."""
    made_up = ("run-", "lc_", "lc-")
    for one in candidates:
        if isinstance(one, str) and one and not one.startswith(made_up):
            return one
    return None


def message_of(response: Any) -> Any:
    """Return the first message of a result; None for a result of texts."""
    generations = [one for several in response.generations for one in several]
    return getattr(generations[0], "message", None) if generations else None


class Chunks:
    """Watches the chunks of one stream."""

    def __init__(self) -> None:
        self._total = RunningTotal()
        self._last: dict[str, Any] = {}
        self.charge: Decimal | None = None
        """US dollars, by the last chunk that says what was charged."""

    def see(self, text: object, chunk: object) -> None:
        """Take in one chunk."""
        message = getattr(chunk, "message", None)
        usage = mapping(getattr(message, "usage_metadata", None))
        if not usage:
            return
        self._last = usage
        counts = (as_count(usage.get(f"{kind}_tokens")) or 0 for kind in ("input", "output"))
        self._total.see(*counts, has_text=bool(text))
        found, cost = _CHARGES.get(id(message), (None, None))
        if found is not None and found() is message:
            self.charge = cost

    def usage(self, summed: dict[str, Any]) -> dict[str, Any]:
        """Return what the stream used. summed: as LangChain says it."""
        if not self._total.is_added_up(summed.get("input_tokens"), summed.get("output_tokens")):
            return summed
        into, out = self._total.used
        of_output = self._last if out == self._last.get("output_tokens") else summed
        details = {"output_token_details": of_output.get("output_token_details")}
        return self._last | details | {"input_tokens": into, "output_tokens": out}


def watch_chunks() -> None:
    """Take note of what chunks of OpenAI's API say was charged, once its package is loaded."""
    module = sys.modules.get(_OPENAI)
    model = getattr(module, "BaseChatOpenAI", None)
    convert = getattr(model, "_convert_chunk_to_generation_chunk", None)
    if model is not None and convert is not None and not hasattr(convert, "otel_budget"):
        model._convert_chunk_to_generation_chunk = _noting_charge(convert)  # noqa: SLF001 - it has no public name


def _noting_charge(convert: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(convert)
    def noted(model: Any, chunk: Any, *args: Any, **kwargs: Any) -> Any:
        made = convert(model, chunk, *args, **kwargs)
        usage = field(chunk, "usage")
        cost = None if usage is None else charged(usage)
        message = getattr(made, "message", None)
        if cost is not None and message is not None:
            key = id(message)
            _CHARGES[key] = ref(message, lambda _: _CHARGES.pop(key, None)), cost
        return made

    vars(noted)["otel_budget"] = True  # the mark that watch_chunks() looks for
    return noted
