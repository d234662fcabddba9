"""What of another program's metrics counts, and as what: data, checked whole before it is used.

The rules:
- Tokens are input and output. Parts (cached, cache_write, reasoning) are shown, never added: a
  label value that is both a whole and a part of the sum says so: ``[input, cached]``.
- What repeats something else (a total, another spelling, another scope) counts once.
- A label value that is in no rule is unknown, and added to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_budget import semconv
from otel_budget.core.resources import FURTHER

INPUT: Final = "input"
OUTPUT: Final = "output"
CACHED: Final = "cached"
CACHE_WRITE: Final = "cache_write"
REASONING: Final = "reasoning"
TOKENS: Final = "tokens"
CALLS: Final = "calls"
COST_USD: Final = "cost_usd"
REPEAT: Final = "repeat"

#: Part to the whole it is inside of.
PARTS: Final = {CACHED: INPUT, CACHE_WRITE: INPUT, REASONING: OUTPUT}
#: Role to the kind of tokens it is read as (core/token_kinds.py).
KIND_OF: Final = {
    INPUT: "input", CACHED: "cache_read", CACHE_WRITE: "cache_write",
    OUTPUT: "output", REASONING: "reasoning",
}  # fmt: skip
#: What a series can count as; one of WHOLES at most, since these are what is added up.
WHOLES: Final = (INPUT, OUTPUT, TOKENS, CALLS, COST_USD, *FURTHER)
ROLES: Final = (*WHOLES, *PARTS, REPEAT)

#: Whole to the resource that it is of.
RESOURCE_OF: Final = {
    INPUT: semconv.TOKENS, OUTPUT: semconv.TOKENS, TOKENS: semconv.TOKENS,
    CALLS: semconv.API_CALLS, COST_USD: semconv.COST, **{name: name for name in FURTHER},
}  # fmt: skip
#: The rank of a preset that names none.
USUAL_RANK: Final = 50
#: Why a sample is skipped, where the preset does not say.
USUAL_WHY: Final = "repeats what is counted elsewhere"


@dataclass(frozen=True, slots=True)
class MetricRule:
    """One metric in all its spellings, and what its samples count as."""

    names: tuple[str, ...]
    """Spellings, the usual one first. Where a run has several, the one with most counts."""
    counts: tuple[str, ...] = ()
    """Roles of every sample; empty if a label says it."""
    label: tuple[str, ...] = ()
    """Spellings of the label that says it."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Value of that label to roles."""
    family: str = ""
    """Metrics of different families say the same thing again: one family counts."""
    zero: str = "0"
    """``unknown``: a 0 means that the program was not told how to count this."""
    why: str = ""
    """For people: why its samples do not count, if they do not."""
    gauge: bool = False
    """True if it is exported as a gauge, though it only grows."""

    def roles(self, labels: Mapping[str, str]) -> tuple[str, ...] | None:
        """Return what a sample counts as; None if its label has an unknown value."""
        return self.counts or self.values.get(first_of(self.label, labels)[1])

    @property
    def all_roles(self) -> tuple[str, ...]:
        """Every role a sample of it may have."""
        return self.counts + tuple(role for roles in self.values.values() for role in roles)

    @property
    def may_count(self) -> bool:
        """False if all of it repeats something."""
        return any(role in WHOLES for role in self.all_roles)


@dataclass(frozen=True, slots=True)
class EventRule:
    """One kind of log record of a program that pushes them, and what each counts as."""

    names: tuple[str, ...]
    """What the event may be called: by its attribute ``event.name``, its field, or its body."""
    counts: tuple[str, ...] = ()
    """What each record is one of: ``calls``, ``tool_calls``. ``repeat``: it counts nothing, and
    shows that what it belongs to is told by log records."""
    amounts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Attribute that holds an amount to its roles."""
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Attribute to values: a record counts if each has one of its values."""
    present: tuple[str, ...] = ()
    """Attributes without which a record does not count."""
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Attribute to values: a record with one of them does not count."""
    id: tuple[str, ...] = ()
    """Attributes that together name what is told of: it counts once. Empty: each record counts."""
    why: str = ""
    """For people: why it does not count, if it does not."""

    @property
    def is_counted(self) -> bool:
        """False if its records count nothing."""
        return self.counts != (REPEAT,)

    def applies(self, attributes: Mapping[str, object]) -> bool:
        """Tell whether a record with these attributes counts by this rule."""
        return (
            all(name in attributes for name in self.present)
            and all(word(attributes.get(n)) in values for n, values in self.where.items())
            and not any(word(attributes.get(n)) in values for n, values in self.unless.items())
        )

    @property
    def attributes_read(self) -> tuple[str, ...]:
        """The attributes that are looked at, besides those that name the run."""
        return (*self.amounts, *self.where, *self.present, *self.unless, *self.id)

    @property
    def all_roles(self) -> tuple[str, ...]:
        """Every role a record of it may have."""
        return self.counts + tuple(role for roles in self.amounts.values() for role in roles)

    @property
    def token_roles(self) -> tuple[str, ...]:
        """The roles that add up to the tokens that are judged."""
        return (TOKENS,) if TOKENS in self.all_roles else (INPUT, OUTPUT)


@dataclass(frozen=True, slots=True)
class Skip:
    """Samples that say again what others say, by a label."""

    label: str
    values: tuple[str, ...]
    why: str = USUAL_WHY


@dataclass(frozen=True, slots=True)
class Repeated:
    """How several emitters in one process repeat each other's counts."""

    labels: tuple[str, ...] = ()
    """Labels that name the emitter, such as the instrumentation scope."""
    per: tuple[str, ...] = ()
    """Spellings of the label within which one emitter counts, such as the provider."""
    same: Mapping[str, str] = field(default_factory=dict)
    """Other words for a value of it, in lower case."""
    process: tuple[str, ...] = ()
    """Labels that tell processes on one page apart: what these count is no repetition."""


@dataclass(frozen=True, slots=True)
class Preset:
    """How to read the metrics of one kind of program."""

    name: str
    metrics: tuple[MetricRule, ...]
    title: str = ""
    rank: int = USUAL_RANK
    """Where several presets fit a page, the highest counts; 0 to 100."""
    recognised_by: tuple[str, ...] = ()
    """Metrics, of which one on a page is enough."""
    recognised_labels: tuple[str, ...] = ()
    """If any are named, that metric must have one of these labels."""
    session_labels: tuple[str, ...] = ()
    """Spellings of the label that names the run; without one, a target is one run."""
    nameless: tuple[str, ...] = ()
    """Values of it that name no run, besides the empty one."""
    repeated: Repeated | None = None
    skip: tuple[Skip, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    """Role to what to know about it, such as why this program cannot say it."""
    events: tuple[EventRule, ...] = ()
    """What its log records count as, where it pushes them."""
    owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Label that says whose a run is, to the spellings of the program's label for it."""

    def owner_labels(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return, of labels that say whose a run is, what each may be called, in order.

        By its own name first: whoever starts the program may give it that.
        """
        return {name: (name, *self.owners.get(name, ())) for name in names}

    @property
    def names(self) -> tuple[str, ...]:
        """Every spelling of every metric that is looked at."""
        return tuple(name for rule in self.metrics for name in rule.names)

    @property
    def counted(self) -> tuple[str, ...]:
        """The spellings of those that may count as tokens, calls or cost."""
        return tuple(n for rule in self.metrics if rule.may_count for n in rule.names)

    @property
    def labels_read(self) -> frozenset[str]:
        """The labels that tell runs apart, or what a sample counts as."""
        by_rule = [label for rule in self.metrics for label in rule.label]
        return frozenset((*self.session_labels, *by_rule))

    @property
    def measured(self) -> frozenset[str]:
        """The resources that its metrics can say anything of, besides the duration."""
        roles = {role for rule in self.metrics for role in rule.all_roles}
        return frozenset(RESOURCE_OF[role] for role in roles & RESOURCE_OF.keys())

    @property
    def measured_by_events(self) -> frozenset[str]:
        """The resources that its log records can say anything of, where it pushes them."""
        roles = {role for rule in self.events for role in rule.all_roles}
        return frozenset(RESOURCE_OF[role] for role in roles & RESOURCE_OF.keys())

    def why_unmeasured(self, resource: str) -> str:
        """Return why its metrics say nothing of a resource, for people."""
        notes = (note for role, note in self.notes.items() if RESOURCE_OF.get(role) == resource)
        why = next(notes, "its metrics do not show it")
        pushed = resource in self.measured_by_events
        return f"{why}; pushed to source.otlp, its log events show it" if pushed else why

    @property
    def token_roles(self) -> tuple[str, ...]:
        """The roles that add up to the tokens that are judged."""
        roles = {role for rule in self.metrics for role in rule.all_roles}
        return (TOKENS,) if TOKENS in roles else (INPUT, OUTPUT)

    @property
    def summed(self) -> bool:
        """True if some series may repeat others, so that only sums can be compared."""
        return self.repeated is not None or any(rule.family for rule in self.metrics)


def word(value: object) -> str:
    """Return an attribute's value as a preset writes it; empty if it is not there."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def first_of(spellings: tuple[str, ...], labels: Mapping[str, str]) -> tuple[str, str]:
    """Return the first of the labels that is there, and its value; empty texts if none is."""
    for label in spellings:
        value = labels.get(label, "")
        if value:
            return label, value
    return "", ""
