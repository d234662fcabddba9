"""What an answer says of itself: whether all of it is there. Pure.

Servers have many ways to say "not all of it", and most of them come with HTTP 200:

- Prometheus, Thanos, Mimir: ``warnings`` in the body;
- VictoriaMetrics: ``isPartial``; others: ``partial``, ``truncated``, ``incomplete``;
- M3: the header ``M3-Results-Limited``; caches and gateways: ``Warning``; HTTP: 203, 206 and
  ``Content-Range``.

They are read in this one place, and strictly: what is not clearly a "no" is a "yes". ``infos`` of
Prometheus 3 are about the query (2.48 to 2.53 has them among its ``warnings``); only those count
here that speak of data left out. Nor does a ``Warning`` count that says only that a proxy
compressed the answer again, or that an address is deprecated.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from otel_budget.logs.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

#: Statuses with a body that may be less than what was asked for.
PARTIAL_STATUSES: Final = frozenset(
    {HTTPStatus.NON_AUTHORITATIVE_INFORMATION, HTTPStatus.PARTIAL_CONTENT}
)
#: Keys, in lower case and without ``_`` and ``-``, that say so by being true, and by being false.
_INCOMPLETE: Final = re.compile(
    r"(is|has|was)?(partial|incomplete|truncated|limited|degraded)"
    r"(responses?|results?|data|answer)?|(results?|response|data)(is|was)?(partial|truncated|limited)|"
    r"timedout|hasmore(data|results)?|"
    r"(failed|missing|unavailable|unreachable)(shards?|stores?|nodes?|partitions?|series|data)?"
)
_COMPLETE: Final = re.compile(r"(is)?(complete|exhaustive)(response|results?|data)?")
_WARNINGS: Final = frozenset({"warning", "warnings", "error", "errors", "errortype"})
_HEADERS: Final = frozenset({"content-range", "warning"})
_HEADER_PARTS: Final = ("partial", "truncated", "incomplete", "results-limited", "data-limited")
_NO: Final = frozenset({"", "0", "0.0", "false", "no", "none", "null", "off"})
_LEFT_OUT: Final = re.compile(
    r"partial|incomplete|missing|truncat|ignored|skipped|dropped|omitted|excluded|unavailable|limit|"
    r"time[d ]*out|deadline|fail|lost|unreachable|exceed|is down|error|"
    r"not (all|every|return|available)|(no|n't|not) (answer|respon[ds])",
    re.IGNORECASE,
)
#: How Prometheus begins an info, wherever it puts it.
_INFO: Final = "PromQL info: "
#: 214 is "Transformation Applied": a proxy packed an answer in another way.
_WARNING_CODE: Final = re.compile(r"\s*([0-9]{3}) ")
_HARMLESS_CODE: Final = "214"
_DEPRECATED: Final = re.compile(r"deprecat|sunset", re.IGNORECASE)
_QUOTED: Final = re.compile(r'"[^"]*"')
#: Where the rows are, which do not belong to what an answer says of itself.
_ROWS: Final = "result"


def said_by_body(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what the body of a query's answer says is missing of it; empty if it is whole."""
    said = []
    for key, value in _envelope(answer):
        plain = _plain(key)
        if plain in _WARNINGS:
            said += [text for text in _texts(value) if not _is_info(text) or _leaves_out(text)]
        elif plain == "infos":
            said += [text for text in _texts(value) if _leaves_out(text)]
        else:
            said += _flag(key, plain, value)
    return tuple(said)


def said_by_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the same of what one series says of itself."""
    return tuple(word for key, value in row.items() for word in _flag(key, _plain(key), value))


def remarks(answer: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the infos of an answer that are about something else than missing data."""
    infos = _texts(answer.get("infos"))
    infos += [text for text in _texts(answer.get("warnings")) if _is_info(text)]
    return tuple(text for text in infos if not _leaves_out(text))


def said_by_head(status: int, headers: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Return what status and headers say is missing of an answer; empty if it is whole."""
    said = [f"HTTP {int(status)}"] if status in PARTIAL_STATUSES else []
    for name, value in headers:
        key = name.lower()
        if key == "warning":
            warns = not _is_harmless(value)
        elif key in _HEADERS or key.endswith(("-warning", "-warnings")):
            warns = True
        else:
            warns = any(part in key for part in _HEADER_PARTS) and not _says_no(value)
        if warns:
            said.append(one_line(f"{name}: {value}"))
    return tuple(said)


def _is_harmless(warning: str) -> bool:
    """Tell whether a ``Warning`` header is about something else than what the answer holds."""
    code = _WARNING_CODE.match(warning)
    several = len(re.findall(r"(?:^|,)\s*[0-9]{3} ", warning)) > 1
    if code is None or several:
        return False
    about_address = _DEPRECATED.search(warning) and not _leaves_out(warning, quoted=True)
    return code[1] == _HARMLESS_CODE or bool(about_address)


def _says_no(value: str) -> bool:
    """Tell whether a header's value is a clear "no", in JSON as well, as M3 writes it."""
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        said = value
    if not isinstance(said, dict) or not said:
        return _is_no(value)
    flags = [v for key, v in said.items() if _INCOMPLETE.fullmatch(_plain(key))]
    return bool(flags) and all(map(_is_no, flags))


def _envelope(answer: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values around the rows of an answer, on any level."""
    for key, value in answer.items():
        if key == _ROWS and isinstance(value, list):
            continue
        yield key, value
        if _plain(key) not in _WARNINGS:
            for part in value if isinstance(value, list) else (value,):
                if isinstance(part, dict):
                    yield from _envelope(part)


def _flag(key: str, plain: str, value: Any) -> list[str]:
    incomplete = _INCOMPLETE.fullmatch(plain) and not _is_no(value)
    if incomplete or (_COMPLETE.fullmatch(plain) and _is_no(value)):
        return [one_line(f"{key}: {value}")]
    return []


def _is_info(text: str) -> bool:
    return text.startswith(_INFO)


def _leaves_out(info: str, *, quoted: bool = False) -> bool:
    """Tell whether a text is about data that are not there.

    quoted: also by what is in quotes, which in an info are names of metrics.
    """
    return _LEFT_OUT.search(info if quoted else _QUOTED.sub("", info)) is not None


def _plain(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [one_line(str(one)) for one in values if one is not None and not _is_no(one)]


def _is_no(value: Any) -> bool:
    return value in (None, [], {}) or str(value).strip().lower() in _NO
