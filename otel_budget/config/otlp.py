"""What programs may push by OTLP, and where to."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import BeforeValidator, InstanceOf, ValidationInfo, model_validator

from otel_budget.config import values
from otel_budget.config.listening import Listening
from otel_budget.config.values import (
    Address,
    FilePath,
    HostName,
    PositiveInt,
    Seconds,
    Size,
    YesOrNo,
)
from otel_budget.errors import InvalidValueError
from otel_budget.presets.model import Preset

#: The port of OTLP over HTTP.
DEFAULT_RECEIVER: Final = "127.0.0.1:4318"
_LONGEST_NAME: Final = 255


def _presets(value: object, info: ValidationInfo) -> tuple[Preset, ...] | None:
    """Return presets by name; None, which is ``auto``, has those that come along and one's own."""
    if value is None or value == "auto":
        return None
    if not isinstance(value, list | tuple) or not value:
        raise InvalidValueError("", value, "auto, or a list of presets")
    found = (values.preset(each, info) for each in value)
    return tuple(preset for preset in found if values.is_foreign(preset))


def _attribute(value: object) -> str:
    """Return the name of an attribute."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        raise InvalidValueError("", value, "the name of an attribute, such as job.id")
    return value


class OtlpConfig(Listening):
    """Take what programs push by OTLP/HTTP: metrics, and events among the logs."""

    interval: ClassVar[float] = 1.0
    """Seconds between two looks at how long runs were silent; what is pushed is judged at once."""

    address: Address = DEFAULT_RECEIVER
    token_file: FilePath | None = None
    """Tokens, one on each line, as ``TOKEN`` or ``NAME:TOKEN``; one of them is needed to push. If
    there are several, they tell pushers apart."""
    request_body: Size = 16_000_000
    """Bytes of one request, packed and unpacked."""
    presets: Annotated[tuple[InstanceOf[Preset], ...] | None, BeforeValidator(_presets)] = None
    """Those by which pushed metrics and events are read; None is auto: all there are."""
    idle: Seconds = 1800.0
    """Of a run that pushes only what it has used just now, seconds of silence after which it is
    taken to be gone."""
    session_limit: PositiveInt = 10_000
    """Runs known of one pusher."""
    series_limit: PositiveInt = 500_000
    """Series known of one pusher."""
    run_attributes: tuple[Annotated[str, BeforeValidator(_attribute)], ...] = ()
    """Attributes that name the run, of a point or record, else of its resource; asked first."""
    allowed_hosts: tuple[HostName, ...] = ()
    """Further names to answer to, where only those of the loopback interface are accepted."""
    allow_unauthenticated: YesOrNo = False
    """Take from other hosts without asking who they are."""

    @model_validator(mode="after")
    def _needs_a_way_to_tell_who_pushes(self) -> OtlpConfig:
        if self.is_loopback or self.token_file is not None or self.allow_unauthenticated:
            return self
        raise InvalidValueError(
            "",
            self.address,
            "a loopback address, or a way to tell who pushes",
            sentence=(
                f"other hosts may reach {self.address}, and nothing asks who they are: give "
                "token_file; or, if you want that, set allow_unauthenticated: true"
            ),
        )

    def describe(self) -> str:
        """Return in a few words where samples come from."""
        names = "" if self.presets is None else ", ".join(each.name for each in self.presets)
        read = f" (presets {names})" if names else ""
        token = ", with a token" if self.token_file is not None else ""
        return f"OTLP pushed to {self.address}{token}{read}"
