"""A model provider on the loopback interface that answers by script and writes down what it spent.

It speaks OpenAI's Chat Completions, Responses and Embeddings and Anthropic's Messages. Its log is
the truth that the live tests hold a monitor against. Standard library only: it runs inside the
environment of every library.
"""

from tests.libraries.provider.conversation import FINAL, Conversation
from tests.libraries.provider.script import Answer, Entry, Spent, ToolCall
from tests.libraries.provider.server import Provider

__all__ = ["FINAL", "Answer", "Conversation", "Entry", "Provider", "Spent", "ToolCall"]
