"""The JSON Schemas of what the HTTP API takes and gives, kept by hand like the description."""

from __future__ import annotations

from typing import Any, Final

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.override import (
    LONGEST,
    LONGEST_NAME,
    LONGEST_REASON,
    OverrideKind,
)
from otel_budget.core.quantities import COUNT, MONEY, MONEY_PATTERN, SECONDS
from otel_budget.core.resources import RESOURCES
from otel_budget.core.validation import LINE_PATTERN, MAX_COUNT, SESSION_ID_PATTERN
from otel_budget.core.verdict import Action, LimitStatus, Reason

Json = dict[str, Any]

_TIME = {"type": "string", "format": "date-time"}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_MAYBE_SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_AMOUNT: Json = {
    "description": "Seconds, tokens or calls as a number; US dollars as a decimal string.",
    "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[0-9.E+-]+$"}],
}
_MAYBE_AMOUNT: Json = {"anyOf": [*_AMOUNT["anyOf"], {"type": "null"}]}
SESSION_ID: Json = {"type": "string", "pattern": f"^{SESSION_ID_PATTERN.pattern}$"}
_ORIGIN: Json = {
    "description": "Whose limit counted.",
    "enum": ["session", "sidecar", "operator", None],
}

RESOURCE: Json = {
    "type": "object",
    "description": "One resource of the run: what is used, of what.",
    "required": ["used", "limit", "remaining", "ratio", "status", "limit_from"],
    "properties": {
        "used": _AMOUNT,
        "limit": {**_MAYBE_AMOUNT, "description": "The limit that counted; null is unlimited."},
        "warning_at": {
            **_MAYBE_AMOUNT,
            "description": "The smallest use that counts as approaching; null when unlimited.",
        },
        "remaining": {**_MAYBE_AMOUNT, "description": "Never below 0; null when unlimited."},
        "ratio": {**_MAYBE_NUMBER, "description": "Used over limit; null when unlimited."},
        "status": {"$ref": "#/components/schemas/Status"},
        "limit_from": _ORIGIN,
        "exhaustion_seconds": {
            **_MAYBE_NUMBER,
            "description": "Forecast seconds until the limit; null when it is not being spent.",
        },
        "at_least": {
            "type": "boolean",
            "description": (
                "True when part of the use is unknown (calls without a price, or without a token "
                "count): it is at least what is said. Absent otherwise."
            ),
        },
        "estimated": {
            "type": "boolean",
            "description": (
                "True when part of the use is an estimate: the run's own mean, for calls that did "
                "not say what they used. Absent otherwise."
            ),
        },
    },
}

VERDICT: Json = {
    "type": "object",
    "description": (
        "Continue or stop, why, and the numbers it came from. It may be trusted for lease_seconds "
        "from receipt; after that do what your own fail mode says. Accept keys, reasons and "
        "resources you do not know."
    ),
    "required": [
        "version", "session_id", "run_started_at", "run_state", "action", "status", "reason",
        "message", "resources", "headroom", "budgets", "progress", "completion_threshold",
        "data_at", "evaluated_at", "lease_seconds", "valid_until", "sequence", "decision_id",
        "policy_revision", "unjudged",
    ],
    "properties": {
        "version": {"const": verdict_json.VERSION},
        "session_id": SESSION_ID,
        "run_started_at": {
            **_MAYBE_NUMBER,
            "description": (
                "Start of the run that was judged, in Unix seconds, as the run exports it; null "
                "when it does not. Drop a verdict with another start than your own, unless yours "
                "is in also_started_at."
            ),
        },
        "also_started_at": {
            "type": "array",
            "items": {"type": "number"},
            "description": (
                "Starts of other runs of the same id that were judged together with it, because "
                "they were alive at the same time: the verdict is for each of them. Absent if "
                "there are none."
            ),
        },
        "run_state": {
            "description": (
                "What the run said it was doing when it was judged; null when it does not say. A "
                "verdict on a run that has ended (" + ", ".join(semconv.ENDED_STATES) + ") is "
                "history: it says nothing about another run under the same id. " + semconv.VANISHED
                + ": its target was taken away in order, or answers without it."
            ),
            "enum": [*semconv.RUN_STATES, None],
        },
        "action": {"enum": [str(action) for action in Action]},
        "status": {"$ref": "#/components/schemas/Status"},
        "reason": {"type": "string", "examples": [str(reason) for reason in Reason]},
        "message": {"type": "string", "description": "One line for people."},
        "resources": {
            "type": "object",
            "description": "By resource: " + ", ".join(RESOURCES) + "; others may come.",
            "additionalProperties": {"$ref": "#/components/schemas/Resource"},
        },
        "headroom": {
            "type": "object",
            "description": "How much more may be used before the status could change.",
            "additionalProperties": _AMOUNT,
        },
        "budgets": {
            "type": "array",
            "description": "Budgets shared with other runs; empty in this version.",
            "items": {"type": "object"},
        },
        "progress": _MAYBE_SHARE,
        "completion_threshold": {
            **_MAYBE_SHARE,
            "description": "Progress from which the run may finish when it is approaching a limit.",
        },
        "data_at": {"type": ["string", "null"], "format": "date-time"},
        "evaluated_at": _TIME,
        "lease_seconds": {
            "type": "number",
            "minimum": 0,
            "description": "What is left of the lease when it is sent.",
        },
        "valid_until": {**_TIME, "description": "For people; programs count from receipt."},
        "sequence": {"type": "integer", "minimum": 1},
        "decision_id": {"type": "string"},
        "policy_revision": {"type": "string"},
        "unjudged": {
            "type": "array",
            "description": (
                "Resources that are limited and that nothing exports: these limits cannot be "
                "judged. They are absent from resources."
            ),
            "items": {"type": "string"},
        },
    },
}  # fmt: skip

PROBLEM: Json = {
    "type": "object",
    "description": "An error, as in RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
    "additionalProperties": {"description": "Of a verdict past its lease, what Expired has."},
}

EXPIRED: Json = {
    "type": "object",
    "description": (
        "A run whose verdict is past its lease: nothing was judged since, and it says neither stop "
        "nor go on."
    ),
    "required": ["session_id", "last_action", "last_reason", "evaluated_at", "valid_until"],
    "properties": {
        "session_id": SESSION_ID,
        "last_action": {"enum": [str(action) for action in Action]},
        "last_reason": {"type": "string"},
        "evaluated_at": _TIME,
        "valid_until": _TIME,
    },
}
PAGE: Json = {
    "type": "object",
    "required": ["verdicts", "expired", "next_cursor"],
    "properties": {
        "verdicts": {"type": "array", "items": {"$ref": "#/components/schemas/Verdict"}},
        "expired": {
            "type": "array",
            "description": "Runs of this page whose verdict holds no more, whatever ?status= asks.",
            "items": {"$ref": "#/components/schemas/Expired"},
        },
        "unknown": {
            "type": "array",
            "description": "Runs named with ?session_id= that are not known here; absent without.",
            "items": SESSION_ID,
        },
        "next_cursor": {
            "type": ["string", "null"],
            "description": "Pass it as ?cursor= for the next page; null on the last.",
        },
    },
}

#: Without the halves of surrogate pairs: text in JSON has none, and many tools cannot read them.
_ONE_LINE = f"^{LINE_PATTERN.pattern}$".replace(r"\ud800-\udfff", "")
STATUS: Json = {"enum": [str(status) for status in LimitStatus]}

_REASON: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": LONGEST_REASON,
    "pattern": _ONE_LINE,
    "description": "One line, for people: the run is told, and the log.",
}
_BY: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": LONGEST_NAME,
    "pattern": _ONE_LINE,
    "description": "Who orders it, as they say.",
}
_FOR: Json = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": LONGEST,
    "description": "Seconds it holds; absent until it is taken back.",
}
_WHOLE: Json = {
    "description": "null is no ceiling.",
    "anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_COUNT}, {"type": "null"}],
}


def _ordering(description: str, required: list[str], properties: Json) -> Json:
    return {
        "type": "object",
        "description": description,
        "required": required,
        "additionalProperties": False,
        "properties": properties,
    }


_DOLLARS_OR_SECONDS: Json = {"type": "number", "minimum": 0, "maximum": MAX_COUNT}
_SECONDS: Json = {
    "description": "null is no ceiling.",
    "anyOf": [_DOLLARS_OR_SECONDS, {"type": "null"}],
}
_MONEY: Json = {
    "description": "US dollars, as a decimal string or a number; null is no ceiling.",
    "anyOf": [
        {"type": "string", "pattern": f"^{MONEY_PATTERN.pattern}$"},
        _DOLLARS_OR_SECONDS,
        {"type": "null"},
    ],
}
_CEILING: Final = {COUNT: _WHOLE, SECONDS: _SECONDS, MONEY: _MONEY}
_LIMITS: Json = {row.limit_key: _CEILING[row.quantity] for row in RESOURCES.values()}
#: What each order's body is.
ORDERED: Json = {
    OverrideKind.STOP: _ordering(
        "A stop, whatever the numbers say.",
        ["reason"],
        {"reason": _REASON, "by": _BY, "for_seconds": _FOR},
    ),
    OverrideKind.RELEASE: _ordering(
        "Takes a stop back.", ["reason"], {"reason": _REASON, "by": _BY}
    ),
    OverrideKind.LIMITS: {
        **_ordering(
            "Ceilings in place of the configured ones, for a time; without any, the configured "
            "ones hold again. A run's own limits stay.",
            ["reason"],
            {"reason": _REASON, "by": _BY, "for_seconds": _FOR, **_LIMITS},
        ),
        "dependentRequired": {name: ["for_seconds"] for name in _LIMITS},
    },
}

ORDER: Json = {
    "type": "object",
    "description": "An order as it was given.",
    "required": ["kind", "reason", "by", "at", "until", "limits"],
    "properties": {
        "kind": {"enum": [str(kind) for kind in OverrideKind]},
        "reason": {"type": "string"},
        "by": {"type": "string", "description": "Empty if they did not say."},
        "at": _TIME,
        "until": {"type": ["string", "null"], "format": "date-time"},
        "limits": {"type": "object", "additionalProperties": _MAYBE_AMOUNT},
    },
}
CAME_OF_IT: Json = {
    "description": "The verdict since an order, and what the order changed.",
    "allOf": [{"$ref": "#/components/schemas/Verdict"}],
    "required": ["changes", "notes"],
    "properties": {
        "changes": {
            "type": "boolean",
            "description": "False if the run may use as much, and as long, as before.",
        },
        "notes": {
            "type": "array",
            "description": "For people: why nothing changes, or what still stops the run.",
            "items": {"type": "string"},
        },
    },
}
_MAYBE_ORDER: Json = {"anyOf": [{"$ref": "#/components/schemas/Order"}, {"type": "null"}]}
SESSION: Json = {
    "type": "object",
    "required": ["verdict", "stop", "limits", "orders"],
    "properties": {
        "verdict": {"anyOf": [{"$ref": "#/components/schemas/Verdict"}, {"type": "null"}]},
        "expired": {"$ref": "#/components/schemas/Expired"},
        "stop": {**_MAYBE_ORDER, "description": "The stop that holds."},
        "limits": {**_MAYBE_ORDER, "description": "The other ceilings that hold."},
        "orders": {
            "type": "array",
            "description": "What was ordered for this run, the newest first.",
            "items": {"$ref": "#/components/schemas/Order"},
        },
    },
}
