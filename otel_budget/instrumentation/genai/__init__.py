"""Count model calls from the spans that LLM libraries make of them."""
