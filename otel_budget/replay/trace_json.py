"""A line of a trace as JSON, read strictly and written so that it is read as the same.

What may stand in it is in docs/replay.md. A key that is not known, a value that cannot be, a key
that is there twice: each is refused with file and line, as half of a trace would look like all of
it. What a use comes to is worked out by what counts it in a run's process.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from otel_budget import semconv
from otel_budget.core import validation
from otel_budget.core.limits import ResourceLimits
from otel_budget.core.resources import FURTHER, RESOURCES
from otel_budget.core.token_kinds import TOKEN_KINDS
from otel_budget.errors import InvalidValueError
from otel_budget.replay.trace import TraceLine, Use
from otel_budget.sdk.usage_arguments import further_of, named, operation_usage

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.sdk.pricing.prices import Prices
    from otel_budget.sdk.usage_arguments import OperationUsage

#: Bytes of one line.
LINE_MOST: Final = 65_536
#: Unix seconds of the years 1 to 9999: milliseconds are beyond them.
_FIRST, _LAST = -62_135_596_800, 253_402_300_799
_DAY: Final = 86_400
_RFC_3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:)(\d\d)((?:\.\d{1,30})?(?:[Zz]|[+-]\d\d:\d\d))", re.ASCII
)
_TIME_ALLOWED: Final = "Unix seconds of the years 1 to 9999, or RFC 3339 with an offset"
_MONEY: Final = re.compile(r"[0-9]{1,16}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,127}")
_LABELS_MOST, _LABEL_LONGEST = 64, 2048

KEYS: Final = (
    "t", "session_id", "start", "labels", "limits", "parent", "use", "progress", "end", "resolved",
)  # fmt: skip
_OF_START: Final = ("labels", "limits", "parent")
_TOKENS: Final = ("tokens", "input_tokens", "output_tokens")
#: Kind of tokens to the key that says how many there are of it, parts inside their wholes.
_KIND_KEYS: Final = {kind: f"{kind}_tokens" for kind in TOKEN_KINDS}
_UNSURE: Final = ("unknown_usage_calls", "unpriced_calls")
USE_KEYS: Final = (
    *_TOKENS, "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "api_calls",
    "api_call", *FURTHER, "cost_usd", "model", "provider", "outcome", "extras", "service_tier",
    *_UNSURE,
)  # fmt: skip


def read_line(text: str, where: str, prices: Prices) -> TraceLine:
    """Return what one line says. where: FILE:LINE. prices: of uses that name only their model.

    Raises InvalidValueError with ``where``.
    """
    try:
        data = _DECODER.decode(text)
    except InvalidValueError as exc:
        raise _at(exc, where) from exc
    except (ValueError, RecursionError) as exc:
        sentence = "it is not JSON"
        raise InvalidValueError("", None, "", where=where, sentence=sentence) from exc
    try:
        return _line(data, where, prices)
    except InvalidValueError as exc:
        raise _at(exc, where) from exc


def write_line(line: TraceLine) -> str:
    """Return a line as JSON, without a line break, that is read as the same line."""
    data: dict[str, object] = {"t": line.at, "session_id": line.session_id}
    if line.start:
        data["start"] = True
    if line.labels:
        data["labels"] = dict(line.labels)
    if line.limits is not None:
        data["limits"] = _limits_written(line.limits)
    if line.parent is not None:
        data["parent"] = line.parent
    if line.use is not None:
        data["use"] = _use_written(line.use)
    if line.progress is not None or line.progress_unknown:
        data["progress"] = line.progress
    if line.end is not None:
        data["end"] = line.end
    if line.resolved is not None:
        data["resolved"] = line.resolved
    return json.dumps(data, allow_nan=False)


def _at(error: InvalidValueError, where: str) -> InvalidValueError:
    sentence = error.sentence
    return InvalidValueError(error.key, error.value, error.allowed, where=where, sentence=sentence)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidValueError(twice, None, "", sentence="this key is there twice")
    return found


def _no_number(text: str) -> float:
    raise InvalidValueError("", None, "", sentence=f"{text} is not allowed in JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


def _line(data: object, where: str, prices: Prices) -> TraceLine:
    keys = _object("", data, KEYS)
    if "t" not in keys or "session_id" not in keys:
        missing = "session_id" if "t" in keys else "t"
        raise InvalidValueError(missing, None, "", sentence="is missing")
    starts, end, resolved = keys.get("start", False), keys.get("end"), keys.get("resolved")
    if not isinstance(starts, bool):
        raise InvalidValueError("start", starts, "true or false")
    if not starts:
        for key in _OF_START:
            if keys.get(key) is not None:
                sentence = 'belongs to the line on which the run begins, with "start": true'
                raise InvalidValueError(key, keys[key], "", sentence=sentence)
    if end is not None:
        end = validation.choice("end", end, semconv.ENDED_STATES)
    if not (resolved is None or isinstance(resolved, bool)):
        raise InvalidValueError("resolved", resolved, "true, false, or null where nobody judged it")
    if end is None and resolved is not None:
        sentence = 'belongs to the line on which the run ends, with "end"'
        raise InvalidValueError("resolved", resolved, "", sentence=sentence)
    labels, limits, use = keys.get("labels"), keys.get("limits"), keys.get("use")
    parent, progress = keys.get("parent"), keys.get("progress")
    # Not by name: there is one for every line, and that takes twice as long.
    return TraceLine._make(
        (
            _time(keys["t"]),
            validation.session_id(keys["session_id"]),
            where,
            starts,
            {} if labels is None else _labels(labels),
            None if limits is None else _limits(limits),
            None if parent is None else _parent(parent),
            None if use is None else _use(use, prices),
            _progress(progress),
            end,
            resolved,
            "progress" in keys and progress is None,
        )
    )


def _object(key: str, value: object, known: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidValueError(key, value, "a JSON object")
    for name in value:
        if name not in known:
            within = f"{key}.{name}" if key else name
            sentence = f"is not a key here; there are {', '.join(known)}"
            raise InvalidValueError(within, None, "", sentence=sentence)
    return value


def _time(value: object) -> float:
    """Return Unix seconds."""
    if type(value) in (int, float) and _FIRST <= value <= _LAST:  # type: ignore[operator] # a number
        return float(value)  # type: ignore[arg-type] # the same
    if isinstance(value, str) and (match := _RFC_3339.fullmatch(value)):
        minute, second, rest = match.groups()
        leaps = second == "60"  # at the end of a day in UTC; Unix time has it as the next second
        text = f"{minute}{'59' if leaps else second}{rest}".upper()
        try:
            seconds = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError) as exc:
            raise InvalidValueError("t", value, _TIME_ALLOWED) from exc
        if not leaps or seconds % _DAY >= _DAY - 1:
            return seconds + leaps
    raise InvalidValueError("t", value, _TIME_ALLOWED)


def _progress(value: object) -> float | None:
    try:
        return validation.progress(value)
    except InvalidValueError as exc:
        raise InvalidValueError("progress", value, "a number from 0 to 1, or null") from exc


def _parent(value: object) -> str:
    try:
        return validation.session_id(value)
    except InvalidValueError as exc:
        raise InvalidValueError("parent", value, exc.allowed) from exc


def _labels(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or len(value) > _LABELS_MOST:
        raise InvalidValueError("labels", value, f"an object of at most {_LABELS_MOST} labels")
    for name, text in value.items():
        if not _LABEL.fullmatch(name):
            allowed = "names of letters, digits and _ that begin with no digit"
            raise InvalidValueError("labels", name, allowed)
        if text != "":
            validation.line(f"labels.{name}", text, _LABEL_LONGEST)
    return value


def _money(key: str, text: str) -> Decimal:
    if _MONEY.fullmatch(text) is None:
        raise InvalidValueError(key, text, "US dollars from 0, such as 0.0125")
    return Decimal(text)


def _limits(value: object) -> ResourceLimits:
    if not isinstance(value, dict):
        raise InvalidValueError("limits", value, "an object with keys of ResourceLimits")
    cost = RESOURCES[semconv.COST].limit_key
    if isinstance(value.get(cost), str):
        value = {**value, cost: _money(cost, value[cost])}
    return ResourceLimits.only(**value)


def _limits_written(limits: ResourceLimits) -> dict[str, object]:
    """Return what differs from no limit at all."""
    none = ResourceLimits.only().to_dict()
    written = {key: value for key, value in limits.to_dict().items() if value != none.get(key)}
    if limits.max_cost_usd is not None:
        written[RESOURCES[semconv.COST].limit_key] = f"{limits.max_cost_usd:f}"
    return written


def _use(value: object, prices: Prices) -> Use:
    given = _object("use", value, USE_KEYS)
    calls = _calls(given)
    usage = _counted(given, calls)
    usage = _priced(usage, given, prices)
    amounts: dict[str, Number] = {}
    if usage.tokens:
        amounts[semconv.TOKENS] = usage.tokens
    if calls:
        amounts[semconv.API_CALLS] = calls
    if usage.cost_usd is not None:
        amounts[semconv.COST] = usage.cost_usd
    amounts.update(usage.further)
    kinds = {kind: tokens for kind, key in _KIND_KEYS.items() if (tokens := getattr(usage, key))}
    return Use(amounts, _unknown(given, usage, calls), _unpriced(given, usage, calls), kinds)


def _calls(given: Mapping[str, Any]) -> int:
    if "api_call" not in given:
        return validation.count("api_calls", given.get("api_calls", 0))
    one = given["api_call"]
    if not isinstance(one, bool) or "api_calls" in given:
        raise InvalidValueError("api_call", one, "true or false, without api_calls beside it")
    return int(one)


def _counted(given: Mapping[str, Any], calls: int) -> OperationUsage:
    """Return what a run's process would count of it."""
    cost = given.get("cost_usd")
    if isinstance(cost, str):
        cost = _money("cost_usd", cost)
    # What `tokens` says of a use that is split is all of it, the parts included.
    return operation_usage(
        given.get("tokens", 0),
        calls > 0,
        input_tokens=given.get("input_tokens"),
        output_tokens=given.get("output_tokens"),
        cache_read_tokens=given.get("cache_read_tokens"),
        cache_write_tokens=given.get("cache_write_tokens"),
        reasoning_tokens=given.get("reasoning_tokens"),
        cost_usd=cost,
        outcome=given.get("outcome", "ok"),
        extras=given.get("extras"),
        service_tier=given.get("service_tier"),
        further=further_of(**{name: given[name] for name in FURTHER if name in given}),
    )


def _priced(usage: OperationUsage, given: Mapping[str, Any], prices: Prices) -> OperationUsage:
    """Return a use with what it costs by its model, where it does not say that."""
    model = named("model", given.get("model"))
    provider = named("provider", given.get("provider"))
    if usage.cost_usd is not None or model is None:
        return usage
    if usage.extras is None:
        return usage._replace(cost_usd=prices.cost_of(model, provider, usage))
    return prices.worth(model, provider, usage).applied_to(usage)


def _unknown(given: Mapping[str, Any], usage: OperationUsage, calls: int) -> int:
    """Return the calls of which tokens are not known."""
    unknown = usage.usage_unknown or (
        "tokens" not in given and any(key in given and given[key] is None for key in _TOKENS[1:])
    )
    stated = validation.count("unknown_usage_calls", given.get("unknown_usage_calls", 0))
    return max(stated, max(1, calls) if unknown else 0)


def _unpriced(given: Mapping[str, Any], usage: OperationUsage, calls: int) -> int:
    """Return the calls of which the price, or part of it, is not known."""
    if "unpriced_calls" in given:
        return validation.count("unpriced_calls", given["unpriced_calls"])
    unpriced = usage.extras is not None or (
        usage.cost_usd is None
        and (calls > 0 or "cost_usd" in given or (given.get("model") and usage.tokens > 0))
    )
    return max(1, calls) if unpriced else 0


def _use_written(use: Use) -> dict[str, object]:
    amounts = {RESOURCES[name].usage_key: amount for name, amount in use.amounts.items()}
    written: dict[str, object] = {
        key: f"{amount:f}" if isinstance(amount, Decimal) else amount
        for key, amount in amounts.items()
    }
    calls = use.amounts.get(semconv.API_CALLS, 0)
    if use.unpriced_calls != (0 if semconv.COST in use.amounts else calls):
        written["unpriced_calls"] = use.unpriced_calls
    if use.kinds:
        written |= {_KIND_KEYS[kind]: tokens for kind, tokens in use.kinds.items()}
    if use.unknown_usage_calls:
        written["unknown_usage_calls"] = use.unknown_usage_calls
    return written
