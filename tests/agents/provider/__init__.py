"""A model provider for coding agents on the loopback interface, whose own log is the truth.

It reads the conversation it is sent: "do 3 steps of alpha" is answered with one tool call after the
other until three of them have their results, then with a text. So any number of agents may talk to
it at once, resumed or not. No model is behind it: what is put into a prompt is seen to arrive.
"""

from tests.agents.provider.server import Entry, Provider, Served

__all__ = ["Entry", "Provider", "Served"]
