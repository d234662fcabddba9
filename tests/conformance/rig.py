"""One kind of source with two real endpoints, and a sidecar's ledger and policy behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from otel_budget.ledger.ledger import Ledger
from otel_budget.model.reading import Reading
from otel_budget.model.verdict import Verdict
from otel_budget.policy.judge import Rules, judge_balance
from otel_budget.sources.base import Clock, Source
from tests.exposition import Exposition


@dataclass(frozen=True)
class Rig:
    """One kind of source, and the two endpoints it looks at."""

    make: Callable[[Clock], Source]
    broken: Callable[[Clock], Source]
    """Makes one for when the endpoints hang up: of a server that then does not answer either."""
    endpoints: tuple[Exposition, ...]
    ids: tuple[str, ...]
    """What the source calls each endpoint."""
    through_prometheus: bool

    def put(self, *texts: str | None) -> None:
        """Let the endpoints show this, and wait until a source may see it."""
        padded = (*texts, "")[: len(self.endpoints)]
        for endpoint, text in zip(self.endpoints, padded, strict=True):
            endpoint.show(text)
        if self.through_prometheus:
            for endpoint in self.endpoints:
                endpoint.wait_until_asked(2)  # when asked again, the first answer is stored

    def show(self, *texts: str | None) -> Reading:
        """Let the endpoints show this, and return what a new source then reads."""
        self.put(*texts)
        with self.follow() as follower:
            return follower.read()

    @contextmanager
    def follow(self, clock: Clock = time.time) -> Iterator[Follower]:
        """Follow the endpoints with one source."""
        with asyncio.Runner() as runner:
            follower = Follower(self, runner, clock)
            try:
                yield follower
            finally:
                runner.run(follower.source.close())


class Follower:
    """A source, and the ledger of what it showed."""

    def __init__(self, rig: Rig, runner: asyncio.Runner, clock: Clock) -> None:
        """Have seen nothing."""
        self._rig, self._runner, self.clock = rig, runner, clock
        self.source, self.ledger = rig.make(clock), Ledger()

    def read(self) -> Reading:
        """Read once, and keep the books."""
        reading = self._runner.run(self.source.read())
        self.ledger.apply(reading)
        return reading

    def see(self, *texts: str | None) -> Reading:
        """Let the endpoints show this, and read it."""
        self._rig.put(*texts)
        return self.read()

    def verdict(self, session_id: str, rules: Rules) -> Verdict:
        """Judge a run as of now."""
        now = self.clock()
        return judge_balance(self.ledger.balance(self.ledger.accounts[session_id], now), rules, now)

    def used(self, session_id: str) -> dict[str, object]:
        """Return what a run has used, by resource."""
        return dict(self.ledger.accounts[session_id].totals())
