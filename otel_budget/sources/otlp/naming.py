"""OTLP's names, as Prometheus and the OpenTelemetry Collector write them.

The rules are those of OpenTelemetry's "Prometheus and OpenMetrics compatibility": what no name may
have becomes ``_``, the unit goes to the end if it is not there yet, a sum that only grows ends in
``_total``, a gauge of unit 1 in ``_ratio``. Both sides can be set to leave the unit and the type
out, so presets list several spellings: the one that somebody knows is taken.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from otel_budget.sources.otlp.messages import GAUGE, HISTOGRAM, SUM

if TYPE_CHECKING:
    from collections.abc import Container

_TOTAL: Final = "_total"
_NOT_A_NAME: Final = re.compile(r"[^A-Za-z0-9_:]+")
_NOT_A_LABEL: Final = re.compile(r"[^A-Za-z0-9_]")
_ANNOTATION: Final = re.compile(r"\{[^}]*\}")
#: UCUM's units to Prometheus's words, as both have them.
_UNITS: Final = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds",
    "us": "microseconds", "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes",
    "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tibibytes", "KBy": "kilobytes",
    "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes", "kBy": "kilobytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams",
    "Cel": "celsius", "Hz": "hertz", "%": "percent", "1": "",
}  # fmt: skip
_PER: Final = {
    "s": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day", "w": "week",
    "mo": "month", "y": "year",
}  # fmt: skip


def known_name(
    name: str, unit: str, kind: str, *, monotonic: bool, known: Container[str]
) -> str | None:
    """Return the spelling of a sum or gauge that is known; None if none is."""
    for spelling in spellings(name, unit, kind, monotonic=monotonic):
        if spelling in known:
            return spelling
    return None


def known_names(name: str, unit: str, known: Container[str]) -> tuple[str | None, str | None]:
    """Return the spellings that are known of a histogram's, or summary's, sum and count."""
    bases = spellings(name, unit, HISTOGRAM, monotonic=False)
    found = (
        next((spelling for base in bases if (spelling := base + end) in known), None)
        for end in ("_sum", "_count")
    )
    total, count = found
    return total, count


@lru_cache(maxsize=4096)
def spellings(name: str, unit: str, kind: str, *, monotonic: bool) -> tuple[str, ...]:
    """Return a metric's names, the full one first; of a histogram without ``_sum``."""
    plain = _NOT_A_NAME.sub("_", name).strip("_")
    if plain[:1].isdigit():
        plain = f"_{plain}"
    counter = kind == SUM and monotonic
    base = plain.removesuffix(_TOTAL) if counter else plain
    word = "ratio" if kind == GAUGE and unit == "1" else _unit(unit)
    with_unit = base if not word or _ends_in(base, word) else f"{base}_{word}"
    ends = (_TOTAL, "") if counter else ("",)
    found = [stem + end for end in ends for stem in (with_unit, base)]
    return tuple(dict.fromkeys((*found, plain)))


@lru_cache(maxsize=4096)
def label(name: str) -> str:
    """Return an attribute's name as a label's."""
    plain = _NOT_A_LABEL.sub("_", name)
    return f"key_{plain}" if plain[:1].isdigit() else plain


def _unit(unit: str) -> str:
    """Return a unit's word; empty if it has none, as one in braces."""
    main, _, per = (_ANNOTATION.sub("", part).strip() for part in unit.partition("/"))
    word = _UNITS.get(main, _plain(main))
    if not per:
        return word
    return f"{word}_per_{_PER.get(per, _plain(per))}".strip("_")


def _plain(unit: str) -> str:
    return _NOT_A_LABEL.sub("_", unit).strip("_")


def _ends_in(name: str, word: str) -> bool:
    return name == word or name.endswith(f"_{word}")
