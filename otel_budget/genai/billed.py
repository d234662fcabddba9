"""What is billed of a call beside plain tokens, as providers, libraries and spans say it. Pure.

Names that are the same in several APIs are read in all of them; what is not said is not there.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from otel_budget.core import extras
from otel_budget.core.extras import Extras, extras_of
from otel_budget.genai import attribute_names
from otel_budget.genai.values import as_count, field

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_INPUT: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OF_OUTPUT: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_KINDS: Final = ("audio", "image", "video")
#: Tools that a provider runs, as they go by in content and output, to what is billed.
_TOOLS: Final = {
    "web_search": extras.WEB_SEARCHES,
    "web_search_call": extras.WEB_SEARCHES,
    "file_search": extras.FILE_SEARCHES,
    "file_search_call": extras.FILE_SEARCHES,
    "code_execution": extras.CODE_EXECUTIONS,
    "bash_code_execution": extras.CODE_EXECUTIONS,
    "code_interpreter": extras.CODE_EXECUTIONS,
    "code_interpreter_call": extras.CODE_EXECUTIONS,
    "image_generation": extras.TOOL_CALLS,
    "image_generation_call": extras.TOOL_CALLS,
    "x_search": extras.TOOL_CALLS,
    "x_search_call": extras.TOOL_CALLS,
}
#: What makes a part of an answer the call of such a tool; the tool is named beside it.
_TOOL_BLOCKS: Final = ("server_tool_use", "server_tool_call", "builtin-tool-call")
#: Of OpenAI's web search; opening a page and looking for a text in it costs nothing.
_SEARCHING: Final = (None, "search")
_EVERYWHERE: Final = ("", "global", "not_available")


def on_span(seen: Mapping[str, object]) -> Extras | None:
    """Return the extras that a span says."""
    if attribute_names.EXTRAS.isdisjoint(seen):
        return None
    counts = {}
    for name, spellings in attribute_names.EXTRA_COUNTS.items():
        counts[name] = next((n for each in spellings if (n := as_count(seen.get(each)))), 0)
    tiers = (seen.get(name) for name in attribute_names.SERVICE_TIER)
    return extras_of(counts, next((tier for tier in tiers if tier), None))


def in_usage(usage: object) -> Counter[str]:
    """Return the extras in a usage: OpenAI's in both of its APIs, and of those that speak them,
    Anthropic's, Perplexity's, LiteLLM's, and LangChain's.
    """
    of_input, of_output = field(usage, *_OF_INPUT), field(usage, *_OF_OUTPUT)
    found = Counter[str]()
    for kind in _KINDS:
        found[f"input_{kind}_tokens"] = _count(of_input, f"{kind}_tokens", kind)
        found[f"output_{kind}_tokens"] = _count(of_output, f"{kind}_tokens", kind)
        cached = _count(field(of_input, "cached_tokens_details"), f"{kind}_tokens")
        found[f"cache_{kind}_read_tokens"] = cached
    by_age = field(usage, "cache_creation") or field(of_input, "cache_creation_token_details")
    hour = "ephemeral_1h_input_tokens"
    found[extras.CACHE_WRITE_1H] = _count(by_age, hour) or _count(of_input, hour)
    tools = field(usage, "server_tool_use")
    found[extras.WEB_SEARCHES] = (
        _count(tools, "web_search_requests")
        or _count(of_input, "web_search_requests")
        or _count(usage, "num_search_queries")
    )
    found[extras.CODE_EXECUTIONS] = _count(tools, "code_execution_requests")
    found[extras.CITATION_TOKENS] = _count(usage, "citation_tokens")
    found[extras.TOOL_CALLS] = _count(usage, "num_sources_used") + _count(
        of_input, "google_maps_grounding_requests"
    )
    region = field(usage, "inference_geo")
    found[extras.REGIONAL] = int(isinstance(region, str) and region not in _EVERYWHERE)
    return found


def tier_in_usage(usage: object) -> object:
    """Return the service tier that a usage names: Anthropic's has it there, and its fast mode."""
    return "fast" if field(usage, "speed") == "fast" else field(usage, "service_tier")


def tools_in(answer: object) -> Counter[str]:
    """Return the calls of a provider's own tools among the parts of an answer."""
    found = Counter[str]()
    for part in answer if isinstance(answer, list | tuple) else ():
        kind = field(part, "type", "part_kind")
        name = field(part, "name", "tool_name") if kind in _TOOL_BLOCKS else kind
        billed = _TOOLS.get(name) if isinstance(name, str) else None
        action = field(field(part, "action", "args", "input"), "type")
        if billed is not None and (billed != extras.WEB_SEARCHES or action in _SEARCHING):
            found[billed] += 1
    return found


def searches_of_gemini(grounding: object, model: object) -> int:
    """Return the searches that Google bills of an answer's grounding metadata: since Gemini 3 each
    query, before that one for an answer.
    """
    said = field(grounding, "web_search_queries", "webSearchQueries")
    queries = {query for query in said if query} if isinstance(said, list | tuple) else ()
    older = isinstance(model, str) and ("gemini-2" in model or "gemini-1" in model)
    return min(1, len(queries)) if older else len(queries)


def by_modality(prefix: str, suffix: str, details: object) -> Counter[str]:
    """Return Gemini's tokens by modality, text left out."""
    found = Counter[str]()
    for each in details if isinstance(details, list | tuple) else ():
        kind = field(each, "modality")
        kind = str(getattr(kind, "value", kind)).lower()
        if kind in _KINDS:
            found[f"{prefix}_{kind}_{suffix}"] += _count(each, "token_count", "tokenCount")
    return found


def _count(value: Any, *spellings: str) -> int:
    return as_count(field(value, *spellings)) or 0
