"""What one span says of a model call. Pure: a span's name, scope and attributes in, facts out.

The rules:
- What a span is follows from its operation, never from the span's kind or from having usage.
- Input includes cached tokens and output includes reasoning, whatever the emitter thinks. Parts
  larger than their whole show an emitter that counts them beside it: they are added to it.
- A value that cannot be a count (negative, NaN, a text that is no number) is refused and named.
  What it would have said is unknown. Nothing at all, and zero for both, is unknown, too: no call
  uses nothing.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core.validation import MAX_COUNT
from otel_budget.genai import attribute_names, billed
from otel_budget.genai.costs import NO_COSTS, Costs, on_span
from otel_budget.genai.values import as_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.extras import Extras

#: Characters at both ends of a response's text in which its id is looked for.
_TEXT_LOOKED_AT: Final = 8_192
_ID_IN_TEXT: Final = re.compile(r'"id"\s*:\s*"((?:chatcmpl|cmpl|resp|msg|gen)[-_][\w.-]{4,120})"')
#: Names of spans that look like a call by their attributes, and are about stored responses, about
#: counting tokens, or repeat the call they are in.
_NOT_A_CALL: Final = re.compile(
    r"(?:^|[\s._])retrieve(?:$|[\s._(])|count_tokens$|^raw_gen_ai_request$| API call to "
)
_LONGEST_NAME: Final = 256


class Kind(Enum):
    """What a span is to a budget."""

    INFERENCE = "inference"
    """One call of a model."""
    STREAM_RECORD = "stream_record"
    """What a streamed call used, apart from the span of the call itself."""
    AGGREGATE = "aggregate"
    """An agent, workflow, task or tool: about calls that have their own spans."""
    OTHER = "other"
    """Anything else, reading a stored response and counting tokens included."""


class Usage(NamedTuple):
    """Tokens of one call. Parts are inside their wholes."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0

    @property
    def known(self) -> bool:
        """True if the span said anything that can be: no call uses nothing."""
        return bool(self.input or self.output)


NO_USAGE: Final = Usage()


class ToolReport(NamedTuple):
    """One call of a tool, as a span or an adapter reports it."""

    name: str
    """Empty if it is not given."""
    call_id: str | None = None


class CallReport(NamedTuple):
    """One span, read."""

    kind: Kind
    model: str | None
    requested_model: str | None
    provider: str | None
    response_id: str | None
    usage: Usage
    costs: Costs = NO_COSTS
    """What is said of its cost."""
    extras: Extras | None = None
    """What is billed beside its plain tokens; None: nothing that is said."""
    refused: tuple[str, ...] = ()
    """``attribute=value`` of what cannot be a count."""
    partly: bool = False
    """Part of the usage is missing: no input at all, an answer that was not read to its end, or
    other calls that wrote theirs onto the same span before."""

    strange: bool = False
    """It has usage and is nothing that is known: it is not counted, and that should be said."""
    tool: ToolReport | None = None
    """The call of a tool that it is; None: it is none."""


#: What is known of a call whose span did not end.
NOTHING_REPORTED: Final = CallReport(Kind.INFERENCE, None, None, None, None, NO_USAGE)

NOT_A_CALL: Final = NOTHING_REPORTED._replace(kind=Kind.OTHER)


def kind_of(name: str, scope: str, seen: Mapping[str, object], *, evicted: bool = False) -> Kind:
    """Return what a span is. evicted: it lost attributes to the SDK's limit."""
    said = [seen.get(attribute) for attribute in attribute_names.SAYS]
    try:
        kind = _kind_of(name[:_LONGEST_NAME], scope, *said)
    except TypeError:  # a list: no text, so nothing said
        kind = _kind_of(name[:_LONGEST_NAME], scope, *map(_text, said))
    if kind is Kind.OTHER and evicted and _looks_like_a_call(name, seen):
        return Kind.INFERENCE
    return kind


def kind_at_start(name: str, scope: str, seen: Mapping[str, object]) -> Kind:
    """Return what a span is as far as its start says.

    Of libraries that say it at the end the name must do, for spans that never come to it.
    """
    kind = kind_of(name, scope, seen)
    if kind is not Kind.OTHER or not scope.startswith(attribute_names.SAID_LATE):
        return kind
    says_nothing = attribute_names.FROM_START.isdisjoint(seen)
    if says_nothing and _is_named_like_a_call(name) and not _NOT_A_CALL.search(name):
        return Kind.INFERENCE
    return kind


@lru_cache(maxsize=4096)  # the same few names, again and again: a fifth of the time
def _kind_of(name: str, scope: str, operation: object, kind: object, request_type: object) -> Kind:
    if name.startswith(attribute_names.STREAM_RECORD_NAME) and scope.startswith(
        attribute_names.STREAM_RECORDS
    ):
        return Kind.STREAM_RECORD
    if operation == attribute_names.FETCH or _NOT_A_CALL.search(name):
        return Kind.OTHER
    if operation in attribute_names.AGGREGATE or kind in attribute_names.OPENINFERENCE_AGGREGATE:
        return Kind.AGGREGATE
    if (
        operation in attribute_names.INFERENCE
        or kind in attribute_names.OPENINFERENCE_INFERENCE
        or _text(request_type)
    ):
        return Kind.INFERENCE
    return Kind.OTHER


def read(name: str, scope: str, seen: Mapping[str, object], *, evicted: bool = False) -> CallReport:
    """Read a span that has ended. seen: its attributes in ``attribute_names.ALL``."""
    kind = kind_of(name, scope, seen, evicted=evicted)
    tool = tool_of(name, scope, seen)
    if kind is Kind.OTHER:
        return NOT_A_CALL._replace(strange=_is_strange(name, seen), tool=tool)
    refused: list[str] = []
    provider = _first_text(seen, attribute_names.PROVIDER)
    usage = _usage(seen, scope, provider, refused)
    partly = usage.known and (
        _says_no_input(seen) or _says_no_output(seen) or written_by_litellm(scope, seen)
    )
    return CallReport(
        kind,
        _first_text(seen, attribute_names.MODEL),
        _first_text(seen, attribute_names.REQUESTED_MODEL),
        provider,
        _response_id(seen),
        usage,
        on_span(scope, seen),
        billed.on_span(seen),
        tuple(refused),
        partly,
        tool=tool,
    )


def tool_of(name: str, scope: str, seen: Mapping[str, object]) -> ToolReport | None:
    """Return the call of a tool that a span is, whether it succeeded or not; None if it is none."""
    if (
        seen.get(attribute_names.OPERATION) != attribute_names.EXECUTE_TOOL
        and seen.get(attribute_names.OPENINFERENCE_KIND) != attribute_names.OPENINFERENCE_TOOL
        and seen.get(attribute_names.TRACELOOP_KIND) != attribute_names.TRACELOOP_TOOL
        and not _is_running_tool(name, scope)
    ):
        return None
    if name.startswith(attribute_names.HANDOFF):
        return None
    said = _first_text(seen, attribute_names.TOOL_NAME) or name.partition(": ")[2]
    return ToolReport(said[:_LONGEST_NAME], _first_text(seen, attribute_names.TOOL_CALL_ID))


def _is_running_tool(name: str, scope: str) -> bool:
    return name.partition(":")[0] == attribute_names.RUNNING_TOOL and scope.startswith(
        attribute_names.RUNS_TOOLS
    )


def written_by_litellm(scope: str, seen: Mapping[str, object]) -> bool:
    """Tell whether LiteLLM wrote onto a foreign span: there the last call wins."""
    return attribute_names.LITELLM_MARK in seen and not scope.startswith("litellm")


def _is_strange(name: str, seen: Mapping[str, object]) -> bool:
    if attribute_names.USAGES.isdisjoint(seen) or _NOT_A_CALL.search(name):
        return False
    return seen.get(attribute_names.OPERATION) != attribute_names.FETCH


def _says_no_input(seen: Mapping[str, object]) -> bool:
    for spelling in attribute_names.USAGE["input"]:
        if spelling in seen and as_count(seen[spelling]):
            return False
    return True


def _says_no_output(seen: Mapping[str, object]) -> bool:
    """Tell whether a call that has an output does not say how much."""
    if not attribute_names.OUTPUTS.isdisjoint(seen):
        return False
    return not any(
        "embedding" in (_text(seen.get(name)) or "").lower() for name in attribute_names.SAYS
    )


def _usage(
    seen: Mapping[str, object], scope: str, provider: str | None, refused: list[str]
) -> Usage:
    into, out, cached, written, reasoning = (
        _count(seen, spellings, refused) for spellings in attribute_names.USAGE.values()
    )
    beside = cached + written
    if beside and (beside > into or _leaves_cache_out(scope, provider)):
        into += beside
    if reasoning > out:
        out += reasoning
    return Usage(into, out, cached, written, reasoning)


def _leaves_cache_out(scope: str, provider: str | None) -> bool:
    return any(
        scope.startswith(emitter) and (provider or "").lower() == its_provider
        for emitter, its_provider in attribute_names.WITHOUT_CACHE
    )


def _count(seen: Mapping[str, object], spellings: tuple[str, ...], refused: list[str]) -> int:
    for spelling in spellings:
        if spelling not in seen:
            continue
        value = seen[spelling]
        if type(value) is int and 0 <= value <= MAX_COUNT:  # nearly always
            return value
        count = as_count(value)
        if count is not None:
            return count
        refused.append(f"{spelling}={_shown(value)}")
    return 0


def _shown(value: object) -> str:
    try:
        return f"{value!r:.60}"
    except ValueError:  # Python writes no integer of more than some thousand digits
        return "a number of very many digits"


def _response_id(seen: Mapping[str, object]) -> str | None:
    known = _first_text(seen, attribute_names.RESPONSE_ID)
    if known:
        return known
    for attribute in attribute_names.RESPONSE_TEXT:
        text = seen.get(attribute)
        if seen.get(attribute_names.MIME_TYPE.get(attribute, "")) == "text/plain":
            continue  # what the model wrote
        if isinstance(text, str):
            found = _ID_IN_TEXT.search(text, 0, _TEXT_LOOKED_AT)
            if found is None and len(text) > _TEXT_LOOKED_AT:  # a long answer stands before it
                found = _ID_IN_TEXT.search(text, max(_TEXT_LOOKED_AT, len(text) - _TEXT_LOOKED_AT))
            if found is not None:
                return found[1]
    return None


def _looks_like_a_call(name: str, seen: Mapping[str, object]) -> bool:
    if _NOT_A_CALL.search(name):
        return False
    return _is_named_like_a_call(name) or any(
        spelling in seen for kind in ("input", "output") for spelling in attribute_names.USAGE[kind]
    )


def _is_named_like_a_call(name: str) -> bool:
    return (
        name.startswith(attribute_names.CHAT_MODELS)
        or name.partition(" ")[0].rpartition(".")[2] in attribute_names.INFERENCE_WORDS
    )


def _first_text(seen: Mapping[str, object], spellings: tuple[str, ...]) -> str | None:
    for spelling in spellings:
        text = _text(seen.get(spelling))
        if text:
            return text
    return None


def _text(value: object) -> str | None:
    """Return a text of some use as a name."""
    return value[:_LONGEST_NAME] if isinstance(value, str) and value else None
