"""The configuration's source section: where samples come from (design, section 6).

What is pushed has a module of its own: otlp.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from otel_budget import semconv
from otel_budget.config import values
from otel_budget.config.otlp import OtlpConfig
from otel_budget.config.section import Strict
from otel_budget.config.values import (
    FilePath,
    FilePattern,
    Headers,
    LabelName,
    Matcher,
    PositiveInt,
    PresetChoice,
    Seconds,
    SecondsOrAuto,
    SessionPattern,
    Size,
    TargetMatcher,
    Url,
    YesOrNo,
)
from otel_budget.core import validation
from otel_budget.errors import InvalidValueError
from otel_budget.presets.model import Preset

ADD: Final = "add"
REFUSE: Final = "refuse"


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
_NEEDED_LABELS: Final = frozenset(
    {semconv.SESSION_ID, semconv.RESOURCE, semconv.STATE, semconv.PARENT_SESSION_ID}
)


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
