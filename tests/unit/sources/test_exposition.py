"""Pages of a target, read one after the other."""

import pytest
from prometheus_client.exposition import choose_encoder

from otel_budget import semconv
from otel_budget.sources.exposition import ACCEPT, ExpositionError, PageLimits, PageReader
from tests.support.exposition import line, page

TOKENS = semconv.SESSION_TOKENS
WANTED = [TOKENS.name]


def reader(limit: int = 1000, seconds: float = 60.0) -> PageReader:
    """Return a reader that knows no series."""
    return PageReader(WANTED, PageLimits(samples=limit), seconds)


def read(pages: PageReader, text: str) -> list[tuple[dict[str, str], float, str | None]]:
    """Return labels, value and declared type of what is wanted."""
    found = pages.read(text.encode(), "text/plain; version=0.0.4")
    assert {sample.name for sample in found} <= set(WANTED)
    return [(dict(sample.labels), sample.value, sample.declared) for sample in found]


@pytest.mark.parametrize(
    "value", ["5", "5.0", "1e3", "1E+3", "+5", ".5", "NaN", "+Inf", "-Inf", "-1", "9" * 400]
)
def test_a_page_reads_the_same_the_second_time(value: str) -> None:
    """However its values are written, and although its series are known by then."""
    pages = reader()
    text = page(line(TOKENS, 1, "run-1"), line(TOKENS, value, "run-2", model='a \\"}{ 1'))
    first = read(pages, page(line(TOKENS, 2, "run-1"), line(TOKENS, 3, "run-2")))
    assert [value for _, value, _ in first] == [2, 3]
    once, twice = read(pages, text), read(pages, text)
    assert repr(once) == repr(read(reader(), text))
    assert repr(once) == repr(twice)


def test_a_series_that_is_known_gets_its_new_value() -> None:
    """And its new type."""
    pages = reader()
    read(pages, page(line(TOKENS, 5, "run-1")))
    text = page(line(TOKENS, 6, "run-1"), typed=False)
    assert read(pages, text) == [({semconv.SESSION_ID: "run-1"}, 6, None)]


@pytest.mark.parametrize("value", ["", "many", "1_000", "5 6 7x", "1.2.3", "0x10", "\u0665"])
def test_a_bad_value_is_refused_also_where_the_series_is_known(value: str) -> None:
    """A page is good as a whole, or not at all."""
    pages = reader()
    for known in (False, True):
        with pytest.raises(ExpositionError, match="not a Prometheus exposition"):
            read(pages if known else reader(), page(line(TOKENS, value, "run-1")))
        read(pages, page(line(TOKENS, 5, "run-1")))


def test_other_metrics_are_looked_at_and_left() -> None:
    """Comments and blank lines too."""
    text = '# a comment\n\npython_info{a="}"} 1\nup 1 1700000000000\n' + page(line(TOKENS, 5, "a"))
    assert len(read(reader(), text)) == 1


def test_a_name_in_quotes_inside_the_braces_is_understood() -> None:
    """As newer libraries may write it."""
    text = f'{{"{TOKENS.name}",{semconv.SESSION_ID}="run-1"}} 5\n'
    assert read(reader(), text) == [({semconv.SESSION_ID: "run-1"}, 5, None)]


@pytest.mark.parametrize("end", ["\u2028", "\x0b", "\x85", "\x1c"])
def test_only_a_line_feed_ends_a_line(end: str) -> None:
    """A label value may hold what Python takes for the end of a line."""
    ((labels, value, _),) = read(reader(), page(line(TOKENS, 5, "run-1", model=f"a{end}b")))
    assert (labels["model"], value) == (f"a{end}b", 5)


def test_a_page_that_takes_too_long_is_refused_and_the_next_is_quicker() -> None:
    """What was read of it is known by then."""
    pages = reader(limit=10_000, seconds=0.0)
    with pytest.raises(ExpositionError, match="takes more than 0 s to read"):
        read(pages, page(*(line(TOKENS, n, f"run-{n}") for n in range(300))))
    pages._seconds = 60.0
    assert len(pages._known) > 200
    assert len(read(pages, page(line(TOKENS, 1, "run-1")))) == 1


def test_series_that_are_gone_are_forgotten() -> None:
    """Else many short runs would fill the memory."""
    pages = reader()
    for n in range(50):
        read(pages, page(line(TOKENS, n, f"run-{n}")))
    assert len(pages._known) == 1


def test_prometheus_client_is_asked_for_its_text_format() -> None:
    """Whatever else it takes: OpenMetrics is slower by far."""
    assert choose_encoder(ACCEPT)[1].startswith("text/plain; version=0.0.4")
