"""What libraries call things on their spans: data, no rules.

Every spelling that was seen in the output of a real library stands here. The first of a row that a
span has counts. The standard's own names are the first ones; they moved between its versions, so
the constants of OpenTelemetry's packages are not used (they are marked deprecated as "moved").
"""

from __future__ import annotations

from typing import Final

OPERATION: Final = "gen_ai.operation.name"
REQUEST_TYPE: Final = "llm.request.type"
OPENINFERENCE_KIND: Final = "openinference.span.kind"
#: What says what a span is.
SAYS: Final = (OPERATION, OPENINFERENCE_KIND, REQUEST_TYPE)

#: Part of a call's use to the attributes that say it.
USAGE: Final[dict[str, tuple[str, ...]]] = {
    "input": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
    ),
    "output": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
    ),
    "cached": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cache_write": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
        "gen_ai.usage.details.cache_write_tokens",
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "gen_ai.usage.details.reasoning_tokens",
        "gen_ai.usage.details.thinking_tokens",
        "llm.token_count.completion_details.reasoning",
    ),
}
USAGES: Final = frozenset(USAGE["input"] + USAGE["output"])
OUTPUTS: Final = frozenset(USAGE["output"])
MODEL: Final = (
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.model_name",
    "llm.response.model_name",
    "llm.request.model_name",
    "embedding.model_name",
)
#: What was asked for: the same on both records of a call that is recorded twice.
REQUESTED_MODEL: Final = ("gen_ai.request.model", *MODEL[2:])
PROVIDER: Final = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
#: What was charged, by the word of a gateway or of the application; the first is our adapters'.
CHARGE: Final = ("otel_budget.charge", "gen_ai.usage.cost", "llm.cost.total")
#: What a library works out by a list of its own; the first is our adapters'.
ESTIMATE: Final = (
    "otel_budget.estimate",
    "operation.cost",
    "gen_ai.cost.total_cost",
    "litellm.cost.total",
)
#: Scopes whose every cost is worked out, whatever they call it.
ESTIMATORS: Final = ("openlit", "litellm", "logfire", "pydantic-ai")
#: Written as 0 for a model whose price the library does not know.
ZERO_IS_UNKNOWN: Final = ("gen_ai.cost.total_cost", "litellm.cost.total")
#: On every span that LiteLLM writes to, its own or the one it finds current.
LITELLM_MARK: Final = "litellm.provider.model"
COSTS: Final = frozenset(CHARGE + ESTIMATE)
#: What is billed beside plain tokens, to the attributes that say how much of it.
EXTRA_COUNTS: Final[dict[str, tuple[str, ...]]] = {
    "cache_write_1h_tokens": (
        "gen_ai.usage.details.cache_write_1h_tokens",
        "gen_ai.usage.details.ephemeral_1h_input_tokens",
        "gen_ai.usage.cache_creation.ephemeral_1h_input_tokens",
    ),
    "input_audio_tokens": (
        "gen_ai.usage.details.input_audio_tokens",
        "llm.token_count.prompt_details.audio",
    ),
    "cache_audio_read_tokens": ("gen_ai.usage.details.cache_audio_read_tokens",),
    "output_audio_tokens": (
        "gen_ai.usage.details.output_audio_tokens",
        "llm.token_count.completion_details.audio",
    ),
    "web_searches": (
        "gen_ai.usage.details.web_searches",
        "gen_ai.usage.details.web_search_requests",
        "gen_ai.usage.server_tool_use.web_search_requests",
    ),
}
#: What was served before what was asked for.
SERVICE_TIER: Final = (
    "openai.response.service_tier",
    "gen_ai.openai.response.service_tier",
    "anthropic.response.service_tier",
    "openai.request.service_tier",
    "gen_ai.openai.request.service_tier",
)
EXTRAS: Final = frozenset(
    {*SERVICE_TIER, *(name for spellings in EXTRA_COUNTS.values() for name in spellings)}
)
RESPONSE_ID: Final = ("gen_ai.response.id", "llm.openai.id")
#: Where a library that has no attribute for it leaves the response, as text.
RESPONSE_TEXT: Final = ("output.value", "response_data", "gen_ai.output.messages")

#: What says of which kind such a text is.
MIME_TYPE: Final = {"output.value": "output.mime_type"}

#: Values of the operation that are one call of a model.
INFERENCE: Final = frozenset(
    {
        "chat",
        "text_completion",
        "generate_content",
        "embeddings",
        "completion",
        "acompletion",
        "embedding",
        "aembedding",
        "responses",
        "aresponses",
        # Semantic Kernel
        "chat.completions",
        "chat.streaming_completions",
        "text.completions",
        "text.streaming_completions",
    }
)
#: Values of the operation that are about calls which have their own spans.
AGGREGATE: Final = frozenset(
    {
        "invoke_agent",
        "invoke_workflow",
        "create_agent",
        "execute_tool",
        "execute_task",
        "execute_event_loop_cycle",
        "plan",
    }
)
#: What says that a span is one call of a tool, of which tool, and which call.
EXECUTE_TOOL: Final = "execute_tool"
OPENINFERENCE_TOOL: Final = "TOOL"
TRACELOOP_KIND: Final = "traceloop.span.kind"
TRACELOOP_TOOL: Final = "tool"
RUNNING_TOOL: Final = "running tool"
"""What Pydantic AI called such spans, before it said more; with the tool's name behind a colon."""
RUNS_TOOLS: Final = ("pydantic-ai", "logfire")
HANDOFF: Final = "handoff to "
"""OpenInference calls it a tool where one agent of OpenAI's SDK hands over to another."""
TOOL_NAME: Final = ("gen_ai.tool.name", "tool.name", "traceloop.entity.name")
TOOL_CALL_ID: Final = ("gen_ai.tool.call.id", "tool_call.id")
TOOLS: Final = frozenset({TRACELOOP_KIND, *TOOL_NAME, *TOOL_CALL_ID})
#: Reads a stored response; the standard forbids usage on it, not every library knows.
FETCH: Final = "fetch_response"
OPENINFERENCE_INFERENCE: Final = frozenset({"LLM", "EMBEDDING"})
OPENINFERENCE_AGGREGATE: Final = frozenset({"AGENT", "CHAIN", "TOOL", "PROMPT"})

#: First words of span names, or their last part behind a dot, that are a call of a model. Only for
#: spans that lost attributes to the SDK's limit, and those that never come to say it.
INFERENCE_WORDS: Final = INFERENCE | {"ChatCompletion", "Response", "CreateEmbeddings", "response"}

#: Beginnings of the names that LangChain's chat models, and LiteLLM's calls, go by.
CHAT_MODELS: Final = ("Chat", "litellm_request")

#: Scopes whose spans say only at their end that they are a model call.
SAID_LATE: Final = (
    "openlit",
    "litellm",
    "strands",
    "openinference.",
    "opentelemetry.instrumentation.langchain",
)
#: OpenLIT copies Anthropic's own count, which leaves cached tokens out; all others add them.
WITHOUT_CACHE: Final = (("openlit", "anthropic"),)
#: An agent span that repeats what the agent's object used in all its life.
LIFETIME_TOTALS: Final = ("strands",)
#: Records a streamed call twice: the request, and later, unlinked, what the stream used.
STREAM_RECORDS: Final = ("logfire",)
STREAM_RECORD_NAME: Final = "streaming response from"

#: Attributes that are looked at, and those worth keeping from the start: the SDK evicts the oldest.
FROM_START: Final = frozenset(
    {OPERATION, REQUEST_TYPE, OPENINFERENCE_KIND, *MODEL, *PROVIDER, *RESPONSE_ID}
)
ALL: Final = frozenset(
    {
        *FROM_START,
        *TOOLS,
        *COSTS,
        *EXTRAS,
        LITELLM_MARK,
        *RESPONSE_TEXT,
        *MIME_TYPE.values(),
        *(name for spellings in USAGE.values() for name in spellings),
    }
)
