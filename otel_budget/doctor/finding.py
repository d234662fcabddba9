"""What was found of one link of the chain."""

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
    message: str
    """What was seen, with the figures."""
    advice: str = ""
    """What to do; empty where there is nothing to do."""

    def in_words(self) -> str:
        """Return it as one line, or two, for a terminal."""
        # What others wrote is in it: addresses, errors, session ids.
        line = f"{self.state:<8} {self.link:<11} {one_line(self.message)}"
        return f"{line}\n{'':21}{one_line(self.advice)}" if self.advice else line

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(
            {
                "link": self.link,
                "state": str(self.state),
                "said": self.message,
                "advice": self.advice,
            }
        )


def ok(link: str, message: str) -> Finding:
    """Return a link that holds."""
    return Finding(link, State.OK, message)


def warning(link: str, message: str, advice: str) -> Finding:
    """Return a link that holds, and may not always."""
    return Finding(link, State.WARNING, message, advice)


def broken(link: str, message: str, advice: str) -> Finding:
    """Return a link that does not hold."""
    return Finding(link, State.BROKEN, message, advice)


def counted(number: float, noun: str) -> str:
    """Return a number with its noun, which has a regular plural."""
    return f"{number:,.0f} {noun}" if number == 1 else f"{number:,.0f} {noun}s"
