"""What was found out about one link of the chain."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from otel_budget.logs.text import one_line


class State(StrEnum):
    """How a link is."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One link, and how it is."""

    link: str
    """Its name, in the order of the chain: exporter, sidecar, token, source, …"""
    state: State
    said: str
    """What was seen, with the figures."""
    advice: str = ""
    """What to do; empty where there is nothing to do."""

    def in_words(self) -> str:
        """Return it as one line, or two, for a terminal."""
        # What others wrote is in it: addresses, errors, session ids.
        line = f"{self.state:<8} {self.link:<11} {one_line(self.said)}"
        return f"{line}\n{'':21}{one_line(self.advice)}" if self.advice else line

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(
            {
                "link": self.link,
                "state": str(self.state),
                "said": self.said,
                "advice": self.advice,
            }
        )


def ok(link: str, said: str) -> Finding:
    """Return a link that holds."""
    return Finding(link, State.OK, said)


def warning(link: str, said: str, advice: str) -> Finding:
    """Return a link that holds, and may not always."""
    return Finding(link, State.WARNING, said, advice)


def broken(link: str, said: str, advice: str) -> Finding:
    """Return a link that does not hold."""
    return Finding(link, State.BROKEN, said, advice)
