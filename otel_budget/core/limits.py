"""What a run may use.

Defaults stand here and nowhere else. Whether a use is ok, approaching or exceeded is not decided
here: that is policy.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from otel_budget.core import validation
from otel_budget.core.resources import RESOURCES
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    #: What an amount may be given as; as a field it is a Decimal.
    Money: TypeAlias = Decimal | float

DEFAULT_THRESHOLD = 0.80
IGNORE, ESTIMATE, STOP = "ignore", "estimate", "stop"


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """The largest use of each resource, and where warning begins. None is unlimited.

    What is not given has its default, an hour, a million tokens and a thousand calls among them;
    ``ResourceLimits.only`` limits nothing but what it is given.
    """

    max_duration_seconds: float | None = 3600
    """Wall-clock seconds since the run began, downtime included."""
    max_tokens: int | None = 1_000_000
    """Input and output tokens together; cached and reasoning tokens are inside them."""
    max_api_calls: int | None = 1000
    """Calls to a model's API, failed ones included."""
    max_cost_usd: Decimal | None = None
    """US dollars; a float is taken as its shortest decimal, so 0.1 is exactly 0.1."""
    checkpoint_interval: float = 300
    """Seconds between automatic checkpoints, above 0."""
    duration_warning_threshold: float = DEFAULT_THRESHOLD
    """Share of the limit, above 0 and at most 1, from which the duration is approaching it."""
    token_warning_threshold: float = DEFAULT_THRESHOLD
    """The same for tokens."""
    api_call_warning_threshold: float = DEFAULT_THRESHOLD
    """The same for API calls."""
    cost_warning_threshold: float = DEFAULT_THRESHOLD
    """The same for cost."""
    completion_threshold: float = DEFAULT_THRESHOLD
    """Progress, above 0 and at most 1, from which an approaching run may finish."""
    on_unpriced: Literal["ignore", "stop"] = "ignore"
    """What a call without a known price does under a limit on cost."""
    on_unknown_usage: Literal["ignore", "estimate", "stop"] = "ignore"
    """What a call without known tokens does: ``estimate`` counts the run's own mean for its
    model; ``stop`` applies under a limit on tokens or cost."""
    max_active_seconds: float | None = None
    """Seconds the run is active, without pauses and downtime: for runs that are resumed."""
    active_duration_warning_threshold: float = DEFAULT_THRESHOLD
    """Share of it from which the active time is approaching the limit."""
    max_tool_calls: int | None = None
    """Calls of tools, failed ones included, as far as they are recorded."""
    tool_call_warning_threshold: float = DEFAULT_THRESHOLD
    """Share of it from which the calls of tools are approaching the limit."""
    wrap_up_calls: int = 0
    """Calls that are kept back for the end: once no more than these would fit after one further
    call, the run is told to stop and wrap up."""

    if TYPE_CHECKING:
        # A caller may write more than the fields hold: 5 for an amount, 1e6 for a count.
        def __init__(  # noqa: PLR0917 - the order of the fields
            self,
            max_duration_seconds: float | None = 3600,
            max_tokens: float | None = 1_000_000,
            max_api_calls: float | None = 1000,
            max_cost_usd: Money | None = None,
            checkpoint_interval: float = 300,
            duration_warning_threshold: float = DEFAULT_THRESHOLD,
            token_warning_threshold: float = DEFAULT_THRESHOLD,
            api_call_warning_threshold: float = DEFAULT_THRESHOLD,
            cost_warning_threshold: float = DEFAULT_THRESHOLD,
            completion_threshold: float = DEFAULT_THRESHOLD,
            on_unpriced: Literal["ignore", "stop"] = "ignore",
            on_unknown_usage: Literal["ignore", "estimate", "stop"] = "ignore",
            max_active_seconds: float | None = None,
            active_duration_warning_threshold: float = DEFAULT_THRESHOLD,
            max_tool_calls: float | None = None,
            tool_call_warning_threshold: float = DEFAULT_THRESHOLD,
            wrap_up_calls: int = 0,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Refuse what is not a limit; bring numbers to one type each."""
        put = object.__setattr__  # the way a frozen dataclass normalises its own fields
        for row in RESOURCES.values():
            put(self, row.limit_key, row.quantity.limit(row.limit_key, row.limit_of(self)))
        interval = validation.seconds(
            "checkpoint_interval", self.checkpoint_interval, positive=True
        )
        put(self, "checkpoint_interval", interval)
        for key in THRESHOLD_KEYS:
            put(self, key, validation.ratio(key, getattr(self, key)))
        put(self, "wrap_up_calls", validation.count("wrap_up_calls", self.wrap_up_calls))
        validation.choice("on_unpriced", self.on_unpriced, (IGNORE, STOP))
        validation.choice("on_unknown_usage", self.on_unknown_usage, (IGNORE, ESTIMATE, STOP))

    @classmethod
    def only(cls, /, **limits: Any) -> ResourceLimits:
        """Limit what is given, by the field names, and nothing else.

        Thresholds and what is no limit take the defaults. Raises InvalidValueError as
        ``from_mapping`` does.
        """
        return cls.from_mapping({**dict.fromkeys(MAXIMA), **limits})

    @classmethod
    def from_section(cls, mapping: Mapping[str, object]) -> ResourceLimits:
        """Build limits from a section of a file: ``only: true`` leaves out the default limits.

        Raises InvalidValueError as ``from_mapping`` does.
        """
        values = dict(mapping)
        only = values.pop("only", False)
        if not isinstance(only, bool):
            raise InvalidValueError("only", only, "true or false")
        return cls.only(**values) if only else cls.from_mapping(values)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> ResourceLimits:
        """Build limits from a mapping with the field names as keys; absent keys take the defaults.

        Raises InvalidValueError for an unknown key or a value that is not allowed.
        """
        for key in mapping:
            if key not in LIMIT_KEYS:
                raise InvalidValueError(str(key), mapping[key], "the keys " + ", ".join(LIMIT_KEYS))
        return cls(**mapping)  # type: ignore[arg-type] # every value is checked in __post_init__

    @classmethod
    def from_yaml(cls, path: str | PathLike[str]) -> ResourceLimits:
        """Read the ``resource_limits:`` section of a YAML file; without one, all defaults.

        ``only: true`` in it is ``ResourceLimits.only``.

        Raises ConfigFileError for a file that cannot be read or is not YAML, InvalidValueError
        (with file and line) for an unknown key or a value that is not allowed.
        """
        from otel_budget.files.yaml_file import YamlFile

        file = YamlFile.read(path)
        file.build(refuse_misplaced)
        return file.section(SECTION).build(cls.from_section)

    def to_dict(self) -> dict[str, object]:
        """Return JSON types only; money is a string. ``from_dict`` is the exact inverse.

        Keys that came later are left out at their defaults, so that earlier versions can read it.
        """
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in _ADDED_KEYS or getattr(self, field.name) != field.default
        }
        return {key: str(v) if isinstance(v, Decimal) else v for key, v in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> ResourceLimits:
        """Build limits from what ``to_dict`` gave."""
        values = dict(data)
        for row in RESOURCES.values():
            if row.limit_key in values:
                key = row.limit_key
                values[key] = row.quantity.from_dict(key, values[key])
        return cls.from_mapping(values)


#: The section of a file, or of an orchestrator's configuration, that holds limits.
SECTION = "resource_limits"


def refuse_misplaced(mapping: Mapping[str, object]) -> None:
    """Refuse limits that stand outside their section: they would silently be the defaults."""
    import difflib  # only where a mapping is read: it takes its time

    for key, value in mapping.items():
        near = key != SECTION and difflib.get_close_matches(str(key), [SECTION], cutoff=0.8)
        if near:
            raise InvalidValueError(str(key), value, f"the section {SECTION}: did you mean that?")
        if key in LIMIT_KEYS:
            raise InvalidValueError(str(key), value, f"this key under {SECTION}:, not beside it")


LIMIT_KEYS = tuple(field.name for field in dataclasses.fields(ResourceLimits))
#: Of resources that came after the first four: unknown to versions before.
_ADDED_KEYS = frozenset(
    key for row in tuple(RESOURCES.values())[4:] for key in (row.limit_key, row.threshold_key)
) | {"wrap_up_calls"}
MAXIMA = tuple(row.limit_key for row in RESOURCES.values())
THRESHOLD_KEYS = tuple(key for key in LIMIT_KEYS if key.endswith("_threshold"))
