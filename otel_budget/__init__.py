"""Keep autonomous agent runs inside their budget of tokens, API calls, time and money."""

__version__ = "0.1.0"
