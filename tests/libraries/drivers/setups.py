"""How an application turns on the telemetry of each library.

Every function imports what it needs: only the libraries of one environment are installed.
"""

from opentelemetry import trace

from tests.libraries.drivers import scenario


def otel_openai() -> None:
    """OpenTelemetry's own instrumentation of OpenAI's SDK."""
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()


def otel_anthropic() -> None:
    """OpenTelemetry's own instrumentation of Anthropic's SDK."""
    from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor

    AnthropicInstrumentor().instrument()


def otel_langchain() -> None:
    """OpenTelemetry's own instrumentation of LangChain."""
    from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument()


def traceloop_openai() -> None:
    """OpenLLMetry for OpenAI's SDK."""
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()


def traceloop_anthropic() -> None:
    """OpenLLMetry for Anthropic's SDK."""
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

    AnthropicInstrumentor().instrument()


def traceloop_langchain() -> None:
    """OpenLLMetry for LangChain."""
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    LangchainInstrumentor().instrument()


def traceloop_openai_agents() -> None:
    """OpenLLMetry for OpenAI's Agents SDK."""
    from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument()


def openinference_openai() -> None:
    """OpenInference for OpenAI's SDK."""
    from openinference.instrumentation.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()


def openinference_anthropic() -> None:
    """OpenInference for Anthropic's SDK."""
    from openinference.instrumentation.anthropic import AnthropicInstrumentor

    AnthropicInstrumentor().instrument()


def openinference_langchain() -> None:
    """OpenInference for LangChain."""
    from openinference.instrumentation.langchain import LangChainInstrumentor

    LangChainInstrumentor().instrument()


def openinference_openai_agents() -> None:
    """OpenInference for OpenAI's Agents SDK."""
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument()


def openinference_smolagents() -> None:
    """OpenInference for smolagents."""
    from openinference.instrumentation.smolagents import SmolagentsInstrumentor

    SmolagentsInstrumentor().instrument()


def logfire_openai() -> None:
    """Logfire for OpenAI's SDK, offline."""
    import logfire

    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
    logfire.instrument_openai()


def logfire_anthropic() -> None:
    """Logfire for Anthropic's SDK, offline."""
    import logfire

    logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False)
    logfire.instrument_anthropic()


def openlit() -> None:
    """OpenLIT for everything it finds, but the clients of HTTP."""
    import openlit as library

    http = ["httpx", "requests", "urllib", "urllib3", "aiohttp-client"]
    library.init(disabled_instrumentors=http)


def pydantic_ai() -> None:
    """Pydantic AI's own spans."""
    from pydantic_ai import Agent

    Agent.instrument_all()


def litellm() -> None:
    """LiteLLM's own spans, into the application's provider."""
    import litellm as library
    from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig

    library.suppress_debug_info = True
    config = OpenTelemetryConfig(exporter="in_memory")
    library.callbacks = [OpenTelemetry(config=config, tracer_provider=trace.get_tracer_provider())]


def adapter_langchain() -> None:
    """The adapter for LangChain, for the whole process."""
    from otel_budget.adapters.langchain import install

    install()


def adapter_litellm() -> None:
    """The adapter for LiteLLM, for the whole process."""
    import litellm as library

    from otel_budget.adapters.litellm import install

    library.suppress_debug_info = True
    install()


def adapter_pydantic_ai() -> None:
    """The adapter for Pydantic AI, around every model of the scenarios."""
    from otel_budget.adapters.pydantic_ai import budgeted

    scenario.WRAPPERS.append(budgeted)


def adapter_openai_agents() -> None:
    """The adapter for OpenAI's Agents SDK, around every model of the scenarios."""
    from otel_budget.adapters.openai_agents import BudgetModel

    scenario.WRAPPERS.append(BudgetModel)


def guard_of_clients() -> None:
    """The guard of OpenAI's and Anthropic's clients, for the whole process."""
    import otel_budget

    otel_budget.instrument(guard=True)
