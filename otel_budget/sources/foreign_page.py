"""The pages of one target that are another program's: by which preset, and what they count.

The preset is the configured one, or that of the program that the page is recognised as: the same
one that ``otel-budget read`` chooses, found out anew for each page, as another program may take
over an address. What ranks below a page of our own never wins against one.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.resources import COUNTED
from otel_budget.logs.text import one_line, some
from otel_budget.presets.counting import assembled, count, uncounted
from otel_budget.presets.detection import detect
from otel_budget.presets.loader import shipped
from otel_budget.sources.exposition import PageReader
from otel_budget.sources.target_process import process_at
from otel_budget.sources.unmatched import declares, other_names

if TYPE_CHECKING:
    from otel_budget.core.samples import Assembled, Sample
    from otel_budget.presets.detection import Match
    from otel_budget.presets.model import Preset
    from otel_budget.sources.exposition import PageLimits
    from otel_budget.sources.http import Fetched

#: How the lines of our own series begin, on a page that is one of ours.
_OWN: Final = b"otel_budget_"
#: The names of what a page shows, and how many of them are said.
_METRIC: Final = re.compile(
    rb'^(?:\{[ \t]*")?([A-Za-z_:][A-Za-z0-9_:.]{0,79})(?=[ \t{"])', re.MULTILINE
)
_NAMES_SAID: Final = 5
#: Bytes of a page in which these names are looked for.
_LOOKED_AT: Final = 100_000


class ForeignReading(NamedTuple):
    """What a page says that is another program's."""

    preset: Preset
    found: Assembled
    recognised: str = ""
    """By what it was recognised, and what cannot be judged then; empty if that is configured."""
    uncounted: str = ""
    """What of it the preset cannot count, for people; as the next one, empty if there is none."""
    unmatched: str = ""
    """Why it shows nothing that can be counted."""


class ForeignPage:
    """Read the pages of one target as those of another program."""

    def __init__(
        self,
        url: str,
        preset: Preset | None,
        limits: PageLimits,
        seconds: float,
        details: Details = NO_DETAILS,
    ) -> None:
        """preset: None has the program recognised. seconds: processor time for one page. details:
        what of the runs is read.
        """
        self._url, self._fixed, self._details = url, preset, details
        self._limits, self._seconds = limits, seconds
        self._reader: PageReader | None = None
        """From when on it is needed: most pages are ours."""
        self._match: Match | None = None
        """What the program was last recognised as."""
        self._counted: set[str] = set()
        """The presets by which it ever showed something that can be counted."""
        self.runs: frozenset[str] = frozenset()
        """Those on the last page."""
        self.may_show = True
        """False since a page was one of otel-budget itself, until there may be another process."""

    def read(self, fetched: Fetched) -> ForeignReading | None:
        """Return what a page says; None if it is no known program's. Raises ExpositionError."""
        self.runs = frozenset()
        if self._fixed is None and (not self.may_show or _is_ours(fetched.body)):
            # Between two runs it may show only what the libraries of its process export.
            self.may_show, self._match = False, None
            return None
        samples = self._samples(fetched)
        if self._fixed is not None:
            return self._read(self._fixed, "", samples, fetched)
        matches = detect(shipped().values(), samples)
        if matches:
            self._match = matches[0]  # else, if there was one, it may have begun anew
        if self._match is None:
            return None
        return self._read(self._match.preset, _recognised(self._match), samples, fetched)

    def failed(self) -> None:
        """Take note that there was no page: another process may answer next."""
        self.may_show = True

    def _samples(self, fetched: Fetched) -> list[Sample]:
        if self._reader is None:
            wanted = _wanted() if self._fixed is None else frozenset(self._fixed.counted)
            self._reader = PageReader(wanted, self._limits, self._seconds)
        return self._reader.read(fetched.body, fetched.content_type)

    def _read(
        self, preset: Preset, recognised: str, samples: list[Sample], fetched: Fetched
    ) -> ForeignReading:
        counted = count(preset, samples, host_port(self._url), self._details)
        self.runs = frozenset(session.session_id for session in counted.sessions)
        why, unmatched = uncounted(counted), ""
        if counted.sessions:
            self._counted.add(preset.name)
        elif not declares(fetched.body, preset.recognised_by):
            why = why or other_names(fetched.body, f"preset {preset.name}", preset.counted)
            why = why or f"its page has nothing that preset {preset.name} counts"
            if preset.name not in self._counted:  # else it restarted, and was not used since
                unmatched = one_line(why)
        found = assembled(counted, self._url, fetched.began_at, process_at(self._url))
        return ForeignReading(preset, found, recognised, one_line(why), unmatched)


def host_port(url: str) -> str:
    """Return host and port of a target, to name a run after."""
    return urlsplit(url).netloc


def not_recognised(body: bytes) -> str:
    """Say what is on a page that is no known program's, and which presets there are."""
    names = dict.fromkeys(name.decode() for name in _METRIC.findall(body[:_LOOKED_AT]))
    presets = ", ".join(sorted(shipped()))
    if not names:
        return f"it shows no metrics so far; it is looked at for those of {presets}"
    seen = some(list(names), ", ", _NAMES_SAID)
    return f"it shows {seen}, by which no program is recognised; presets: {presets}"


def _recognised(match: Match) -> str:
    """Say by what a program was recognised, and on what of it no limit can hold."""
    preset = match.preset
    unknown = [
        f"{resource} ({preset.why_unmeasured(resource)})"
        for resource in COUNTED
        if resource not in preset.measured
    ]
    said = f"{match.metric} is on its page"
    return f"{said}; no limit is judged on {', '.join(unknown)}" if unknown else said


@cache
def _wanted() -> frozenset[str]:
    """Return what is looked at on a page that may be any program's."""
    presets = shipped().values()
    return frozenset(n for one in presets for n in (*one.counted, *one.recognised_by))


def _is_ours(body: bytes) -> bool:
    """Tell whether a page shows anything of otel-budget itself."""
    return body.startswith(_OWN) or b"\n" + _OWN in body
