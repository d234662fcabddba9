"""What chunks of LangChain's streams say, and the message that is made of them no longer does.

LangChain adds up the usage of all chunks, whatever they mean by it, and drops the cost in those of
OpenAI's API.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from otel_budget.adapters.langchain_results import named
from otel_budget.genai.costs import charged
from otel_budget.genai.running_total import RunningTotal
from otel_budget.genai.values import as_count, field

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

_OPENAI: Final = "langchain_openai.chat_models.base"
#: By the identity of messages, which have no hash.
_CHARGES: Final[dict[int, tuple[ref[Any], Decimal]]] = {}


class Chunks:
    """Watches the chunks of one stream."""

    def __init__(self) -> None:
        """Begin with no chunk seen."""
        self._total = RunningTotal()
        self._last: dict[str, Any] = {}
        self.charge: Decimal | None = None
        """US dollars, by the last chunk that says what was charged."""

    def see(self, text: object, chunk: object) -> None:
        """Take in one chunk."""
        message = getattr(chunk, "message", None)
        usage = named(getattr(message, "usage_metadata", None))
        if not usage:
            return
        self._last = usage
        counts = (as_count(usage.get(f"{kind}_tokens")) or 0 for kind in ("input", "output"))
        self._total.see(*counts, has_text=bool(text))
        found, cost = _CHARGES.get(id(message), (None, None))
        if found is not None and found() is message:
            self.charge = cost

    def usage(self, summed: dict[str, Any]) -> dict[str, Any]:
        """Return what the stream used. summed: as LangChain says it."""
        if not self._total.is_added_up(summed.get("input_tokens"), summed.get("output_tokens")):
            return summed
        into, out = self._total.used
        of_output = self._last if out == self._last.get("output_tokens") else summed
        details = {"output_token_details": of_output.get("output_token_details")}
        return self._last | details | {"input_tokens": into, "output_tokens": out}


def watch() -> None:
    """Take note of what chunks of OpenAI's API say was charged, once its package is loaded."""
    module = sys.modules.get(_OPENAI)
    model = getattr(module, "BaseChatOpenAI", None)
    convert = getattr(model, "_convert_chunk_to_generation_chunk", None)
    if model is not None and convert is not None and not hasattr(convert, "otel_budget"):
        model._convert_chunk_to_generation_chunk = _noting(convert)  # noqa: SLF001 - it has no public name


def _noting(convert: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(convert)
    def noted(model: Any, chunk: Any, *args: Any, **kwargs: Any) -> Any:
        made = convert(model, chunk, *args, **kwargs)
        usage = field(chunk, "usage")
        cost = None if usage is None else charged(usage)
        message = getattr(made, "message", None)
        if cost is not None and message is not None:
            key = id(message)
            _CHARGES[key] = ref(message, lambda _: _CHARGES.pop(key, None)), cost
        return made

    vars(noted)["otel_budget"] = True  # the mark that watch() looks for
    return noted
