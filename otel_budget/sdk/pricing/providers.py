"""What telemetry calls the providers of models, and what the price list calls them."""

from __future__ import annotations

#: The names of the GenAI conventions in all their generations, and of LangChain, LiteLLM,
#: OpenInference and pydantic-ai, to the id that genai-prices has; where both agree there is no row.
_IDS = {
    "amazon_bedrock": "aws",
    "aws.bedrock": "aws",
    "az.ai.inference": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "gemini": "google",
    "google_genai": "google",
    "google_vertexai": "google",
    "grok": "x-ai",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
    "vertex_ai": "google",
    "vertexai": "google",
    "x_ai": "x-ai",
    "xai": "x-ai",
}


def canonical(provider: str) -> str:
    """Return the one spelling of a provider's name; an unknown one in small letters."""
    name = provider.strip().lower()
    return _IDS.get(name, name)
