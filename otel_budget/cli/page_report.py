"""What the sidecar would count on a page, and what it would not, for ``otel-budget read``.

A file is read with nothing but what every installation has; a URL needs the extra.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import FURTHER
from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.logs.text import one_line, some
from otel_budget.presets import model as roles
from otel_budget.presets.counting import Ignored, count
from otel_budget.presets.detection import OTEL_BUDGET, Match, detect
from otel_budget.presets.loader import preset_of_argument, shipped
from otel_budget.sources.exposition import ACCEPT, PageLimits, PageReader, escaped, whole_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.core.samples import Sample
    from otel_budget.presets.counting import ForeignRun
    from otel_budget.presets.model import Preset

_MOST_BYTES: Final = 50_000_000
_MOST_SAMPLES: Final = 500_000
_SECONDS: Final = 10.0
_SECONDS_TO_PARSE: Final = 30.0
_OPENMETRICS: Final = "application/openmetrics-text"
_METRIC: Final = re.compile(
    rb'(?:^|\n)[ \t]*(?:([A-Za-z_:][A-Za-z0-9_:]*)[ \t]*[{ \t]|\{[ \t]*"((?:[^"\\\n]|\\.)*)")'
)
#: Names of metrics that may well count tokens or money.
_LIKE_USE: Final = re.compile(
    r"(?:^|[^a-z])(?:tokens?|costs?|spend|usd|dollars?)(?:$|[^a-z])", re.IGNORECASE
)
_NAMES_SHOWN: Final = 12
SHOWN: Final = (
    roles.INPUT, roles.OUTPUT, roles.CACHED, roles.CACHE_WRITE, roles.REASONING, roles.CALLS,
    roles.COST_USD,
)  # fmt: skip
#: How the names of all our own metrics begin.
_OWN: Final = "otel_budget_"
#: The reason of metrics that have nothing to do with usage: too many to list for people.
NOTHING: Final = "nothing that the preset counts"


class NothingRecognisedError(OtelBudgetError):
    """Say that no known program shows such a page."""


class UnreadablePageError(OtelBudgetError):
    """Say why there is no page to read."""


@dataclass(frozen=True, slots=True)
class Page:
    """What is to be read."""

    body: bytes
    content_type: str
    place: str
    """As for ``presets.counting.count``."""
    remark: str = ""
    """What is odd about it; empty if nothing is."""


@dataclass(frozen=True, slots=True)
class Report:
    """What counts of a page, and what does not."""

    preset: Preset
    recognised_by: str
    """For people."""
    sessions: Sequence[ForeignRun]
    ignored: Mapping[Ignored, int]
    not_understood: Sequence[str] = ()
    """Where nothing counts: metrics above 0 that should have, or look as if they should."""

    def to_json(self) -> str:
        """Return it as one line of JSON, as docs/presets.md describes it."""
        return json.dumps(
            {
                "preset": self.preset.name,
                "recognised_by": self.recognised_by,
                "sessions": [_session(session) for session in self.sessions],
                "ignored": [
                    {"metric": one.metric, "labels": dict(one.labels), "samples": samples,
                     "reason": one.reason}
                    for one, samples in self.ignored.items()
                ],
                "not_understood": list(self.not_understood),
                "notes": dict(self.preset.notes),
            }
        )  # fmt: skip


def page_of(source: str) -> Page:
    """Fetch a URL, or read a file. Raises UnreadablePageError, InvalidValueError, FetchError."""
    if source.startswith(("http://", "https://")):
        return _fetched(source)
    try:
        with Path(source).open("rb") as file:
            body = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as exc:
        said = getattr(exc, "strerror", None) or str(exc)
        sentence = f"{source!r} cannot be read: {said}"
        raise InvalidValueError("", source, "", sentence=sentence) from exc
    if len(body) > _MOST_BYTES:
        raise UnreadablePageError(f"{source!r} is larger than {_MOST_BYTES:,} bytes")
    remark = ""
    if body and not body.endswith(b"\n"):
        remark = f"{source!r} does not end with a line break: was it cut off?"
        body += b"\n"
    return Page(body, _OPENMETRICS if body.rstrip().endswith(b"# EOF") else "", "", remark)


def report_on(page: Page, chosen: str | None) -> Report:
    """Say what counts of a page. chosen: what --preset says; None recognises the program.

    Raises ExpositionError for a page that is none, NothingRecognisedError, InvalidValueError.
    """
    presets = {**shipped(), OTEL_BUDGET.name: OTEL_BUDGET}
    given = None if chosen is None else presets.get(chosen) or preset_of_argument(chosen)
    candidates = list(presets.values()) if given is None else [*presets.values(), given]
    wanted = {name for one in candidates for name in (*one.names, *one.recognised_by)}
    wanted |= {name for name in _names(page.body) if _LIKE_USE.search(name)}
    reader = PageReader(wanted, PageLimits(samples=_MOST_SAMPLES), _SECONDS_TO_PARSE)
    samples = reader.read(page.body, page.content_type)
    matches = detect(presets.values(), samples)
    if given is not None:
        preset, by = given, "--preset"
    elif matches:
        preset, by = matches[0].preset, _reason(matches)
    elif _is_idle_agent(page.body):
        preset, by = OTEL_BUDGET, f"{semconv.BUILD_INFO.name} is on the page, and no run"
    else:
        raise NothingRecognisedError(_not_recognised(page.body, presets))
    counted = count(preset, samples, page.place)
    ignored = {**counted.ignored, **_rest(page.body, preset, matches)}
    sessions = sorted(counted.sessions, key=lambda session: session.session_id)
    strange = () if sessions else _not_understood(preset, samples)
    return Report(preset, by, sessions, dict(sorted(ignored.items())), strange)


def _fetched(url: str) -> Page:
    import asyncio

    from otel_budget.config import values
    from otel_budget.sources.foreign_page import host_port
    from otel_budget.sources.http import Access, Fetched, Fetcher

    async def fetch() -> Fetched:
        fetcher = Fetcher(time.time, _SECONDS, _MOST_BYTES)
        try:
            return await fetcher.fetch(url, Access(), accept=ACCEPT)
        finally:
            await fetcher.close()

    values.url(url)
    fetched = asyncio.run(fetch())
    if fetched.missing:
        said = "; ".join(fetched.missing)
        whole = whole_lines(fetched.body)
        return Page(whole, fetched.content_type, host_port(url), f"its page is partial: {said}")
    return Page(fetched.body, fetched.content_type, host_port(url))


def _reason(matches: Sequence[Match]) -> str:
    by = f"{matches[0].metric} is on the page"
    others = [f"{m.preset.name} (by {m.metric})" for m in matches[1:]]
    return f"{by}; it goes before {', '.join(others)}, which fit as well" if others else by


def _not_understood(preset: Preset, samples: Sequence[Sample]) -> tuple[str, ...]:
    """Return the metrics of a page without a session that show a use, or look as if they did."""
    used = {sample.name for sample in samples if sample.value != 0}
    own = preset is OTEL_BUDGET  # beside its runs it shows what all of them have used
    like_use = {n for n in used if _LIKE_USE.search(n) and not (own and n.startswith(_OWN))}
    return tuple(sorted(like_use | (used & set(preset.names))))


def _names(body: bytes) -> Counter[str]:
    found = (plain or quoted for plain, quoted in _METRIC.findall(body))
    return Counter(escaped(name.decode("utf-8", "replace"), {})[0] for name in found)


def _is_idle_agent(body: bytes) -> bool:
    names = _names(body)
    return semconv.BUILD_INFO.name in names and semconv.SIDECAR_SESSIONS.name not in names


def _not_recognised(body: bytes, presets: Mapping[str, Preset]) -> str:
    names = [one_line(name) for name in _names(body)]
    if semconv.SIDECAR_SESSIONS.name in names:
        return (
            "this is the page of a sidecar, which shows verdicts and no usage: read an agent's "
            "page, or ask the sidecar with otel-budget session list"
        )
    seen = some(names, ", ", _NAMES_SHOWN) if names else "no metrics at all"
    return (
        f"no program is recognised by the metrics of this page: {seen}\n"
        f"presets: {', '.join(sorted(presets))}; choose one with --preset, or write your own"
    )


def _rest(body: bytes, preset: Preset, matches: Sequence[Match]) -> dict[Ignored, int]:
    """Return what is on the page and in none of the preset's metrics."""
    of_others = {
        name: match.preset.name
        for match in reversed(matches)
        if match.preset != preset
        for name in match.preset.names
    }
    rest = {}
    for name, samples in _names(body).items():
        if name in preset.names:
            continue
        reason = NOTHING
        base, _, kind = name.rpartition("_")
        if name in of_others:
            reason = f"counts with --preset {of_others[name]}, which was not used"
        elif kind == "created":
            reason = "a creation time, not an amount"
        elif kind == "bucket" and f"{base}_sum" in preset.names:
            reason = "a bucket of a histogram; its sum counts"
        rest[Ignored(name, (), reason)] = samples
    return rest


def _session(session: ForeignRun) -> dict[str, object]:
    amounts = {role: _plain(session, role) for role in (*SHOWN, *FURTHER)}
    return {
        "session_id": session.session_id,
        **amounts,
        "tokens": _plain(session, roles.TOKENS),
        "tokens_at_least": session.at_least,
        "implausible": list(session.implausible),
    }


def _plain(session: ForeignRun, role: str) -> Number | str | None:
    amount = session.amounts.get(role)
    return money(amount) if isinstance(amount, Decimal) else amount


def money(amount: Decimal) -> str:
    """Return dollars as text."""
    return f"{amount.normalize():f}"
