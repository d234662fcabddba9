"""From a file, or from flags, to a configuration; or to everything that is wrong with it."""

from __future__ import annotations

import difflib
import hashlib
import json
import typing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from otel_budget.config.schema import DEFAULT_ADDRESS, DEFAULT_STORAGE, SidecarConfig
from otel_budget.config.yaml_file import YamlFile
from otel_budget.errors import InvalidConfigError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]

_ALLOWED: Final = {
    "missing": "a value: the key is missing",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
}
#: Keys of ResourceLimits that mean nothing for a ceiling.
_OF_THE_RUN: Final[Mapping[KeyPath, str]] = {
    ("resource_limits", "checkpoint_interval"): (
        "limits only: how often a run writes checkpoints belongs to the run's own resource_limits"
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
    "verdicts.lease": "--lease",
    "listen.address": "--listen",
    "storage.path": "--storage",
    "source": "--target, --file-sd, --prometheus",
}
_REVISION_DIGITS: Final = 12


def load(path: str | PathLike[str]) -> SidecarConfig:
    """Read a configuration file.

    Raises ConfigFileError for a file that cannot be read or is not YAML, InvalidConfigError with
    all problems, each with file, line and key, for one that says what is not allowed.
    """
    try:
        file = YamlFile.read(path)
    except InvalidValueError as exc:  # a key that stands there twice
        raise InvalidConfigError(str(path), [exc]) from exc
    folder = Path(path).parent

    def problem(keys: KeyPath, value: object, allowed: str) -> InvalidValueError:
        return InvalidValueError(_dotted(keys), value, allowed, where=file.where(*keys))

    return _build(file.data, folder, str(path), problem)


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
    lease: str | float | None = None,
    listen: str = DEFAULT_ADDRESS,
    storage: str | PathLike[str] = DEFAULT_STORAGE,
) -> SidecarConfig:
    """Build a configuration out of command line flags; relative paths are taken as they are.

    interval, lease: as in a file, None for the default. Raises InvalidConfigError with all
    problems, each with its flag.
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
    }
    data = {
        "source": source,
        "resource_limits": limits,
        "verdicts": {} if lease is None else {"lease": lease},
        "listen": {"address": listen},
        "storage": {"path": str(storage)},
    }

    def problem(keys: KeyPath, value: object, allowed: str) -> InvalidValueError:
        name = ".".join(str(key) for key in keys[:3] if isinstance(key, str))
        return InvalidValueError(_FLAGS.get(name, name), value, allowed)

    return _build(data, Path(), "", problem)


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
    folder: Path,
    path: str,
    problem: Callable[[KeyPath, object, str], InvalidValueError],
) -> SidecarConfig:
    try:
        return SidecarConfig.model_validate(data, context={"folder": folder})
    except ValidationError as exc:
        problems = [problem(*_what(error)) for error in exc.errors()]
        raise InvalidConfigError(path, problems) from exc


def _what(error: ErrorDetails) -> tuple[KeyPath, object, str]:
    """Return where the value stood, the value, and what is allowed there."""
    keys = error["loc"]
    refusal = error.get("ctx", {}).get("error")
    if isinstance(refusal, InvalidValueError):
        return keys, refusal.value, refusal.allowed
    if error["type"] == "extra_forbidden":
        # The key, not its value: what somebody put under a key we do not know may be a secret.
        return keys, keys[-1], _OF_THE_RUN.get(keys) or _known_keys(keys)
    value = None if error["type"] == "missing" else error["input"]
    return keys, value, _ALLOWED.get(error["type"], error["msg"])


def _known_keys(keys: KeyPath) -> str:
    """Say which keys there are beside an unknown one, and which was probably meant."""
    section: type[BaseModel] = SidecarConfig
    for key in keys[:-1]:
        if isinstance(key, str):
            section = _section(section.model_fields[key].annotation) or section
    known = list(section.model_fields)
    near = difflib.get_close_matches(str(keys[-1]), known, n=1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    return "the keys " + ", ".join(known) + meant


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section inside an annotation such as ``tuple[Section, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inside = (_section(part) for part in typing.get_args(annotation))
    return next((found for found in inside if found is not None), None)


def _dotted(keys: KeyPath) -> str:
    """Return ``source.scrape.targets[0].url``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def _plain(value: object) -> str:
    if isinstance(value, Decimal):  # 5 and 5.0 are the same ceiling
        return f"{value.normalize():f}"
    raise TypeError(f"{value!r} is not part of a policy")
