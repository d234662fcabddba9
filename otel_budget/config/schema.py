"""The sidecar's configuration: every key and its default (design, section 6)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from otel_budget import semconv
from otel_budget.config import values
from otel_budget.config.listen import ListenConfig
from otel_budget.config.otlp import OtlpConfig
from otel_budget.config.section import Section, Strict
from otel_budget.config.values import (
    FilePath,
    FilePattern,
    Headers,
    LabelName,
    Matcher,
    OwnPresets,
    PositiveInt,
    PresetChoice,
    Seconds,
    SecondsOrAuto,
    SessionPattern,
    Size,
    TargetMatcher,
    Url,
    YesOrNo,
    checked,
)
from otel_budget.core import validation
from otel_budget.core.limits import IGNORE, STOP
from otel_budget.core.reasons import Action
from otel_budget.core.resources import RESOURCES, Resource
from otel_budget.errors import InvalidValueError
from otel_budget.presets.model import Preset

DEFAULT_STORAGE: Final = "otel-budget.db"
ADD: Final = "add"
REFUSE: Final = "refuse"
RESET: Final = "reset"
_REVISION_DIGITS: Final = 12

Ratio = Annotated[float | None, checked(validation.ratio)]


class TargetConfig(Strict):
    """One endpoint to scrape; its URL alone may be given instead of the mapping."""

    url: Url
    preset: PresetChoice = None
    """None: as for the scrape as a whole."""
    bearer_token_file: FilePath | None = None
    ca_file: FilePath | None = None
    headers: Headers = Field(default={}, repr=False)  # may hold a credential
    honor_timestamps: YesOrNo = True
    """As in Prometheus: a sample with a timestamp is of that time, not of the scrape."""
    sessions: tuple[SessionPattern, ...] = ()
    """Session ids that belong to it: what other targets say of them is refused."""

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, data: Any) -> Any:
        return {"url": data} if isinstance(data, str) else data


def _add_or_refuse(value: object) -> str:
    return validation.choice("", value, (ADD, REFUSE))


AddOrRefuse = Annotated[Literal["add", "refuse"], BeforeValidator(_add_or_refuse)]


class ScrapeConfig(Strict):
    """Ask the agents' own endpoints."""

    targets: tuple[TargetConfig, ...] = ()
    file_sd: tuple[FilePattern, ...] = ()
    preset: PresetChoice = None
    """Of targets without one of their own. None: what they show is recognised."""
    interval: Seconds = 1.0
    timeout: SecondsOrAuto = None
    """At most the interval. None is auto: a second, or the interval if that is shorter."""
    body_size_limit: Size = 50_000_000
    sample_limit: PositiveInt = 500_000
    label_limit: PositiveInt = 64
    label_name_length_limit: PositiveInt = 256
    label_value_length_limit: PositiveInt = 2048
    session_limit: PositiveInt = 10_000
    """Runs known at one target; others are refused, and counted, until one of them is forgotten."""
    on_second_target: AddOrRefuse = "add"
    """Whether a second target adds to a run that another one still shows, or is refused."""
    _presets_by_name: dict[str, Preset] = PrivateAttr(default_factory=dict)

    @field_validator("timeout", mode="after")
    @classmethod
    def _within_the_interval(cls, timeout: float | None, info: ValidationInfo) -> float | None:
        interval = info.data.get("interval")  # absent if it was refused
        if timeout is not None and interval is not None and timeout > interval:
            sentence = (
                f"{timeout:g} s is longer than the interval of {interval:g} s, and a target is "
                "asked again only once it has answered; give a timeout of at most the interval, or "
                "a longer interval"
            )
            raise InvalidValueError("", timeout, f"at most {interval:g} s", sentence=sentence)
        return timeout

    @model_validator(mode="after")
    def _some_target(self) -> ScrapeConfig:
        if not self.targets and not self.file_sd:
            raise InvalidValueError(
                "", None, "at least one of the two", sentence="give targets, or file_sd, or both"
            )
        return self

    @model_validator(mode="after")
    def _keep_presets_by_name(self, info: ValidationInfo) -> ScrapeConfig:
        self._presets_by_name = values.presets_by_name(info)
        return self

    @property
    def presets_by_name(self) -> Mapping[str, Preset]:
        """Every preset that a file of ``file_sd`` may name."""
        return self._presets_by_name

    def describe(self) -> str:
        """Return in a few words where samples come from."""
        places = [f"{target.url}{_read_by(target.preset)}" for target in self.targets]
        where = ", ".join([*places, *self.file_sd])
        return f"scrape of {where}{_read_by(self.preset)} every {self.interval:g} s"

    def bound(self) -> list[tuple[tuple[str, ...], str]]:
        """Return patterns of session ids, and in words the targets they are bound to."""
        return [(target.sessions, target.url) for target in self.targets if target.sessions]

    def presets(self) -> list[Preset]:
        """Return the presets by which other programs are read."""
        given = [self.preset, *(target.preset for target in self.targets)]
        return [preset for preset in given if values.is_foreign(preset)]


class BindingConfig(Strict):
    """Session ids that belong to the targets whose labels match."""

    sessions: Annotated[tuple[SessionPattern, ...], AfterValidator(values.some)]
    matchers: Annotated[tuple[TargetMatcher, ...], AfterValidator(values.some)]
    """Of the target's own labels, which no page can change."""


#: Labels that our own metrics cannot be read without.
_NEEDED_LABELS: Final = frozenset({semconv.SESSION_ID, semconv.RESOURCE, semconv.STATE})


class PrometheusConfig(Strict):
    """Ask a server that speaks the Prometheus query API."""

    url: Url
    interval: Seconds = 5.0
    timeout: Seconds = 10.0
    body_size_limit: Size = 200_000_000
    """Of one answer, which has all runs."""
    matchers: tuple[Matcher, ...] = ()
    replica_labels: tuple[LabelName, ...] = semconv.REPLICA_LABELS
    """Series that differ in these labels alone are copies of each other."""
    session_limit: PositiveInt = 10_000
    """As for a scrape."""
    on_second_target: AddOrRefuse = "add"
    """As for a scrape."""
    bindings: tuple[BindingConfig, ...] = ()
    preset: PresetChoice = None
    bearer_token_file: FilePath | None = None
    ca_file: FilePath | None = None
    headers: Headers = Field(default={}, repr=False)  # may hold a credential

    @model_validator(mode="after")
    def _replica_labels_name_no_run(self) -> PrometheusConfig:
        needed = self.preset.labels_read if values.is_foreign(self.preset) else _NEEDED_LABELS
        wrong = [name for name in self.replica_labels if name in needed]
        if wrong:
            sentence = (
                f"replica_labels: {', '.join(wrong)} tells runs, or what is counted, apart; name "
                "labels of servers only"
            )
            raise InvalidValueError("", wrong, "labels of servers", sentence=sentence)
        return self

    def describe(self) -> str:
        """Return in a few words where samples come from."""
        matchers = "".join(f" {{{matcher}}}" for matcher in self.matchers)
        preset = _read_by(self.preset)
        return f"prometheus {self.url}{matchers}{preset} every {self.interval:g} s"

    def bound(self) -> list[tuple[tuple[str, ...], str]]:
        """Return patterns of session ids, and in words the targets they are bound to."""
        return [(each.sessions, "{" + ", ".join(each.matchers) + "}") for each in self.bindings]

    def presets(self) -> list[Preset]:
        """Return the presets by which other programs are read."""
        return [self.preset] if values.is_foreign(self.preset) else []


def _read_by(preset: Preset | None) -> str:
    return "" if preset is None else f" (preset {preset.name})"


class SourceConfig(Strict):
    """Where samples come from: the section of each source, by its name."""

    scrape: ScrapeConfig | None = None
    prometheus: PrometheusConfig | None = None
    otlp: OtlpConfig | None = None
    """Alone, or beside one of the others."""

    @model_validator(mode="before")
    @classmethod
    def _empty_is_a_receiver(cls, data: Any) -> Any:
        """Take ``otlp:`` with nothing below it for the receiver as it is by default."""
        if isinstance(data, dict) and "otlp" in data and data["otlp"] is None:
            return {**data, "otlp": {}}
        return data

    @model_validator(mode="after")
    def _some_source(self) -> SourceConfig:
        found = wrong_number_of_sources(dict(self))
        if found is not None:
            raise found
        return self

    @property
    def polled(self) -> ScrapeConfig | PrometheusConfig | None:
        """The section of the source that is asked; None if all is pushed."""
        return self.scrape or self.prometheus

    @property
    def kind(self) -> str:
        """The name of the source that is asked; else of the one that is pushed to."""
        return next(name for name, section in self if section is not None)

    @property
    def chosen(self) -> tuple[ScrapeConfig | PrometheusConfig | OtlpConfig, ...]:
        """The sections that are given, the one that is asked first."""
        return tuple(section for _, section in self if section is not None)

    @property
    def interval(self) -> float:
        """Seconds between two readings."""
        return self.chosen[0].interval

    def describe(self) -> str:
        """Return in a few words where samples come from."""
        return "; ".join(section.describe() for section in self.chosen)

    def bound(self) -> list[tuple[tuple[str, ...], str]]:
        """Return patterns of session ids, and in words the targets they are bound to."""
        return [] if self.polled is None else self.polled.bound()

    def presets(self) -> list[Preset]:
        """Return the presets by which other programs are read, those that are named."""
        pushed = () if self.otlp is None else self.otlp.presets or ()
        return [*([] if self.polled is None else self.polled.presets()), *pushed]

    @property
    def refuses_second_targets(self) -> bool:
        """True if a run that one target shows is refused at another one."""
        return self.polled is not None and self.polled.on_second_target == REFUSE


def wrong_number_of_sources(source: Mapping[str, object]) -> InvalidValueError | None:
    """Return what is wrong with a source section that has none, or both that ask; else None."""
    asked = [name for name in ("scrape", "prometheus") if source.get(name) is not None]
    if len(asked) == 1 or (not asked and "otlp" in source and source["otlp"] is not None):
        return None
    both = ", not both" if asked else ", or otlp"
    return InvalidValueError(
        "",
        asked,
        "one of the two, or otlp, or otlp beside one of them",
        sentence=f"give one of scrape and prometheus{both}",
    )


def _ignore_or_stop(value: object) -> str:
    """Return what to do about unknown usage; only a run itself can estimate it."""
    return validation.choice("", value, (IGNORE, STOP))


IgnoreOrStop = Annotated[Literal["ignore", "stop"], BeforeValidator(_ignore_or_stop)]


def _reset_or_add(value: object) -> str:
    return validation.choice("", value, (RESET, ADD))


ResetOrAdd = Annotated[Literal["reset", "add"], BeforeValidator(_reset_or_add)]


class _Ceilings(Section):
    """Limits for every run on top of its own; absent or null is no ceiling."""

    completion_threshold: Ratio = None
    on_unpriced: IgnoreOrStop = "ignore"
    on_unknown_usage: IgnoreOrStop = "ignore"
    on_restart: ResetOrAdd = "reset"
    """Whether the usage of a run that did not complete is added to the next one of its id, if that
    begins within ten minutes."""


def _ceiling(row: Resource) -> Any:
    """Return the type of a ceiling, in whose own type it is kept."""
    return Annotated[type(row.quantity.zero) | None, checked(row.quantity.limit)]


if TYPE_CHECKING:

    class CeilingsConfig(_Ceilings):
        """Has a limit and a threshold for each resource, too."""

        def __getattr__(self, item: str) -> Any: ...

else:
    # A limit and a threshold for each resource there is: names and types are its row's.
    CeilingsConfig = create_model(
        "CeilingsConfig",
        __base__=_Ceilings,
        __doc__=_Ceilings.__doc__,
        **{row.limit_key: (_ceiling(row), None) for row in RESOURCES.values()},
        **{row.threshold_key: (Ratio, None) for row in RESOURCES.values()},
    )


def _action(value: object) -> Action:
    try:
        return Action(value)  # type: ignore[arg-type] # whatever is no action is refused
    except ValueError as exc:
        raise InvalidValueError("", value, " or ".join(Action)) from exc


class VerdictsConfig(Section):
    """How long a verdict holds, and what is decided without data. Seconds throughout."""

    lease: Seconds = 15.0
    stale_after: SecondsOrAuto = None
    """None is auto: three times the usual spacing of the samples, at least 3 s."""
    hold: Seconds = 300.0
    on_no_data: Annotated[Action, BeforeValidator(_action)] = Action.STOP
    forget_after: Seconds = 3600.0
    """At least as long as ``stale_after`` and ``hold``: not before ``on_no_data`` was decided."""


class StorageConfig(Section):
    """Where the ledger is kept."""

    path: Annotated[FilePath, AfterValidator(values.storage)] = Path(DEFAULT_STORAGE)
    archive_size: Size = 256_000_000
    """Bytes for forgotten runs, which are kept for 30 days; a sixteenth of it for one target's."""


def _no_budgets(value: object) -> tuple[()]:
    if value not in (None, [], ()):
        raise InvalidValueError(
            "", value, "an empty list: budgets shared by many runs are not yet supported"
        )
    return ()


class SidecarConfig(Strict):
    """The whole configuration."""

    presets: OwnPresets = Field(default={})
    """First, because the source may name them."""
    source: SourceConfig
    resource_limits: CeilingsConfig = Field(default_factory=CeilingsConfig)
    verdicts: VerdictsConfig = Field(default_factory=VerdictsConfig)
    listen: ListenConfig = Field(default_factory=ListenConfig)
    storage: StorageConfig = Field(default={}, validate_default=True)
    budgets: Annotated[tuple[()], BeforeValidator(_no_budgets)] = ()

    @property
    def revision(self) -> str:
        """12 hex digits that name the policy: the ceilings, and how verdicts are made."""
        policy = {
            "resource_limits": self.resource_limits.model_dump(),
            "verdicts": self.verdicts.model_dump(),
        }
        text = json.dumps(policy, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_DIGITS]


def _plain(value: object) -> str:
    if isinstance(value, Decimal):  # 5 and 5.0 are the same ceiling
        return f"{value.normalize():f}"
    raise TypeError(f"{value!r} is not part of a policy")
