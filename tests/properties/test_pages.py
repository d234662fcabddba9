"""Pages read by what changed on them give what each gives when it is read alone, as a whole."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core.owner_labels import Details
from otel_budget.core.samples import Assembled
from otel_budget.sources.exposition import ExpositionError, PageLimits, PageReader
from otel_budget.sources.incremental.scrape_page import ScrapePage
from otel_budget.sources.session_assembly import assemble, needed
from otel_budget.sources.target_process import process_at

LIMITS = PageLimits(samples=40)
TARGET, AT = "http://a/metrics", 1000.0
#: All that can be read of a run.
DETAILS = Details(("tenant",), token_kinds=True)
NEEDED = needed(DETAILS)

values = st.sampled_from(["0", "1", "1.0", "2", "7.5", "1e3", "-1", "0.3", "9e300"])
odd = st.sampled_from(["NaN", "+Inf", "x", "1.2.3", "1 1700000000000", "1 ", "1\r", "1 -5", "1 2 3",
                       "1 1e12", '1 # {a="b"} 1', "1  1700000000000"])  # fmt: skip
stamps = st.sampled_from(["1700000000000", "1700000001000", "1700000000", "0"])
ids = st.sampled_from(["a", "b", "c", "not an id", ""])
names = st.sampled_from([*NEEDED, "python_info", "otel_budget_active_seconds"])
further = st.sampled_from([
    "", 'resource="tokens",', 'resource="cost",', 'state="running",', 'state="completed",',
    'model="m",phase="p",', 'phase="p",model="m",', 'tenant="t",team="x",',
    'token_type="input",', 'detail="cache_read",phase="p",', 'token_type="unspecified",',
])  # fmt: skip
series = st.builds('{}{{{}session_id="{}"}}'.format, names, further, ids)
comments = st.builds(
    "# TYPE {} {}".format, names, st.sampled_from(["counter", "counter", "gauge", "histogram"])
)


@st.composite
def page_rows(draw: st.DrawFn) -> list[list[str]]:
    """Return pages that have most of their lines, or series, from the page before."""
    value = st.one_of(values, odd) if draw(st.integers(0, 3)) == 0 else values
    stamped = draw(st.integers(0, 3))  # no line, hardly any, or most of them
    if stamped:
        some = [st.builds("{} {}".format, values, stamps)] * stamped
        value = st.one_of(value, *some)
    line = st.one_of(*[st.builds("{} {}".format, series, value)] * 3, comments)
    page = draw(st.lists(line, min_size=4, max_size=15))
    pages = [page]
    for _ in range(draw(st.integers(1, 4))):
        stays = draw(st.booleans())  # every series in its place
        page = [line for line in page if stays or draw(st.integers(0, 9))]
        for place, text in enumerate(page):
            before = text[: text.rfind("}") + 1]
            if not text.startswith("#") and draw(st.booleans()):
                page[place] = f"{before} {draw(value)}"
        if not stays:
            page = draw(st.permutations(page)) if draw(st.integers(0, 3)) == 0 else page
            page += draw(st.lists(line, max_size=2))
        pages.append(page)
    return pages


@given(page_rows(), st.sampled_from([1, 3, 64]))
def test_page_after_page_it_is_what_each_page_says(pages: list[list[str]], together: int) -> None:
    quick = ScrapePage(TARGET, LIMITS, 60.0, DETAILS)
    with patch("otel_budget.sources.incremental.line_diff._MOST_TOGETHER", together):
        for page in pages:
            body = "".join(f"{line}\n" for line in page).encode()
            found = outcome(lambda: quick.read(body, "text/plain", AT))  # noqa: B023 - called at once
            assert found == outcome(lambda: alone(body))  # noqa: B023 - called at once


@pytest.mark.parametrize("value", ["1.2.3", ".", "1e", "1" * 20_000])
def test_a_known_series_with_no_number_refuses_the_page(value: str) -> None:
    """The series is read before, the value never was; and what comes after is read again."""
    text = f'{NEEDED[0]}{{session_id="a"}} '
    quick = ScrapePage(TARGET, LIMITS, 60.0, DETAILS)
    for line in (f"{text}1", f"{text}{value}", f"{text}2"):
        body = f"{line}\n".encode()
        assert outcome(lambda: quick.read(body, "text/plain", AT)) == outcome(lambda: alone(body))  # noqa: B023 - called at once


def test_a_page_that_changed_all_over_is_what_it_says() -> None:
    """To look after each line where both pages go on alike is given up."""
    text = NEEDED[0] + '{{session_id="{}"}} {}\n'
    before = "".join(text.format(number, 1) for number in range(3000)).encode()
    every = (text.format(f"{number}-" if number % 2 else number, 2) for number in range(3000))
    after = "".join(every).encode()
    quick = ScrapePage(TARGET, LIMITS._replace(samples=9000), 60.0, DETAILS)
    quick.read(before, "text/plain", AT)
    found = quick.read(after, "text/plain", AT)
    reader = PageReader(NEEDED, LIMITS._replace(samples=9000), 60.0)
    expected = assemble(reader.read(after, "text/plain"), TARGET, AT, process_at(TARGET), DETAILS)
    assert {s.session_id: s for s in found.sessions} == {s.session_id: s for s in expected.sessions}


def alone(body: bytes) -> Assembled:
    """Read a page by itself."""
    samples = PageReader(NEEDED, LIMITS, 60.0).read(body, "text/plain")
    return assemble(samples, TARGET, AT, process_at(TARGET), DETAILS)


def outcome(read: Callable[[], Assembled]) -> object:
    """Return what was found, in whatever order; or the error."""
    try:
        found = read()
    except ExpositionError as exc:
        return str(exc)
    return {session.session_id: session for session in found.sessions}, dict(found.dropped)
