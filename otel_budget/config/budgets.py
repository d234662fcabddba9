"""The configuration's budgets: limits on what runs use together (design, section 6).

Windows have a module of their own: windows.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    create_model,
    model_validator,
)

from otel_budget import semconv
from otel_budget.config import windows
from otel_budget.config.section import RefusedKey, Section, Strict
from otel_budget.config.values import YesOrNo, checked, label_name
from otel_budget.core import validation
from otel_budget.core.budget import (
    DEFAULT_GROUPS_MAX,
    PRESENT,
    TOKEN_KINDS,
    WHOLE_WEIGHT,
    Budget,
    Mode,
    WhenLow,
    Window,
    WindowKind,
)
from otel_budget.core.limits import DEFAULT_THRESHOLD
from otel_budget.core.resources import COUNTED, RESOURCES, TIMES, Resource
from otel_budget.errors import InvalidValueError
from otel_budget.files.yaml_file import meant

if TYPE_CHECKING:
    from pydantic import ValidationInfo

    from otel_budget.config.sources import SourceConfig
    from otel_budget.core.quantities import Number

#: Labels by which runs can be told apart without ``scope_labels``.
KNOWN_SCOPES: Final = (semconv.WORKFLOW, *semconv.SCOPE_LABELS)
#: Labels that name a run, or are of one metric only: no scope.
_NO_SCOPES: Final = (
    semconv.SESSION_ID, "parent_session_id", semconv.RESOURCE, semconv.UNIT, semconv.STATE,
)  # fmt: skip
#: Where in the context of a validation the labels are that may be scopes.
_SCOPES: Final = "scopes"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LONGEST_TITLE: Final = 200
_LONGEST_VALUE: Final = 2048
_MOST_SCOPE_LABELS: Final = 32
_MOST_GROUPS: Final = 100_000
#: The price of a token of one kind is not a thousand times that of another.
_MOST_WEIGHT: Final = 1000
_WEIGHT_ALLOWED: Final = f"a number from 0 to {_MOST_WEIGHT} with at most three decimals"
#: In a window, at least: with one, a window may hold none or all of what was used in two.
_READINGS: Final = 2
#: What keeps something for a next window: nothing is ever reset in the others.
_WITH_RESET: Final = (WindowKind.CALENDAR, WindowKind.FIRST_USE)

#: Keys of limits that mean nothing for what is shared, and what is said then.
OF_ONE_RUN: Final[Mapping[str, str]] = {
    RESOURCES[name].limit_key: (
        "is not for a budget: the time of runs that go on at once is not added up; limit it for "
        "each run, in resource_limits"
    )
    for name in TIMES
}


def scope_labels(value: object, info: ValidationInfo) -> tuple[str, ...]:
    """Return further labels that budgets may tell runs apart by."""
    context = {} if info.context is None else info.context
    names = () if value is None else value
    if not isinstance(names, list | tuple) or len(names) > _MOST_SCOPE_LABELS:
        raise InvalidValueError("", value, f"a list of up to {_MOST_SCOPE_LABELS} names of labels")
    # Kept even if one of them is refused: a budget that names it is right.
    context[_SCOPES] = (*KNOWN_SCOPES, *map(str, names))
    return tuple(_scope_label(name) for name in names)


def _scope_label(value: object) -> str:
    name = label_name(value)
    if name in _NO_SCOPES or name.startswith("__"):
        allowed = "a label that says whose a run is, such as tenant; this one tells something else"
        raise InvalidValueError("", value, allowed)
    return name


def _known_scopes(info: ValidationInfo) -> tuple[str, ...]:
    found: tuple[str, ...] = (info.context or {}).get(_SCOPES, KNOWN_SCOPES)
    return found


def _refused_label(label: object, known: tuple[str, ...]) -> str:
    """Say that runs are not told apart by a label, and by which they are."""
    near = meant(str(label), known)
    return f"is not a label of runs; there are {', '.join(known)}, and what scope_labels adds{near}"


def _name(value: object) -> str:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        allowed = "1 to 63 characters from a-z 0-9 -, starting with a letter or digit"
        raise InvalidValueError("", value, allowed)
    return value


def _title(value: object) -> str:
    return "" if value in (None, "") else validation.line("", value, _LONGEST_TITLE)


def _match(value: object, info: ValidationInfo) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidValueError(
            "", value, "a mapping of labels to values, such as {team: research}"
        )
    known = _known_scopes(info)
    for label in value:
        if label not in known:
            raise RefusedKey((str(label),), _refused_label(label, known))
    return {label: _values(label, given) for label, given in value.items()}


def _values(label: str, given: object) -> tuple[str, ...]:
    """Return the values of which a run must have one."""
    several = isinstance(given, list | tuple)
    values = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not values:
        allowed = f'a value, a list of at least one, or "{PRESENT}" for any'
        raise RefusedKey((label,), "", value=given, allowed=allowed)
    for index, value in enumerate(values):
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_VALUE:
            allowed = "text that is not empty; in quotes, if YAML reads it as something else"
            at = (label, index) if several else (label,)
            raise RefusedKey(at, "", value=value, allowed=allowed)
    return tuple(dict.fromkeys(values))


def _per(value: object, info: ValidationInfo) -> tuple[str, ...]:
    labels = () if value is None else value
    if not isinstance(labels, list | tuple):
        raise InvalidValueError("", value, "a list of labels, such as [user]")
    known = _known_scopes(info)
    for index, label in enumerate(labels):
        if label not in known:
            raise RefusedKey((index,), f"{label!r} {_refused_label(label, known)}")
        if label in labels[:index]:
            raise RefusedKey((index,), f"{label!r} is in the list a second time")
    return tuple(labels)


def _weights(value: object) -> dict[str, int]:
    """Return weights in thousandths."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidValueError("", value, "a mapping of kinds of tokens to weights")
    for kind in value:
        if kind not in TOKEN_KINDS:
            there_are = ", ".join(TOKEN_KINDS) + meant(str(kind), TOKEN_KINDS)
            raise RefusedKey((str(kind),), f"is not a kind of tokens; there are {there_are}")
    return {kind: _weight(kind, given) for kind, given in value.items()}


def _weight(kind: str, given: object) -> int:
    try:
        if type(given) in (int, float):
            exact = Decimal(repr(given)) * WHOLE_WEIGHT
            if 0 <= exact <= _MOST_WEIGHT * WHOLE_WEIGHT and exact == int(exact):
                return int(exact)
    except InvalidOperation:  # not a number at all
        pass  # refused below, like every other
    raise RefusedKey((kind,), "", value=given, allowed=_WEIGHT_ALLOWED)


def _carry_over(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:  # type: ignore[operator] # a number
        raise InvalidValueError("", value, "a share from 0 to 1")
    return float(value)  # type: ignore[arg-type] # a number, by now


def _groups_max(value: object) -> int:
    if type(value) is not int or not 1 <= value <= _MOST_GROUPS:
        raise InvalidValueError("", value, f"a whole number from 1 to {_MOST_GROUPS}")
    return value


def _one_of(words: type[WhenLow | Mode]) -> BeforeValidator:
    def validate(value: object) -> object:
        if isinstance(value, words):
            return value
        return words(validation.choice("", value, tuple(map(str, words))))

    return BeforeValidator(validate)


def _some_limit(limits: Any) -> Any:
    if not limits_in(limits):
        keys = " or ".join(RESOURCES[name].limit_key for name in COUNTED)
        raise InvalidValueError("", {}, "", sentence=f"limits nothing: give {keys}")
    return limits


def limits_in(section: object) -> dict[str, Number]:
    """Return the limits of a section by resource. section: what has the fields."""
    limits = {name: RESOURCES[name].limit_of(section) for name in COUNTED}
    return {resource: limit for resource, limit in limits.items() if limit is not None}


def _limit(row: Resource) -> Any:
    """Return the type of a limit, in whose own type it is kept."""
    return Annotated[type(row.quantity.zero) | None, checked(row.quantity.limit)]


#: A limit for each resource that is counted: names and types are its row's.
_LIMITS: Final[dict[str, Any]] = {
    RESOURCES[name].limit_key: (_limit(RESOURCES[name]), None) for name in COUNTED
}
_Limits: Any = create_model(
    "BudgetLimits",
    __base__=Section,
    __doc__="What matching runs may use together in a window; absent is no limit.",
    **_LIMITS,
)


class BudgetConfig(Strict):
    """Limits on what all matching runs use together in a window."""

    name: Annotated[str, BeforeValidator(_name)]
    title: Annotated[str, BeforeValidator(_title)] = ""
    match: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_match)] = Field(default={})
    """Label to the values of which a run must have one; empty is every run."""
    per: Annotated[tuple[str, ...], BeforeValidator(_per)] = ()
    window: Annotated[InstanceOf[Window], BeforeValidator(windows.window)]
    limits: Annotated[_Limits, AfterValidator(_some_limit)]
    warning_threshold: Annotated[float | None, checked(validation.ratio)] = DEFAULT_THRESHOLD
    weights: Annotated[dict[str, int], BeforeValidator(_weights)] = Field(default={})
    """Of the kinds of tokens, in thousandths."""
    when_low: Annotated[WhenLow, _one_of(WhenLow)] = WhenLow.STOP
    mode: Annotated[Mode, _one_of(Mode)] = Mode.ENFORCE
    carry_over: Annotated[float, BeforeValidator(_carry_over)] = 0.0
    carry_overrun: YesOrNo = False
    groups_max: Annotated[int, BeforeValidator(_groups_max)] = DEFAULT_GROUPS_MAX
    backfill: YesOrNo = False

    @model_validator(mode="after")
    def _keys_fit_one_another(self) -> BudgetConfig:
        if self.weights and self.limits.max_tokens is None:
            raise RefusedKey(
                ("weights",),
                "say what a token counts towards max_tokens, and limits has none: add it, or "
                "leave weights out",
            )
        for key in ("carry_over", "carry_overrun"):
            if getattr(self, key) and self.window.kind not in _WITH_RESET:
                raise RefusedKey(
                    (key,),
                    f"needs a next window, and a window of {self.window.kind} is never reset: "
                    "leave it out, or choose a window with every",
                )
        return self

    @property
    def budget(self) -> Budget:
        """What it describes."""
        threshold = self.warning_threshold
        return Budget(
            name=self.name,
            window=self.window,
            limits=limits_in(self.limits),
            match=self.match,
            per=self.per,
            title=self.title,
            warning_threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
            weights=self.weights,
            when_low=self.when_low,
            mode=self.mode,
            carry_over=self.carry_over,
            carry_overrun=self.carry_overrun,
            groups_max=self.groups_max,
            backfill=self.backfill,
        )


def none_is_empty(value: object) -> object:
    """Take ``budgets:`` with nothing below it for none."""
    return () if value is None else value


def names_differ(budgets: tuple[BudgetConfig, ...]) -> tuple[BudgetConfig, ...]:
    """Refuse two budgets of one name."""
    first: dict[str, int] = {}
    for index, each in enumerate(budgets):
        if first.setdefault(each.name, index) != index:
            sentence = f"{each.name!r} is the name of budgets[{first[each.name]}], too; a name is"
            raise RefusedKey((index, "name"), f"{sentence} what one budget is known by")
    return budgets


def unfit_for(budgets: tuple[BudgetConfig, ...], source: SourceConfig) -> RefusedKey | None:
    """Return what is wrong with the first budget that the source cannot serve."""
    interval = source.interval
    for index, each in enumerate(budgets):
        length = _length(each.window)
        if length < _READINGS * interval:
            return RefusedKey(
                ("budgets", index, "window"),
                f"of {length:g} s is shorter than the data can show: {source.kind} is read every "
                f"{interval:g} s; give a window of at least {_READINGS * interval:g} s, or a "
                "shorter interval",
            )
        if each.backfill and source.prometheus is None:
            return RefusedKey(
                ("budgets", index, "backfill"),
                "needs a history to read from: only source.prometheus has one",
            )
    return None


def _length(window: Window) -> float:
    """Return how many seconds a window lasts at least; infinity for one that does not end."""
    if window.kind is WindowKind.CALENDAR:
        return windows.SHORTEST[window.every]
    return window.seconds or math.inf


Budgets = Annotated[
    tuple[BudgetConfig, ...], BeforeValidator(none_is_empty), AfterValidator(names_differ)
]
ScopeLabels = Annotated[tuple[str, ...], BeforeValidator(scope_labels)]
