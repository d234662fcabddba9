"""``otel-budget audit``: what is asked, page after page, and how entries look to people."""

import json
import time
from typing import Any

import pytest

from otel_budget.cli import audit_log
from otel_budget.cli.audit_log import entries, moment
from otel_budget.cli.render.audit import line
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.sidecar_client.request import AskError


class Asked:
    """Answers as a sidecar with a log of five entries."""

    url = "http://sidecar"

    def __init__(self, answer: object = None) -> None:
        """Answer that instead, if it is given."""
        self.paths: list[str] = []
        self._answer = answer

    def get(self, path: str) -> bytes:
        """Return a page of two."""
        self.paths.append(path)
        if self._answer is not None:
            return json.dumps(self._answer).encode()
        after = int(path.partition("after=")[2] or 0)
        found = [{"number": n, "body": {}} for n in range(1, 6) if n > after][:2]
        following = found[-1]["number"] if after < 3 else None
        return json.dumps({"entries": found, "next_after": following}).encode()


def listed(asked: Asked, **query: object) -> list[dict[str, Any]]:
    """Return what the log has."""
    return list(entries(asked, query))  # type: ignore[arg-type] # it answers alike


def test_all_pages_are_asked_for() -> None:
    asked = Asked()
    assert [one["number"] for one in listed(asked, session="a", kind=None)] == [1, 2, 3, 4, 5]
    assert asked.paths[0] == f"/v1/audit?session=a&limit={audit_log.PAGE}"
    assert asked.paths[-1].endswith("after=4")


@pytest.mark.parametrize("answer", [[], {}, {"entries": 5, "next_after": None}, "x",
                                    {"entries": [{"number": 1}], "next_after": None}])  # fmt: skip
def test_what_is_no_page_of_a_log_is_said(answer: object) -> None:
    with pytest.raises(AskError, match="does not answer like a sidecar"):
        listed(Asked(answer))


def test_moments_are_ago_or_written_out() -> None:
    assert moment("--at", None) is None
    assert moment("--at", "1h") == pytest.approx(time.time() - 3600, abs=5)
    assert moment("--at", "1000000000.5") == 1_000_000_000.5
    assert moment("--at", "2001-09-09T01:46:40Z") == 1_000_000_000.0
    for wrong in ("yesterday", "2001-13-01", ""):
        with pytest.raises(InvalidValueError):
            moment("--at", wrong)


@pytest.mark.parametrize("body", [
    {}, {"verdict": 5, "before": [], "run": None}, {"verdict": {"would": "x"}}, {"limits": 5},
    {"event": "a\nb\x1b[31m"}, {"event": "taken", "revision": "\n"},
])  # fmt: skip
@pytest.mark.parametrize("kind", ["verdict", "order", "configuration", "sidecar", "new\nkind"])
def test_whatever_is_in_an_entry_is_one_printable_line(kind: str, body: object) -> None:
    text = line({"at": "2026\n", "kind": kind, "session_id": "a\x1bb", "body": body})
    assert text.isprintable()


def test_an_order_names_who_gave_it_and_why() -> None:
    body = {"event": "limits", "reason": "worth it", "by": "ann", "until": "later",
            "limits": {"tokens": 5, "cost": None}}  # fmt: skip
    text = line({"at": "now", "kind": "order", "session_id": "run-1", "body": body})
    assert text.endswith("run-1: limits by ann, until later: tokens 5, cost none: worth it")


def test_a_top_up_is_told_in_plain_words() -> None:
    body = {
        "event": "given", "group": {"user": "ann"}, "amounts": {"cost": "5", "tokens": 2},
        "reason": "release", "by": "", "until": None, "key": "k",
    }  # fmt: skip
    told = line({"at": "now", "kind": "top_up", "budget": "day", "body": body})
    assert told.endswith(
        "day: given: group {user=ann}, amounts {cost=5, tokens=2}, reason release, key k"
    )
