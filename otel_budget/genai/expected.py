"""What an adapter can tell of a call before it is made: guesses, by the text of its request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

#: Characters of a token, in round numbers for English text and code: OpenAI's rule of thumb is 4
#: (https://help.openai.com/en/articles/4936856), and JSON, code and other languages have fewer.
_CHARACTERS: Final = 3
#: Tokens that a message takes beside its text.
_PER_MESSAGE: Final = 4
#: What an answer that nothing bounds is taken for where nobody can wait to see how large they are:
#: few are longer.
_USUAL_ANSWER: Final = 4_000
#: Values looked at of one request, and how deep they may lie.
_MOST_VALUES: Final = 20_000
_DEEPEST: Final = 12
#: What has the text of a message object of some framework, in the order in which it is asked.
_TEXTS: Final = ("content", "parts", "text", "args")


class Expected(NamedTuple):
    """What a call is taken to use while nothing is known of the size of its run's calls.

    Tokens; None: nothing is known of it, and the call holds all that is left.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    """As the request limits them; 0: it has no answer."""

    @property
    def tokens(self) -> int | None:
        """Input and output together; None unless both are known.

        An answer that nothing bounds may be a hundred times its question.
        """
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens

    def of_usual_size(self) -> Expected:
        """Return it with an answer of usual size, if nothing bounds that."""
        known = self.input_tokens is None or self.output_tokens is not None
        return self if known else self._replace(output_tokens=_USUAL_ANSWER)


def text_size(request: object) -> int:
    """Return how many tokens the text of a request has, about: never 0, and never raises.

    request: a text, messages as mappings or objects of a framework, or lists of them.
    """
    characters, messages = 0, 0
    left: list[tuple[object, int]] = [(request, 0)]
    for _ in range(_MOST_VALUES):
        if not left:
            break
        value, depth = left.pop()
        if isinstance(value, str | bytes):
            characters += len(value)
        elif depth < _DEEPEST:
            inner = _inside(value)
            messages += bool(inner)
            left.extend((one, depth + 1) for one in inner)
    return max(1, characters // _CHARACTERS + messages * _PER_MESSAGE)


def _inside(value: object) -> list[object]:
    """Return what a value of a request holds; of a request that is a stream, nothing."""
    try:
        if isinstance(value, Mapping):
            return list(value.values())[:_MOST_VALUES]
        if isinstance(value, list | tuple):
            return list(value[:_MOST_VALUES])
        if value is None or isinstance(value, int | float):
            return []
        return [getattr(value, name) for name in _TEXTS if hasattr(value, name)]
    except Exception:  # noqa: BLE001 - a guess must not end the user's model call
        return []
