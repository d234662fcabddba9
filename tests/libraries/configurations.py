"""Which libraries are run, in which environment, and how an application would instrument them.

Imported on both sides: in the development environment, and in those of the libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Anthropic's SDK makes spans of its own as soon as there is a provider, unless told not to.
_NATIVE_OFF: Final = (("ANTHROPIC_OPEN_TELEMETRY", "false"),)


@dataclass(frozen=True, slots=True)
class Configuration:
    """One way to use a library with telemetry."""

    name: str
    environment: str
    """Names the file in ``requirements``."""
    family: str
    """Module in ``drivers`` with the scenarios."""
    setups: tuple[str, ...]
    """Functions in ``drivers.setups``, called in this order."""
    packages: tuple[str, ...]
    """Those whose versions matter for the result."""
    settle: float = 0.0
    """Seconds after a scenario in which telemetry may still come from other threads."""
    variables: tuple[tuple[str, str], ...] = ()
    """Set in the environment of the process."""
    brings_provider: bool = False
    """The library sets the tracer provider, so the budget comes after it."""
    asks: bool = False
    """It asks before each call, so that a run stops before the first call over its limit."""


def _openai(
    name: str, *packages: str, setups: tuple[str, ...] | None = None, environment: str = "sdks"
) -> Configuration:
    setups = (f"{name}_openai",) if setups is None else setups
    return Configuration(
        f"openai+{name}", environment, "openai_sdk", setups, ("openai", *packages),
        brings_provider=name.endswith("logfire"),
    )  # fmt: skip


def _anthropic(
    name: str,
    *packages: str,
    setups: tuple[str, ...] | None = None,
    environment: str = "sdks",
    native: bool = False,
) -> Configuration:
    setups = (f"{name}_anthropic",) if setups is None else setups
    variables = () if native else _NATIVE_OFF
    return Configuration(
        f"anthropic+{name}", environment, "anthropic_sdk", setups, ("anthropic", *packages),
        variables=variables, brings_provider=name.endswith("logfire"),
    )  # fmt: skip


def _langchain(name: str, *packages: str, setups: tuple[str, ...] | None = None) -> Configuration:
    setups = (f"{name}_langchain",) if setups is None else setups
    return Configuration(
        f"langchain+{name}", "langchain", "langchain_agents", setups,
        ("langchain", "langgraph", "langchain-openai", "langchain-anthropic", *packages),
        settle=0.05, variables=_NATIVE_OFF,
    )  # fmt: skip


CONFIGURATIONS: Final = (
    _openai("otel", "opentelemetry-instrumentation-genai-openai"),
    _openai("traceloop", "opentelemetry-instrumentation-openai"),
    _openai("openinference", "openinference-instrumentation-openai"),
    _openai("logfire", "logfire"),
    _openai("openlit", "openlit", setups=("openlit",), environment="openlit"),
    _anthropic("native", setups=(), native=True),
    _anthropic("otel", "opentelemetry-instrumentation-genai-anthropic"),
    _anthropic("traceloop", "opentelemetry-instrumentation-anthropic"),
    _anthropic("openinference", "openinference-instrumentation-anthropic"),
    _anthropic("logfire", "logfire"),
    _anthropic("openlit", "openlit", setups=("openlit",), environment="openlit"),
    _anthropic(
        "native+traceloop", "opentelemetry-instrumentation-anthropic",
        setups=("traceloop_anthropic",), native=True,
    ),
    _anthropic("native+logfire", "logfire", setups=("logfire_anthropic",), native=True),
    Configuration(
        "pydantic-ai", "sdks", "pydantic_ai_agents", ("pydantic_ai",),
        ("pydantic-ai-slim", "openai", "anthropic"),
    ),
    Configuration(
        "pydantic-ai+otel", "sdks", "pydantic_ai_agents", ("otel_openai", "pydantic_ai"),
        ("pydantic-ai-slim", "openai", "anthropic", "opentelemetry-instrumentation-genai-openai"),
    ),
    _langchain("otel", "opentelemetry-instrumentation-genai-langchain"),
    _langchain("traceloop", "opentelemetry-instrumentation-langchain"),
    _langchain("openinference", "openinference-instrumentation-langchain"),
    _langchain(
        "openinference+openinference-openai", "openinference-instrumentation-langchain",
        "openinference-instrumentation-openai",
        setups=("openinference_langchain", "openinference_openai"),
    ),
    Configuration(
        "litellm", "litellm", "litellm_calls", ("litellm",), ("litellm", "openai"), settle=0.5,
        variables=(("LITELLM_LOCAL_MODEL_COST_MAP", "True"),),
    ),
    Configuration(
        "openai-agents+openinference", "agents", "openai_agents", ("openinference_openai_agents",),
        ("openai-agents", "openai", "openinference-instrumentation-openai-agents"), settle=0.1,
    ),
    Configuration(
        "openai-agents+traceloop", "agents", "openai_agents", ("traceloop_openai_agents",),
        ("openai-agents", "openai", "opentelemetry-instrumentation-openai-agents"), settle=0.1,
    ),
    Configuration(
        "langchain+adapter", "langchain", "langchain_agents", ("adapter_langchain",),
        ("langchain", "langgraph", "langchain-core", "langchain-openai", "langchain-anthropic"),
        variables=_NATIVE_OFF, asks=True,
    ),
    Configuration(
        "langchain+adapter+spans", "langchain", "langchain_agents",
        ("otel_langchain", "adapter_langchain"),
        ("langchain-core", "langchain-openai", "opentelemetry-instrumentation-genai-langchain"),
        settle=0.05, variables=_NATIVE_OFF, asks=True,
    ),
    Configuration(
        "langchain+adapter+openai-spans", "langchain", "langchain_agents",
        ("openinference_openai", "adapter_langchain"),
        ("langchain-core", "langchain-openai", "openinference-instrumentation-openai"),
        settle=0.05, variables=_NATIVE_OFF, asks=True,
    ),
    Configuration(
        "litellm+adapter", "litellm", "litellm_calls", ("adapter_litellm",), ("litellm", "openai"),
        variables=(("LITELLM_LOCAL_MODEL_COST_MAP", "True"),), asks=True,
    ),
    Configuration(
        "pydantic-ai+adapter", "sdks", "pydantic_ai_agents", ("adapter_pydantic_ai",),
        ("pydantic-ai-slim", "openai", "anthropic"), variables=_NATIVE_OFF, asks=True,
    ),
    Configuration(
        "pydantic-ai+adapter+spans", "sdks", "pydantic_ai_agents",
        ("pydantic_ai", "adapter_pydantic_ai"), ("pydantic-ai-slim", "openai", "anthropic"),
        asks=True,
    ),
    Configuration(
        "openai-agents+adapter", "agents", "openai_agents", ("adapter_openai_agents",),
        ("openai-agents", "openai"), asks=True,
    ),
    Configuration(
        "openai-agents+adapter+spans", "agents", "openai_agents",
        ("openinference_openai_agents", "adapter_openai_agents"),
        ("openai-agents", "openai", "openinference-instrumentation-openai-agents"),
        settle=0.1, asks=True,
    ),
    Configuration(
        "openai+guard", "sdks", "openai_sdk", ("guard_of_clients",), ("openai",), asks=True,
    ),
    Configuration(
        "openai+guard+otel", "sdks", "openai_sdk", ("otel_openai", "guard_of_clients"),
        ("openai", "opentelemetry-instrumentation-genai-openai"), asks=True,
    ),
    Configuration(
        "openai+guard+openinference", "sdks", "openai_sdk",
        ("guard_of_clients", "openinference_openai"),
        ("openai", "openinference-instrumentation-openai"), asks=True,
    ),
    Configuration(
        "anthropic+guard", "sdks", "anthropic_sdk", ("guard_of_clients",), ("anthropic",),
        variables=_NATIVE_OFF, asks=True,
    ),
    Configuration(
        "anthropic+guard+native", "sdks", "anthropic_sdk", ("guard_of_clients",), ("anthropic",),
        asks=True,
    ),
    Configuration(
        "strands", "agents", "strands_agents", (), ("strands-agents", "openai"), settle=0.1
    ),
    Configuration(
        "smolagents+openinference", "agents", "smolagents_agents", ("openinference_smolagents",),
        ("smolagents", "openai", "openinference-instrumentation-smolagents"), settle=0.1,
    ),
)  # fmt: skip

BY_NAME: Final = {each.name: each for each in CONFIGURATIONS}
