"""What a provider's answer says it used, ready for ``record_operation``: one reader for all.

The parts are brought inside their wholes by the same rules as for spans. A detail that is null or
not there is not said; an answer without any usage is one of unknown use.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from otel_budget.core import extras
from otel_budget.genai import billed
from otel_budget.genai.costs import charged
from otel_budget.genai.reported_call import report_of
from otel_budget.genai.values import as_count, field

SCOPE: Final = "otel_budget.usage_of"
_INPUT: Final = ("prompt_tokens", "input_tokens", "inputTokens", "prompt_eval_count")
_OUTPUT: Final = ("completion_tokens", "output_tokens", "outputTokens", "eval_count")
_GEMINI_INPUT: Final = ("prompt_token_count", "promptTokenCount")
_OF_INPUT: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OF_OUTPUT: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details")


def usage_of(response: object) -> dict[str, Any]:
    """Return the arguments of ``record_operation`` that an answer, or its usage alone, gives.

    response: of OpenAI's Chat Completions, Responses or Embeddings, of Anthropic, Gemini or
    Bedrock's Converse, or of what speaks one of these; an object of the SDK or a decoded mapping.
    Of a stream its last event or chunk. ``model``, ``extras``, ``service_tier`` and ``cost_usd``
    are among them where the answer says them; ``provider`` is not.
    """
    response = field(response, "response") or response  # the last event of a stream
    found = field(response, "usage", "usage_metadata", "usageMetadata")
    usage = response if found is None else found
    of_gemini = field(usage, *_GEMINI_INPUT) is not None
    said = _gemini(response, usage) if of_gemini else _others(usage)
    counts = said.pop("extras")
    report = report_of(SCOPE, **said)
    into, out, cached, written, reasoning = report.usage
    arguments: dict[str, Any] = {"tokens": None}
    if report.usage.known:
        arguments = {
            "input_tokens": into, "output_tokens": out, "cache_read_tokens": cached,
            "cache_write_tokens": written, "reasoning_tokens": reasoning,
        }  # fmt: skip
    tier = field(response, "service_tier") or billed.tier_in_usage(usage) or _tier_of_gemini(usage)
    more = {
        "model": field(response, "model", "model_version", "modelVersion"),
        "service_tier": tier,
        "cost_usd": charged(usage),
        "extras": _inside(counts | _tools(response, usage), arguments),
    }
    texts = ("model", "service_tier")
    kept = {key: value for key, value in more.items() if key not in texts or isinstance(value, str)}
    return arguments | {key: value for key, value in kept.items() if value not in (None, {})}


def _others(usage: object) -> dict[str, Any]:
    of_input, of_output = field(usage, *_OF_INPUT), field(usage, *_OF_OUTPUT)
    into = field(usage, *_INPUT)
    read = field(usage, "cache_read_input_tokens", "cacheReadInputTokens")
    written = field(usage, "cache_creation_input_tokens", "cacheWriteInputTokens")
    if of_input is None and (count := as_count(into)) is not None:
        # Anthropic and Bedrock count them apart.
        into = count + (as_count(read) or 0) + (as_count(written) or 0)
    cached = field(of_input, "cached_tokens", "cache_read")
    cache_write = field(of_input, "cache_write_tokens", "cache_creation_tokens", "cache_creation")
    older = field(usage, "prompt_cache_hit_tokens")
    return {
        "input": into,
        "output": field(usage, *_OUTPUT),
        "cached": next((each for each in (cached, read, older) if each is not None), None),
        "cache_write": written if cache_write is None else cache_write,
        "reasoning": field(of_output, "reasoning_tokens", "thinking_tokens", "reasoning"),
        "extras": billed.in_usage(usage),
    }


def _gemini(response: object, usage: object) -> dict[str, Any]:
    def count(*spellings: str) -> int:
        return as_count(field(usage, *spellings)) or 0

    thoughts = count("thoughts_token_count", "thoughtsTokenCount")
    found = Counter[str]()
    for prefix, suffix, spellings in (
        ("input", "tokens", ("prompt_tokens_details", "promptTokensDetails")),
        ("cache", "read_tokens", ("cache_tokens_details", "cacheTokensDetails")),
        ("output", "tokens", ("candidates_tokens_details", "candidatesTokensDetails")),
    ):
        found |= billed.by_modality(prefix, suffix, field(usage, *spellings))
    candidates = field(response, "candidates") or ()
    model = field(response, "model_version", "modelVersion")
    for each in candidates if isinstance(candidates, list | tuple) else ():
        grounding = field(each, "grounding_metadata", "groundingMetadata")
        found[extras.WEB_SEARCHES] += billed.searches_of_gemini(grounding, model)
    tools = count("tool_use_prompt_token_count", "toolUsePromptTokenCount")
    return {
        "input": count(*_GEMINI_INPUT) + tools,
        "output": count("candidates_token_count", "candidatesTokenCount") + thoughts,
        "cached": count("cached_content_token_count", "cachedContentTokenCount"),
        "reasoning": thoughts,
        "extras": found,
    }


def _tier_of_gemini(usage: object) -> object:
    tier = field(usage, "traffic_type", "trafficType")
    return getattr(tier, "value", tier)


def _tools(response: object, usage: object) -> Counter[str]:
    """Return the calls of a provider's own tools, where the usage does not count them."""
    if field(usage, "server_tool_use") is not None:
        return Counter()
    return billed.tools_in(field(response, "output")) | billed.tools_in(field(response, "content"))


def _inside(counts: Counter[str], arguments: dict[str, Any]) -> dict[str, int]:
    """Return extras that are no larger than what they are part of, however they were reported."""
    kept = {name: count for name, count in counts.items() if count}
    for names, whole in (
        (tuple(extras.INPUT_KINDS), "input_tokens"),
        (extras.CACHED_KINDS, "cache_read_tokens"),
        ((extras.CACHE_WRITE_1H,), "cache_write_tokens"),
        (extras.OUTPUT_KINDS, "output_tokens"),
    ):
        room = arguments.get(whole, 0)
        for name in names:
            if name in kept:
                kept[name] = min(kept[name], room)
                room -= kept[name]
    return {name: count for name, count in kept.items() if count}
