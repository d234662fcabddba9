"""What people write in a configuration, and what it means: durations, sizes, addresses, paths.

Every refusal is an InvalidValueError without a key: ``load`` adds the one where the value was.
"""

from __future__ import annotations

import json
import os
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeGuard

from pydantic import BeforeValidator, InstanceOf, ValidationInfo

from otel_budget.core import bindings, validation
from otel_budget.errors import InvalidValueError
from otel_budget.net.url import UrlError, split_url
from otel_budget.presets import loader
from otel_budget.presets.detection import OTEL_BUDGET
from otel_budget.presets.model import Preset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LONGEST: Final = 2.0**53

_BYTES: Final = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30,
}  # fmt: skip
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)")

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
_URL_CHARACTERS: Final = re.compile(r"[\x21-\x7e]+")
_NO_USER: Final = (
    "a URL without user and password: put them into a configuration file, as bearer_token_file or "
    "headers"
)
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_MAX_PORT: Final = 65_535

#: A label matcher of PromQL: ``name="value"``, with ``=``, ``!=``, ``=~`` or ``!~``.
_LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MATCHER: Final = re.compile(
    r'(?!__name__\b)[a-zA-Z_][a-zA-Z0-9_]*(?:=~|!~|!=|=)"(?:[^"\\\n]|\\.)*"'
)

#: Where in the context of a validation the user's own presets are.
_PRESETS: Final = "presets"
#: Their names, as long as one of them is wrong.
_REFUSED: Final = "refused_presets"

_TARGET_MATCHER: Final = (
    """a label matcher such as 'team="a"', with a regular expression that is one"""
)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def duration(value: object) -> float:
    """Return seconds above 0: a number of them, or text such as ``500ms``, ``5m``, ``1h30m``."""
    return validation.duration("", value)


def duration_or_auto(value: object) -> float | None:
    """Return seconds above 0, or None for ``auto``."""
    if value is None or value == "auto":
        return None
    try:
        return duration(value)
    except InvalidValueError as exc:
        raise _refuse(value, f"auto, or {exc.allowed}") from exc


def size(value: object) -> int:
    """Return bytes above 0: a number of them, or text such as ``50MB`` or ``64KiB``."""
    found = 0.0
    if isinstance(value, str):
        match = _SIZE.fullmatch(value)
        if match is not None:
            found = float(match[1]) * _BYTES.get(match[2].upper(), 0)
    elif isinstance(value, int) and not isinstance(value, bool):
        found = float(value)
    if not 1 <= found <= _LONGEST:
        raise _refuse(value, "a size above 0, such as 50MB, 64KiB, or bytes")
    return int(found)


def count(value: object) -> int:
    """Return a whole number above 0."""
    if type(value) is not int or not 0 < value <= _LONGEST:
        raise _refuse(value, "a whole number above 0")
    return value


def address(value: object) -> str:
    """Return ``host:port`` as it is; an IPv6 address is in brackets."""
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[3]) > _MAX_PORT:
        raise _refuse(value, "host:port, such as 127.0.0.1:9465 or [::1]:9465")
    return match[0]


def split_address(text: str) -> tuple[str, int]:
    """Return host, without brackets, and port of an address."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise _refuse(text, "host:port")
    return match[1] or match[2], int(match[3])


def url(value: object) -> str:
    """Return an http or https URL without credentials in it."""
    allowed = "an http:// or https:// URL with a host, such as http://127.0.0.1:9464/metrics"
    if not isinstance(value, str) or _URL_CHARACTERS.fullmatch(value) is None:
        raise _refuse(value, allowed)
    try:
        split_url(value)
    except UrlError as exc:
        raise _refuse(exc.shown, _NO_USER if exc.has_user else allowed) from exc
    return value


def host_name(value: object) -> str:
    """Return a host name or address in lower case, as a Host header has it without the port."""
    if not isinstance(value, str) or _HOST.fullmatch(value) is None:
        raise _refuse(value, "a host name without scheme and port, such as budget.example.org")
    return value.lower()


def network(value: object) -> str:
    """Return an address, or a network as 10.0.0.0/8."""
    text = value if isinstance(value, str) else ""
    try:
        return str(ip_network(text) if "/" in text else ip_address(text))
    except ValueError as exc:
        raise _refuse(value, "an address, or a network such as 10.0.0.0/8") from exc


def matcher(value: object) -> str:
    """Return a PromQL label matcher; anything else could be another query."""
    if not isinstance(value, str) or _MATCHER.fullmatch(value) is None:
        raise _refuse(value, """a label matcher such as 'job="agents"', not on __name__""")
    return value


def target_matcher(value: object) -> str:
    """Return a label matcher whose regular expression, if it has one, is valid."""
    text = matcher(value)
    expression = re.search(r'~(".*")$', text, re.DOTALL)
    try:
        re.compile(json.loads(expression[1]) if expression else "")
    except (ValueError, re.error) as exc:
        raise _refuse(value, _TARGET_MATCHER) from exc
    return text


def label_name(value: object) -> str:
    """Return the name of a label."""
    if not isinstance(value, str) or _LABEL_NAME.fullmatch(value) is None:
        raise _refuse(value, "the name of a label, such as prometheus_replica")
    return value


def header(name: str, value: object) -> str:
    """Return the value of an HTTP header."""
    if _HEADER_NAME.fullmatch(name) is None:
        raise _refuse(name, "an HTTP header name")
    if not isinstance(value, str) or _HEADER_VALUE.fullmatch(value) is None:
        # Not shown: it may be a credential.
        raise _refuse(f"the value of {name}", "printable ASCII text")
    return value


def headers(value: object) -> dict[str, str]:
    """Return HTTP headers."""
    if not isinstance(value, dict):
        raise _refuse(value, "a mapping of header names to values")
    return {str(name): header(str(name), text) for name, text in value.items()}


def path(value: object, info: ValidationInfo) -> Path:
    """Return a path; a relative one is relative to the configuration file's folder."""
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise _refuse(value, "the path of a file")
    return _folder(info) / value


#: Stands for standard output in place of a path.
DASH: Final = Path("-")


def path_or_dash(value: object, info: ValidationInfo) -> Path | None:
    """Return a path as ``path`` does, or ``DASH``; None if none is given."""
    if value is None:
        return None
    return DASH if value in ("-", DASH) else path(value, info)


def storage(path: Path, info: ValidationInfo) -> Path:
    """Return the path of the ledger; refuse one that cannot be used if ``check_storage`` is set.

    Nothing is created or opened: a sidecar may be using it.
    """
    if not (info.context or {}).get("check_storage"):
        return path
    folder = path.parent
    problem = ""
    if not folder.is_dir():
        problem = f"there is no folder {folder}"
    elif not os.access(folder, os.W_OK | os.X_OK):
        problem = f"the folder {folder} cannot be written to"  # SQLite keeps side files there
    elif path.exists() and not path.is_file():
        problem = f"{path} is not a file"
    elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
        problem = f"{path} cannot be read and written"
    if problem:
        allowed = "a file in a folder that exists and can be written to"
        raise InvalidValueError("", str(path), allowed, sentence=f"{problem}; it must be {allowed}")
    return path


def pattern(value: object, info: ValidationInfo) -> str:
    """Return a pattern of paths to JSON or YAML files, relative ones as in ``path``."""
    if not isinstance(value, str) or not value.endswith((".json", ".yml", ".yaml")):
        raise _refuse(value, "a path or pattern that ends in .json, .yml or .yaml")
    return str(_folder(info) / value)


def presets(value: object, info: ValidationInfo) -> Mapping[str, Mapping[str, object]]:
    """Return the user's own presets; what is read after them may name them."""
    context = {} if info.context is None else info.context
    context[_REFUSED] = tuple(value) if isinstance(value, dict) else ()
    own = context[_PRESETS] = loader.own_presets(value)
    del context[_REFUSED]
    return own


def preset(value: object, info: ValidationInfo) -> Preset | None:
    """Return the preset of a name, or of a mapping; None if none is given.

    ``OTEL_BUDGET`` is the metrics of otel-budget itself, and no other program's.
    """
    context = info.context or {}
    if value is None or value in context.get(_REFUSED, ()):
        return None  # a preset that was refused is reported where it is defined
    if value == OTEL_BUDGET.name:
        return OTEL_BUDGET
    if isinstance(value, Preset):
        return value
    return loader.preset(value, context.get(_PRESETS))


def is_foreign(preset: Preset | None) -> TypeGuard[Preset]:
    """Tell whether what is read by a preset is another program's."""
    return preset is not None and preset is not OTEL_BUDGET


def presets_by_name(info: ValidationInfo) -> dict[str, Preset]:
    """Return every preset that a list of targets may name: ours, the package's, the user's own."""
    own = (info.context or {}).get(_PRESETS) or {}
    mine = {str(name): loader.preset(str(name), own) for name in own}
    return {OTEL_BUDGET.name: OTEL_BUDGET, **loader.shipped(), **mine}


def session_pattern(value: object) -> str:
    """Return a session id, or the beginning of one with ``*`` at its end."""
    return bindings.pattern(value)


def some(value: tuple[str, ...]) -> tuple[str, ...]:
    """Return a list that is not empty."""
    if not value:
        raise _refuse([], "at least one")
    return value


def yes_or_no(value: object) -> bool:
    """Return true or false; nothing that only looks like one is taken."""
    if not isinstance(value, bool):
        raise InvalidValueError("", value, "true or false")
    return value


def checked(check: Callable[[str, Any], Any], **options: bool) -> BeforeValidator:
    """Return a check of ``core.validation`` as a validator; None, which is "no limit", passes."""

    def validate(value: object) -> object:
        return None if value is None else check("", value, **options)

    return BeforeValidator(validate)


def _folder(info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", ""))


def _refuse(value: object, allowed: str) -> InvalidValueError:
    return InvalidValueError("", value, allowed)


Seconds = Annotated[float, BeforeValidator(duration)]
SecondsOrAuto = Annotated[float | None, BeforeValidator(duration_or_auto)]
Size = Annotated[int, BeforeValidator(size)]
PositiveInt = Annotated[int, BeforeValidator(count)]
YesOrNo = Annotated[bool, BeforeValidator(yes_or_no)]
Address = Annotated[str, BeforeValidator(address)]
Url = Annotated[str, BeforeValidator(url)]
HostName = Annotated[str, BeforeValidator(host_name)]
Network = Annotated[str, BeforeValidator(network)]
LabelName = Annotated[str, BeforeValidator(label_name)]
Matcher = Annotated[str, BeforeValidator(matcher)]
TargetMatcher = Annotated[str, BeforeValidator(target_matcher)]
Headers = Annotated[dict[str, str], BeforeValidator(headers)]
FilePath = Annotated[Path, BeforeValidator(path)]
FilePattern = Annotated[str, BeforeValidator(pattern)]
PresetChoice = Annotated[InstanceOf[Preset] | None, BeforeValidator(preset)]
SessionPattern = Annotated[str, BeforeValidator(session_pattern)]
OwnPresets = Annotated[dict[str, Any], BeforeValidator(presets)]
