"""The page of a process, made once for all who ask at the same time, and not made all the time.

Any client that may nudge a sidecar can have a page asked for again and again, and making one takes
the processor from the agent's own work. So one that was made a moment ago, by what making it took,
is given again, unless something has happened since that a reader waits for: a run began, ended, or
came to a line at which it asks the sidecar to look.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otel_budget.sdk.metrics.collector import SCRAPER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_budget.sdk.metrics.collector import RunCollector

    App = Callable[..., Iterable[bytes]]

#: For so many times as long as it took to make a page, it may be given again: a tenth of the time
#: goes into pages at most.
_TIMES: Final = 9.0
#: Seconds, at most: who scrapes each second is always given a new one.
_USUAL: Final = 0.8
#: Times that one page was given from which on more ask than scrape, and seconds for which it may be
#: given then, at most.
_CROWD: Final = 3
_CROWDED: Final = 5.0
#: Seconds that a request takes at least, beside the page.
_LEAST: Final = 0.003
#: Seconds to wait for a new page rather than be given the one before: who asks again at once is to
#: have less to ask.
_WAIT: Final = 0.1
#: What people look at a page with: such a reader may not come again, so it is not waited for.
_BY_HAND: Final = ("curl/", "Wget/", "Mozilla/")


@dataclass(slots=True)
class _Page:
    """A page that was made. Moments are monotonic seconds."""

    asked: tuple[object, ...]
    """What was asked for; another format is another page."""
    begun_at: float
    news: int
    """Of the runs, as of then."""
    ends: int
    made_at: float = 0.0
    given: int = 0
    status: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)

    def stands(self, now: float) -> float:
        """Return for how many seconds it may still be given to a reader who asks now."""
        most = _CROWDED if self.given >= _CROWD else _USUAL
        took = max(_LEAST, self.made_at - self.begun_at)
        return self.made_at + min(_TIMES * took, most) - now


class Rendering:
    """A WSGI application that makes one page at a time: no reader of the SDK's bears two."""

    def __init__(
        self,
        app: App,
        sessions: RunCollector,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Have made none. app: makes the pages. sessions: the runs on them."""
        self._pause = pause
        self._app, self._sessions, self._monotonic = app, sessions, monotonic
        self._turn = threading.Lock()
        self._newest: _Page | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        scraper, came_at = _scraper(environ), self._monotonic()
        asked = tuple(
            environ.get(name)
            for name in ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "HTTP_ACCEPT",
                         "HTTP_ACCEPT_ENCODING")
        )  # fmt: skip
        with self._turn:
            page = self._newest
            if page is None or page.asked != asked or not self._does(page, came_at):
                page = self._newest = self._make(environ, asked, scraper)
            else:
                self._sessions.shown_to(scraper, page.ends)
            page.given += 1
        start_response(page.status, page.headers)
        return page.body

    def _does(self, page: _Page, came_at: float) -> bool:
        """Tell whether a page may be given to a reader who came then; may take a while."""
        if page.begun_at >= came_at:
            return True
        left = page.stands(self._monotonic())
        if left <= 0 or page.news != self._sessions.news:
            return False
        self._pause(min(left, _WAIT))
        return left > _WAIT and page.news == self._sessions.news

    def _make(
        self, environ: dict[str, Any], asked: tuple[object, ...], scraper: str | None
    ) -> _Page:
        page = _Page(asked, self._monotonic(), self._sessions.news, self._sessions.ends)

        def start(status: str, headers: list[tuple[str, str]]) -> None:
            page.status, page.headers = status, headers

        token = SCRAPER.set(scraper)
        try:
            page.body = list(self._app(environ, start))
        finally:
            SCRAPER.reset(token)
        page.made_at = self._monotonic()
        return page


def _scraper(environ: dict[str, Any]) -> str | None:
    agent = str(environ.get("HTTP_USER_AGENT", ""))
    if not agent or agent.startswith(_BY_HAND):
        return None
    return f"{environ.get('REMOTE_ADDR', '')} {agent}"
