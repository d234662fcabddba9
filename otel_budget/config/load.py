"""From a file, or from flags, to a configuration; or to everything that is wrong with it."""

from __future__ import annotations

import hashlib
import json
import typing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from otel_budget.config.listen import DEFAULT_ADDRESS
from otel_budget.config.schema import (
    DEFAULT_STORAGE,
    SidecarConfig,
    wrong_number_of_sources,
)
from otel_budget.errors import InvalidConfigError, InvalidValueError
from otel_budget.files.yaml_file import THE_KEYS, KeyPath, YamlFile, dotted, meant
from otel_budget.presets.loader import likely
from otel_budget.presets.parser import PresetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    from pydantic_core import ErrorDetails

_ALLOWED: Final = {
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
}
#: Keys of ResourceLimits that mean nothing for a ceiling.
_OF_THE_RUN: Final[Mapping[KeyPath, str]] = {
    ("resource_limits", "checkpoint_interval"): (
        "is not for the sidecar: how often a run writes checkpoints belongs to the run's own "
        "resource_limits"
    )
}
_FLAGS: Final = {
    "source.scrape.targets": "--target",
    "source.scrape.file_sd": "--file-sd",
    "source.scrape.interval": "--interval",
    "source.prometheus.url": "--prometheus",
    "source.prometheus.interval": "--interval",
    "resource_limits.max_tokens": "--max-tokens",
    "resource_limits.max_api_calls": "--max-api-calls",
    "resource_limits.max_cost_usd": "--max-cost-usd",
    "resource_limits.max_duration_seconds": "--max-duration-seconds",
    "resource_limits.max_active_seconds": "--max-active-seconds",
    "verdicts.lease": "--lease",
    "listen": "--listen",
    "listen.address": "--listen",
    "listen.read_token_file": "--read-token-file",
    "listen.admin_token_file": "--admin-token-file",
    "storage.path": "--storage",
}
#: What a refusal says of a file, and what it says of a flag.
_SAID_OF_FLAGS: Final = (
    (", or null for unlimited", ""),
    ("read_token_file, or tls with client_ca_file;", "--read-token-file,"),
    ("allow_unauthenticated: true", "--allow-unauthenticated"),
    ("use bearer_token_file or headers", "these go in a file, see --config"),
)
_ONE_SOURCE: Final = "give one of --target/--file-sd or --prometheus"
_REVISION_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class _Mistake:
    """Something that is wrong, as yet without the words for where it stands."""

    keys: KeyPath
    value: object
    allowed: str
    sentence: str = ""
    """As in InvalidValueError."""

    def error(self, key: str, where: str = "") -> InvalidValueError:
        return InvalidValueError(key, self.value, self.allowed, where=where, sentence=self.sentence)


def load(path: str | PathLike[str], *, check_storage: bool = False) -> SidecarConfig:
    """Read a configuration file.

    check_storage: also refuse a storage that could not be opened; nothing is created or opened.
    Raises ConfigFileError for a file that cannot be read or is not YAML, InvalidConfigError with
    all problems, each with file, line and key, for one that says what is not allowed.
    """
    try:
        file = YamlFile.read(path)
    except InvalidValueError as exc:  # a key that stands there twice
        raise InvalidConfigError(str(path), [exc]) from exc
    folder = Path(path).parent

    def problem(mistake: _Mistake) -> InvalidValueError:
        return mistake.error(dotted(mistake.keys), file.where(*mistake.keys))

    context = {"folder": folder, "check_storage": check_storage}
    return _build(file.data, context, str(path), problem)


def from_flags(
    *,
    targets: Sequence[str] = (),
    file_sd: Sequence[str] = (),
    prometheus_url: str | None = None,
    interval: str | float | None = None,
    max_tokens: int | None = None,
    max_api_calls: int | None = None,
    max_cost_usd: float | Decimal | None = None,
    max_duration_seconds: float | None = None,
    max_active_seconds: float | None = None,
    lease: str | float | None = None,
    listen: str = DEFAULT_ADDRESS,
    read_token_file: str | None = None,
    admin_token_file: str | None = None,
    allow_unauthenticated: bool = False,
    storage: str | PathLike[str] = DEFAULT_STORAGE,
) -> SidecarConfig:
    """Build a configuration out of command line flags; relative paths are taken as they are.

    interval, lease: as in a file; None for the default.
    Raises InvalidConfigError with all problems, each with its flag.
    """
    pace = {} if interval is None else {"interval": interval}
    source: dict[str, object] = {}
    if targets or file_sd:
        source["scrape"] = {"targets": list(targets), "file_sd": list(file_sd), **pace}
    if prometheus_url is not None:
        source["prometheus"] = {"url": prometheus_url, **pace}
    limits = {
        "max_tokens": max_tokens,
        "max_api_calls": max_api_calls,
        "max_cost_usd": max_cost_usd,
        "max_duration_seconds": max_duration_seconds,
        "max_active_seconds": max_active_seconds,
    }
    data = {
        "source": source,
        "resource_limits": limits,
        "verdicts": {} if lease is None else {"lease": lease},
        "listen": {
            "address": listen,
            "read_token_file": read_token_file,
            "admin_token_file": admin_token_file,
            "allow_unauthenticated": allow_unauthenticated,
        },
        "storage": {"path": str(storage)},
    }

    return _build(data, {"folder": Path()}, "", _problem_of_flags)


def _problem_of_flags(mistake: _Mistake) -> InvalidValueError:
    if mistake.keys == ("source",):
        both = ", not both" if mistake.value else ""
        return replace(mistake, sentence=_ONE_SOURCE + both).error("")
    name = ".".join(str(key) for key in mistake.keys[:3] if isinstance(key, str))
    allowed, sentence = mistake.allowed, mistake.sentence
    for of_file, of_flag in _SAID_OF_FLAGS:
        allowed, sentence = allowed.replace(of_file, of_flag), sentence.replace(of_file, of_flag)
    return replace(mistake, allowed=allowed, sentence=sentence).error(_FLAGS.get(name, name))


def revision(config: SidecarConfig) -> str:
    """Return 12 hex digits that name the policy: the ceilings, and how verdicts are made."""
    policy = {
        "resource_limits": config.resource_limits.model_dump(),
        "verdicts": config.verdicts.model_dump(),
    }
    text = json.dumps(policy, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_DIGITS]


def _build(
    data: Mapping[str, object],
    context: Mapping[str, object],
    path: str,
    problem: Callable[[_Mistake], InvalidValueError],
) -> SidecarConfig:
    try:
        return SidecarConfig.model_validate(data, context=dict(context))
    except ValidationError as exc:
        mistakes = [_mistake(error) for error in exc.errors()]
        source = data.get("source")
        if isinstance(source, dict) and all(m.keys != ("source",) for m in mistakes):
            # A section is looked at as a whole only when all in it is good; this need not wait.
            found = wrong_number_of_sources(source)
            mistakes[:0] = [_of_refusal(("source",), found)] if found is not None else []
        raise InvalidConfigError(path, [problem(mistake) for mistake in mistakes]) from exc


def _mistake(error: ErrorDetails) -> _Mistake:
    keys = error["loc"]
    refusal = error.get("ctx", {}).get("error")
    if isinstance(refusal, InvalidValueError):
        return _of_refusal(keys, refusal)
    if error["type"] == "extra_forbidden":
        # The key, not its value: what somebody put under a key we do not know may be a secret.
        allowed = _known_keys(keys)
        return _Mistake(
            keys, keys[-1], allowed, _OF_THE_RUN.get(keys) or f"is no key here; there are {allowed}"
        )
    if error["type"] == "missing":
        return _Mistake(keys, None, "a value", "is missing")
    return _Mistake(keys, error["input"], _ALLOWED.get(error["type"], error["msg"]))


def _of_refusal(keys: KeyPath, refusal: InvalidValueError) -> _Mistake:
    if isinstance(refusal, PresetError):  # a section of its own, which was looked at as a whole
        sentence = refusal.sentence + likely(refusal)
        return _Mistake((*keys, *refusal.at), refusal.value, refusal.allowed, sentence)
    return _Mistake(keys, refusal.value, refusal.allowed, refusal.sentence)


def _known_keys(keys: KeyPath) -> str:
    """Say which keys there are beside an unknown one, and which was probably meant."""
    section: type[BaseModel] = SidecarConfig
    for key in keys[:-1]:
        if isinstance(key, str):
            section = _section(section.model_fields[key].annotation) or section
    known = list(section.model_fields)
    return THE_KEYS + ", ".join(known) + meant(str(keys[-1]), known)


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section inside an annotation such as ``tuple[Section, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inside = (_section(part) for part in typing.get_args(annotation))
    return next((found for found in inside if found is not None), None)


def _plain(value: object) -> str:
    if isinstance(value, Decimal):  # 5 and 5.0 are the same ceiling
        return f"{value.normalize():f}"
    raise TypeError(f"{value!r} is not part of a policy")
