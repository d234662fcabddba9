"""A /metrics page, ours or another program's: does it show runs, and does the sidecar know them?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.samples import Assembled
from otel_budget.doctor.finding import broken, counted, ok, warning
from otel_budget.errors import InvalidValueError
from otel_budget.presets.counting import count
from otel_budget.presets.detection import detect
from otel_budget.presets.loader import shipped
from otel_budget.sdk.sidecar_client.address import Credentials, SidecarAddress
from otel_budget.sdk.sidecar_client.request import Asker, AskError
from otel_budget.sources.exposition import ACCEPT, ExpositionError, PageLimits, PageReader
from otel_budget.sources.foreign_page import host_port
from otel_budget.sources.session_assembly import NEEDED, assemble

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from otel_budget.core.observation import RunObservation
    from otel_budget.core.quantities import Number
    from otel_budget.core.samples import Sample
    from otel_budget.doctor.finding import Finding
    from otel_budget.presets.model import Preset

#: Seconds between two looks at one page.
BETWEEN: Final = 1.0
_SHOWN: Final = 3


def look_at(url: str, sidecar: Asker, wait: float) -> Iterator[Finding]:
    """Yield how an agent's page is. wait: seconds that the sidecar may take to catch up."""
    try:
        first = _read(url)
        time.sleep(BETWEEN)
        second = _read(url)
        foreign = None if second.sessions else _foreign(url)
    except (AskError, ExpositionError, InvalidValueError) as exc:
        advice = (
            "is the run up, and does it serve metrics there (OTEL_METRICS_EXPORTER=prometheus)?"
        )
        yield broken("page", f"scrape failing: {exc}", advice)
        return
    if foreign is not None:
        yield from _of_another_program(url, foreign, sidecar, wait)
        return
    if not second.sessions:
        text = f"series missing: {url} shows no run of otel-budget"
        advice = "`otel-budget read URL` tells what it shows; another program needs a preset"
        yield broken("page", text, advice)
        return
    yield ok("page", f"{url} shows {counted(len(second.sessions), 'run')}")
    yield from _sound(url, first, second)
    yield from _known(first, sidecar, wait)


def shows_runs(url: str) -> bool:
    """Tell whether a page is there, with runs of otel-budget, or of another program's kind."""
    try:
        return bool(_read(url).sessions) or _foreign(url) is not None
    except (AskError, ExpositionError, InvalidValueError):
        return False


def _read(url: str) -> Assembled:
    return assemble(_samples(url, NEEDED), url, time.time())


def _samples(url: str, names: Collection[str]) -> Sequence[Sample]:
    """Return a page's samples with these names. Raises AskError, ExpositionError."""
    # Without the sidecar's token: it is not for the page.
    asker = Asker(url, SidecarAddress.parse(url, Credentials()))
    answer = asker.ask("GET", "", accept=ACCEPT)
    reader = PageReader(names, PageLimits(), 10.0)
    return reader.read(answer.body, answer.headers.get("content-type", ""))


class _Foreign(NamedTuple):
    """A page of another program."""

    preset: Preset
    runs: tuple[str, ...]


def _foreign(url: str) -> _Foreign | None:
    """Return what is known of a page that another program shows; None if nothing is."""
    presets = shipped().values()
    names = {name for one in presets for name in (*one.names, *one.recognised_by)}
    samples = _samples(url, names)
    matches = detect(presets, samples)
    if not matches:
        return None
    found = count(matches[0].preset, samples, host_port(url))
    return _Foreign(matches[0].preset, tuple(sorted(run.session_id for run in found.sessions)))


def _of_another_program(
    url: str, foreign: _Foreign, sidecar: Asker, wait: float
) -> Iterator[Finding]:
    """Yield whether the sidecar knows the runs of another program's page."""
    preset, runs = foreign
    text = f"{url} is {preset.title}'s (preset {preset.name}), with {counted(len(runs), 'run')}"
    if not runs:
        yield warning("page", text, "has the program made a call yet?")
        return
    yield ok("page", text)
    until = time.monotonic() + wait
    while unknown := [run for run in runs if not _is_known(run, sidecar)]:
        if time.monotonic() >= until:
            said = f"the sidecar knows nothing of {len(unknown)} of {len(runs)} runs: {unknown[0]}"
            advice = (
                f"is {url} among its targets, recognised as {preset.name} (its log says), or with "
                f"`preset: {preset.name}`?"
            )
            yield broken("verdict", said, advice)
            return
        time.sleep(BETWEEN)
    yield ok("verdict", "the sidecar has a verdict on each of them")


def _is_known(run: str, sidecar: Asker) -> bool:
    try:
        sidecar.get(f"/v1/verdicts/{quote(run, safe='')}")
    except AskError:
        return False
    return True


def _sound(url: str, first: Assembled, second: Assembled) -> Iterator[Finding]:
    if second.dropped.get(semconv.DUPLICATE):
        text = f"duplicated series: {second.dropped[semconv.DUPLICATE]} on {url} come twice"
        yield warning("page", text, "is a registry, or a reader, installed twice?")
    for reason in (semconv.IMPLAUSIBLE, semconv.BAD_TYPE, semconv.BAD_SESSION_ID):
        if second.dropped.get(reason):
            text = f"{second.dropped[reason]} samples on {url} are refused: {reason}"
            yield warning("page", text, "`otel-budget read URL` shows what counts")
    before = _counters(first)
    lower = [key[0] for key, value in _counters(second).items() if value < before.get(key, value)]
    if lower:
        text = f"delta temporality: counters went down within {BETWEEN:g} s: {_some(lower)}"
        yield broken("page", text, "export cumulative counters; or was the run just restarted?")


def _known(first: Assembled, sidecar: Asker, wait: float) -> Iterator[Finding]:
    """Yield whether the sidecar has caught up with what a page showed."""
    behind: Mapping[str, str] = {}
    until = time.monotonic() + wait
    while True:
        behind = {s.session_id: why for s in first.sessions if (why := _behind(s, sidecar))}
        if not behind or time.monotonic() >= until:
            break
        time.sleep(BETWEEN)
    if not behind:
        yield ok("verdict", "the sidecar's verdicts have at least what the page showed")
        return
    text = f"{len(behind)} of {len(first.sessions)} runs: " + "; ".join(
        f"{session_id} {why}" for session_id, why in list(behind.items())[:_SHOWN]
    )
    yield broken(
        "verdict", text, "is this page among the targets of the sidecar, or of its Prometheus?"
    )


def _behind(session: RunObservation, sidecar: Asker) -> str:
    """Return how the sidecar's verdict on a run is behind its page; empty if it is not."""
    try:
        text = sidecar.get(f"/v1/verdicts/{quote(session.session_id, safe='')}")
        verdict = verdict_json.from_json(text)
    except AskError as exc:
        return exc.problem
    except InvalidValueError as exc:
        return f"has a verdict that cannot be read: {exc}"
    visible: dict[str, Number] = {}
    for (resource, _), value in session.counters.items():
        visible[resource] = visible.get(resource, 0) + value  # type: ignore[operator]
    for resource, value in visible.items():
        state = verdict.resources.get(resource)
        if state is None or state.used < value:
            seen = "nothing" if state is None else state.used
            return f"is stale: {resource} are {value} on the page, {seen} in the verdict"
    return ""


def _counters(page: Assembled) -> dict[tuple[str, str, str], Number]:
    return {
        (session.session_id, *key): value
        for session in page.sessions
        for key, value in session.counters.items()
    }


def _some(names: list[str]) -> str:
    found = list(dict.fromkeys(names))
    more = len(found) - _SHOWN
    return ", ".join(found[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
