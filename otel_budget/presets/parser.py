"""From YAML data to a preset: strict, and plain about what is wrong and where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from otel_budget.core.resources import FURTHER
from otel_budget.errors import InvalidValueError
from otel_budget.presets.model import (
    CALLS,
    INPUT,
    OUTPUT,
    PARTS,
    REPEAT,
    ROLES,
    USUAL_RANK,
    USUAL_WHY,
    WHOLES,
    EventRule,
    MetricRule,
    Preset,
    Repeated,
    Skip,
)  # fmt: skip

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,39}")
_METRIC: Final = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ATTRIBUTE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,127}")
_FORMS: Final = {
    _METRIC: "a metric name as Prometheus has it",
    _LABEL: "a label name as Prometheus has it",
    _ATTRIBUTE: "a name as OpenTelemetry has it",
    None: "text as Prometheus has it",
}
#: What a log record can be one of.
_EACH: Final = (CALLS, *FURTHER, REPEAT)
_MOST_RANK: Final = 100

KeyPath = tuple[str | int, ...]


class PresetError(InvalidValueError):
    """Refuse a preset.

    at: the path of keys to what is wrong. known: for an unknown key, the keys there are.
    """

    def __init__(
        self, at: KeyPath, value: object, allowed: str, *, sentence: str = "",
        known: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.at, self.known = at, known
        super().__init__(".".join(map(str, at)), value, allowed, sentence=sentence)

    def below(self, *keys: str | int) -> PresetError:
        """Return the same refusal, of what is below these keys."""
        return PresetError(
            (*keys, *self.at), self.value, self.allowed, sentence=self.sentence, known=self.known
        )


def preset_from(name: str, mapping: object) -> Preset:
    """Build a preset out of what YAML gives. Raises PresetError for whatever is not allowed."""
    if _NAME.fullmatch(name) is None:
        raise PresetError((), name, "a name of 1 to 40 letters, digits and _")
    top = _Keys(
        mapping, (),
        ("title", "rank", "recognised_by", "session", "metrics", "events", "repeated_by", "skip",
         "notes", "labels"),
    )  # fmt: skip
    rules = tuple(_rule(item, at) for item, at in top.items("metrics"))
    events = tuple(_event(item, at) for item, at in top.items("events"))
    if rules or not events:
        _check_rules(rules, top.at("metrics"))
    elif not any(role in WHOLES for rule in events for role in rule.all_roles):
        raise PresetError(
            top.at("events"), None, "", sentence="count nothing: at least one of them must"
        )
    known = top.section("recognised_by", ("metrics", "labels"))
    session = top.section("session", ("labels", "nameless"))
    by_default = tuple(n for r in rules if set(r.all_roles) & {INPUT, OUTPUT} for n in r.names)
    return Preset(
        name=name,
        metrics=rules,
        title=top.text("title") or name,
        rank=_rank(top),
        recognised_by=known.names("metrics", _METRIC)
        or by_default
        or (rules[0].names if rules else ()),
        recognised_labels=known.names("labels", _LABEL),
        session_labels=session.names("labels", _LABEL),
        nameless=session.names("nameless"),
        repeated=_repeated(top),
        skip=tuple(_skip(item, at) for item, at in top.items("skip")),
        notes=_notes(top),
        events=events,
        owners=_owners(top),
    )


class _Keys:
    """A mapping that is taken apart strictly."""

    def __init__(self, mapping: object, path: KeyPath, known: tuple[str, ...]) -> None:
        if not isinstance(mapping, Mapping):
            raise PresetError(path, mapping, "a mapping of keys")
        for key in mapping:
            if key not in known:
                sentence = f"is not a key here; there are the keys {', '.join(known)}"
                raise PresetError((*path, str(key)), key, "", sentence=sentence, known=known)
        self._mapping, self._path = mapping, path

    def at(self, *keys: str | int) -> KeyPath:
        return (*self._path, *keys)

    def get(self, key: str) -> object:
        return self._mapping.get(key)

    def section(self, key: str, known: tuple[str, ...]) -> _Keys:
        given = self.get(key)
        return _Keys({} if given is None else given, self.at(key), known)

    def items(self, key: str) -> list[tuple[object, KeyPath]]:
        given = self.get(key)
        if given is None:
            given = []
        if not isinstance(given, list | tuple):
            raise PresetError(self.at(key), given, "a list")
        return [(item, self.at(key, index)) for index, item in enumerate(given)]

    def text(self, key: str) -> str:
        given = self.get(key)
        if given is not None and (not isinstance(given, str) or not given.isprintable()):
            raise PresetError(self.at(key), given, "text of one line")
        return given or ""

    def names(self, key: str, form: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """Return one text or a list of them; form: what each must be."""
        given = self.get(key)
        if given is None:
            return ()
        many = [(given, self.at(key))] if isinstance(given, str) else self.items(key)
        for name, at in many:
            if not isinstance(name, str) or (form is not None and form.fullmatch(name) is None):
                raise PresetError(at, name, f"{_FORMS[form]}, in quotes if need be")
        return tuple(str(name) for name, _ in many)

    def mapping(self, key: str) -> Mapping[object, object]:
        given = self.get(key)
        if given is not None and not isinstance(given, Mapping):
            raise PresetError(self.at(key), given, "a mapping of keys")
        return given or {}


def _rule(item: object, at: KeyPath) -> MetricRule:
    keys = _Keys(item, at, ("names", "counts", "label", "values", "family", "zero", "why", "gauge"))
    values: dict[str, tuple[str, ...]] = {}
    for value, roles in keys.mapping("values").items():
        if not isinstance(value, str):
            raise PresetError(keys.at("values", str(value)), value, "text, in quotes")
        values[value] = _roles(roles, keys.at("values", value))
    counts = _roles(keys.get("counts"), keys.at("counts")) if keys.get("counts") else ()
    label = keys.names("label", _LABEL)
    if bool(counts) == bool(label) or bool(label) != bool(values):
        sentence = "must say what it counts, either by counts or by label and values"
        raise PresetError(at, None, "", sentence=sentence)
    zero = keys.get("zero") or "0"
    if zero not in ("0", "unknown"):
        raise PresetError(keys.at("zero"), zero, "unknown, or nothing")
    gauge = keys.get("gauge") or False
    if not isinstance(gauge, bool):
        raise PresetError(keys.at("gauge"), gauge, "true or false")
    names = keys.names("names", _METRIC)
    if not names:
        raise PresetError(keys.at("names"), keys.get("names"), "at least one metric name")
    return MetricRule(
        names, counts, label, values, keys.text("family"), str(zero), keys.text("why"), gauge
    )


def _event(item: object, at: KeyPath) -> EventRule:
    keys = _Keys(
        item, at, ("names", "counts", "amounts", "where", "present", "unless", "id", "why")
    )
    names = keys.names("names", _ATTRIBUTE)
    if not names:
        raise PresetError(keys.at("names"), keys.get("names"), "at least one name of an event")
    counts = _roles(keys.get("counts"), keys.at("counts")) if keys.get("counts") else ()
    if len(counts) > 1 or any(role not in _EACH for role in counts):
        raise PresetError(keys.at("counts"), keys.get("counts"), f"one of {', '.join(_EACH)}")
    amounts: dict[str, tuple[str, ...]] = {}
    for attribute, roles in keys.mapping("amounts").items():
        here = keys.at("amounts", str(attribute))
        if not isinstance(attribute, str) or _ATTRIBUTE.fullmatch(attribute) is None:
            raise PresetError(here, attribute, f"{_FORMS[_ATTRIBUTE]}, in quotes if need be")
        amounts[attribute] = _roles(roles, here)
    if bool(amounts) + bool(counts) == 0 or (amounts and counts == (REPEAT,)):
        sentence = "must say what it counts, by counts, by amounts or by both"
        raise PresetError(at, None, "", sentence=sentence)
    return EventRule(
        names, counts, amounts, _values(keys, "where"), keys.names("present", _ATTRIBUTE),
        _values(keys, "unless"), keys.names("id", _ATTRIBUTE), keys.text("why"),
    )  # fmt: skip


def _values(keys: _Keys, key: str) -> dict[str, tuple[str, ...]]:
    """Return attributes with the values that are named for each."""
    found: dict[str, tuple[str, ...]] = {}
    for attribute, values in keys.mapping(key).items():
        many: list[object] = list(values) if isinstance(values, list | tuple) else [values]
        if not isinstance(attribute, str) or not many or any(type(v) is not str for v in many):
            raise PresetError(keys.at(key, str(attribute)), values, "values as text, in quotes")
        found[attribute] = tuple(map(str, many))
    return found


def _roles(given: object, at: KeyPath) -> tuple[str, ...]:
    roles = [given] if isinstance(given, str) else given
    if not isinstance(roles, list | tuple) or not roles or any(r not in ROLES for r in roles):
        raise PresetError(at, given, f"one or several of {', '.join(ROLES)}")
    if sum(role in WHOLES for role in roles) > 1 or (REPEAT in roles and len(roles) > 1):
        raise PresetError(at, given, f"at most one of {', '.join(WHOLES)}; repeat goes alone")
    for role in roles:
        whole = PARTS.get(role)
        if len(roles) > 1 and whole is not None and whole not in roles:
            raise PresetError(at, given, f"{role} beside {whole}, which it is a part of, or alone")
    return tuple(str(role) for role in roles)


def _check_rules(rules: tuple[MetricRule, ...], at: KeyPath) -> None:
    if not any(rule.may_count for rule in rules):
        raise PresetError(at, None, "", sentence="count nothing: at least one of them must")
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        for name in rule.names:
            if name in seen:
                raise PresetError((*at, index, "names"), name, "a name that is in no other rule")
            seen.add(name)


def _rank(top: _Keys) -> int:
    given = top.get("rank")
    if given is None:
        return USUAL_RANK
    if type(given) is not int or not 0 <= given <= _MOST_RANK:
        raise PresetError(top.at("rank"), given, "a whole number from 0 to 100")
    return given


def _repeated(top: _Keys) -> Repeated | None:
    if top.get("repeated_by") is None:
        return None
    keys = top.section("repeated_by", ("labels", "per", "same", "process"))
    same = {str(other): str(word) for other, word in keys.mapping("same").items()}
    names = (keys.names(key, _LABEL) for key in ("labels", "per", "process"))
    labels, per, process = names
    return Repeated(labels, per, same, process)


def _skip(item: object, at: KeyPath) -> Skip:
    keys = _Keys(item, at, ("label", "values", "why"))
    label, values = keys.names("label", _LABEL), keys.names("values")
    if len(label) != 1 or not values:
        raise PresetError(at, None, "", sentence="needs one label, and values of it")
    return Skip(label[0], values, keys.text("why") or USUAL_WHY)


def _owners(top: _Keys) -> dict[str, tuple[str, ...]]:
    """Return the labels that say whose a run is, each with the spellings of the program's own."""
    for name in top.mapping("labels"):
        if not isinstance(name, str) or _LABEL.fullmatch(name) is None:
            raise PresetError(top.at("labels", str(name)), name, _FORMS[_LABEL])
    names = tuple(map(str, top.mapping("labels")))
    keys = top.section("labels", names)
    owners = {name: keys.names(name, _LABEL) for name in names}
    for name, spellings in owners.items():
        if not spellings:
            raise PresetError(keys.at(name), None, _FORMS[_LABEL])
    return owners


def _notes(top: _Keys) -> dict[str, str]:
    keys = top.section("notes", ROLES)
    return {role: keys.text(role) for role in ROLES if keys.get(role) is not None}
