"""Ceilings: limits for every run on top of its own, given as they are or suggested within bounds.

A resource has one source of its ceiling: a number, or suggestions between ``at_least`` and
``at_most``. What is suggested never loosens ``at_most``, which holds from the first run on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BeforeValidator, create_model, model_validator

from otel_budget.config.section import RefusedKey, Section
from otel_budget.config.sources import ADD
from otel_budget.config.values import YesOrNo, checked
from otel_budget.core import validation
from otel_budget.core.limits import IGNORE, STOP
from otel_budget.core.resources import RESOURCES, Resource
from otel_budget.policy.suggestion import SUGGESTED

if TYPE_CHECKING:
    from collections.abc import Iterator

RESET: Final = "reset"
FROM, AT_MOST, AT_LEAST = "from", "at_most", "at_least"
Ratio = Annotated[float | None, checked(validation.ratio)]


def _ignore_or_stop(value: object) -> str:
    """Return what to do about unknown usage; only a run itself can estimate it."""
    return validation.choice("", value, (IGNORE, STOP))


IgnoreOrStop = Annotated[Literal["ignore", "stop"], BeforeValidator(_ignore_or_stop)]


def _reset_or_add(value: object) -> str:
    return validation.choice("", value, (RESET, ADD))


ResetOrAdd = Annotated[Literal["reset", "add"], BeforeValidator(_reset_or_add)]


def _suggested(value: object) -> str | None:
    return None if value is None else validation.choice("", value, (SUGGESTED,))


Origin = Annotated[Literal["suggested"] | None, BeforeValidator(_suggested)]


class _Ceilings(Section):
    """Limits for every run on top of its own; absent or null is no ceiling."""

    completion_threshold: Ratio = None
    on_unpriced: IgnoreOrStop = "ignore"
    on_unknown_usage: IgnoreOrStop = "ignore"
    on_restart: ResetOrAdd = "reset"
    """Whether the usage of a run that did not complete is added to the next one of its id, if that
    begins within ten minutes."""
    shadow: YesOrNo = False
    """Whether all of this section is judged and shown, and stops nobody."""

    @model_validator(mode="after")
    def _one_source_for_each_ceiling(self) -> _Ceilings:
        refusal = next(_contradictions(self), None)
        if refusal is not None:
            raise refusal
        return self


def _contradictions(config: Any) -> Iterator[RefusedKey]:
    """Find what is wrong between keys, those of suggestions above all."""
    if config.shadow and config.on_restart == ADD:
        sentence = f"cannot go with on_restart: {ADD}, by which a run's own limits hold for the sum"
        yield RefusedKey(("shadow",), f"{sentence}: leave out one of the two")
    most, least = getattr(config, AT_MOST), getattr(config, AT_LEAST)
    if getattr(config, FROM) is None:
        for key, given in ((AT_MOST, most), (AT_LEAST, least)):
            if given is not None:
                yield RefusedKey(
                    (key,), f"is a bound of suggestions: give {FROM}: {SUGGESTED}, too"
                )
        return
    rows = RESOURCES.values()
    if most is None or all(row.limit_of(most) is None for row in rows):
        sentence = "is missing: name at least one limit that holds before anything is suggested"
        yield RefusedKey((AT_MOST,), f"{sentence}, such as max_tokens")
        return
    for row in rows:
        upper, lower = row.limit_of(most), None if least is None else row.limit_of(least)
        if upper is not None and row.limit_of(config) is not None:
            sentence = f"is given here and in {AT_MOST}: leave it out here, or there"
            yield RefusedKey((row.limit_key,), sentence)
        if lower is not None and upper is None:
            sentence = f"has no {AT_MOST}: a limit is suggested where both ends are known"
            yield RefusedKey((AT_LEAST, row.limit_key), sentence)
        elif lower is not None and lower > upper:
            sentence = f"is {lower}, above {AT_MOST}, which is {upper}"
            yield RefusedKey((AT_LEAST, row.limit_key), sentence)


def _ceiling(row: Resource) -> Any:
    """Return the type of a ceiling, in whose own type it is kept."""
    return Annotated[type(row.quantity.zero) | None, checked(row.quantity.limit)]


#: A limit for each resource there is: names and types are its row's.
_LIMITS: Final[dict[str, Any]] = {
    row.limit_key: (_ceiling(row), None) for row in RESOURCES.values()
}
_Amounts: Any = create_model(
    "Amounts", __base__=Section, __doc__="Amounts of resources; absent is no bound.", **_LIMITS
)

if TYPE_CHECKING:

    class CeilingsConfig(_Ceilings):
        """Has a limit and a threshold for each resource, too; and what they are suggested from."""

        def __getattr__(self, item: str) -> Any: ...

else:
    CeilingsConfig = create_model(
        "CeilingsConfig",
        __base__=_Ceilings,
        __doc__=_Ceilings.__doc__,
        **_LIMITS,
        **{row.threshold_key: (Ratio, None) for row in RESOURCES.values()},
        **{
            FROM: (Origin, None),
            AT_MOST: (_Amounts | None, None),
            AT_LEAST: (_Amounts | None, None),
        },
    )
