"""Examples of what the HTTP API takes and gives; a test holds each against its schema."""

from __future__ import annotations

import json
from typing import Any, Final

from otel_budget import semconv
from otel_budget.core import sse, verdict_json
from otel_budget.core.override import OverrideKind

Json = dict[str, Any]

SESSION_ID: Final = "nightly-refactoring-17"

VERDICT: Final[Json] = {
    "version": verdict_json.VERSION,
    "session_id": SESSION_ID,
    "run_started_at": 1767268800.25,
    "run_state": semconv.SESSION_STATES[0],
    "action": "stop",
    "status": "approaching",
    "reason": "approaching_limit",
    "message": ("tokens at 83.1% of 1,000,000 with progress 40%: stop and keep partial results"),
    "resources": {
        semconv.TOKENS: {
            "used": 831000,
            "limit": 1000000,
            "warning_at": 800000,
            "remaining": 169000,
            "ratio": 0.831,
            "status": "approaching",
            "limit_from": "session",
            "exhaustion_seconds": 512.0,
        }
    },
    "headroom": {semconv.TOKENS: 169000},
    "budgets": [],
    "progress": 0.4,
    "completion_threshold": 0.8,
    "data_at": "2026-01-01T12:00:00.120Z",
    "evaluated_at": "2026-01-01T12:00:00.131Z",
    "lease_seconds": 15,
    "valid_until": "2026-01-01T12:00:15.131Z",
    "sequence": 42,
    "decision_id": "5a0f6c1e3d2b4789",
    "policy_revision": "c41d09e2",
    "unjudged": [],
}
PAGE: Final[Json] = {"verdicts": [VERDICT], "expired": [], "next_cursor": None}
STREAM_ID: Final = "1dF3kqJ0Qm6s0bYw5Zx2Tg"
FOLLOWING: Final[Json] = {"add": [SESSION_ID], "remove": []}
FRAME: Final = sse.frame(sse.EVENT_VERDICT, json.dumps(VERDICT), VERDICT["sequence"])

METRICS: Final = (
    f"# TYPE {semconv.VERDICT.name} gauge\n"
    f'{semconv.VERDICT.name}{{session_id="{SESSION_ID}"}} 0.0\n'
)

#: The body of each order.
ORDERED: Final[dict[OverrideKind, Json]] = {
    OverrideKind.STOP: {"reason": "runs in circles", "by": "ann"},
    OverrideKind.RELEASE: {"reason": "the loop is mended", "by": "ann"},
    OverrideKind.LIMITS: {
        "reason": "a larger repository than usual",
        "by": "ann",
        "for_seconds": 3600,
        "max_tokens": 3000000,
        "max_cost_usd": "40.00",
    },
}
_ORDER: Final[Json] = {
    "kind": str(OverrideKind.STOP),
    **ORDERED[OverrideKind.STOP],
    "at": "2026-01-01T12:00:00.000Z",
    "until": None,
    "limits": {},
}
SESSION: Final[Json] = {"verdict": VERDICT, "stop": _ORDER, "limits": None, "orders": [_ORDER]}
CAME_OF_IT: Final[Json] = {**VERDICT, "changes": True, "notes": []}

#: The detail of each error by its status.
PROBLEMS: Final[dict[int, str]] = {
    400: "session_id: '../a' is not allowed: 1 to 128 characters out of A-Z a-z 0-9 . _ : @ -, "
    "the first one a letter or a digit",
    401: "a token is needed: send it as `Authorization: Bearer TOKEN`",
    403: "this token may only read; to act send the admin token",
    404: f"no run '{SESSION_ID}' is known here",
    409: f"run '{SESSION_ID}' has ended: completed",
    413: "the body has more than 65,536 bytes",
    415: "send the order as application/json",
    421: "asked for another host: ask for it by its loopback address, or localhost; the name of a "
    "proxy in front of it goes into listen.allowed_hosts",
    429: "1,000 streams are open from 127.0.0.1 already: close some, or ask by GET",
    431: "line and headers of the request have more than 16,384 bytes",
    503: "nothing has been read from the source yet; the log and /metrics say why",
}
NOT_SHOWN: Final = f"no target shows a run '{SESSION_ID}'"
NOT_HASTENED: Final = "this sidecar's source cannot be hastened"
BUSY: Final = "64 runs are looked at already"
