"""The OpenAPI 3.1 description of the HTTP API, kept by hand; a test holds it against the routes."""

from __future__ import annotations

from typing import Any

from otel_budget import semconv, wire
from otel_budget.model.checks import SESSION_ID_PATTERN
from otel_budget.model.verdict import Action, LimitStatus, Reason
from otel_budget.publish import problem

Json = dict[str, Any]

_TIME = {"type": "string", "format": "date-time"}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_MAYBE_SHARE = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_AMOUNT: Json = {
    "description": "Seconds, tokens or calls as a number; US dollars as a decimal string.",
    "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[0-9.E+-]+$"}],
}
_MAYBE_AMOUNT: Json = {"anyOf": [*_AMOUNT["anyOf"], {"type": "null"}]}
_SESSION_ID: Json = {"type": "string", "pattern": f"^{SESSION_ID_PATTERN.pattern}$"}
_ORIGIN: Json = {
    "description": "Whose limit counted.",
    "enum": ["session", "sidecar", None],
}

_RESOURCE: Json = {
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

_VERDICT: Json = {
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
        "policy_revision",
    ],
    "properties": {
        "version": {"const": wire.VERSION},
        "session_id": _SESSION_ID,
        "run_started_at": {
            **_MAYBE_NUMBER,
            "description": (
                "Start of the run that was judged, in Unix seconds, as the run exports it; null "
                "when it does not. Drop a verdict with another start than your own."
            ),
        },
        "run_state": {
            "description": (
                "What the run said it was doing when it was judged; null when it does not say. A "
                "verdict on a run that has ended (" + ", ".join(semconv.ENDED_STATES) + ") is "
                "history: it says nothing about another run under the same id."
            ),
            "enum": [*semconv.SESSION_STATES, None],
        },
        "action": {"enum": [str(action) for action in Action]},
        "status": {"$ref": "#/components/schemas/Status"},
        "reason": {"type": "string", "examples": [str(reason) for reason in Reason]},
        "message": {"type": "string", "description": "One line for people."},
        "resources": {
            "type": "object",
            "description": "By resource: " + ", ".join(semconv.RESOURCES) + "; others may come.",
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
        "lease_seconds": {"type": "number", "exclusiveMinimum": 0},
        "valid_until": {**_TIME, "description": "For people; programs count from receipt."},
        "sequence": {"type": "integer", "minimum": 1},
        "decision_id": {"type": "string"},
        "policy_revision": {"type": "string"},
    },
}  # fmt: skip

_PROBLEM: Json = {
    "type": "object",
    "description": "An error, as in RFC 9457.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}

_PAGE: Json = {
    "type": "object",
    "required": ["verdicts", "next_cursor"],
    "properties": {
        "verdicts": {"type": "array", "items": {"$ref": "#/components/schemas/Verdict"}},
        "next_cursor": {
            "type": ["string", "null"],
            "description": "Pass it as ?cursor= for the next page; null on the last.",
        },
    },
}


def _response(description: str, media_type: str, schema: Json) -> Json:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _error(description: str) -> Json:
    return _response(description, problem.MEDIA_TYPE, _ref("Problem"))


_BAD_REQUEST = _error("A parameter that is not allowed; detail names it and what is.")
_NOT_READY: Json = {
    **_error("Nothing has been read from the source yet."),
    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
}
_TEXT: Json = {"type": "string"}


def _get(operation: str, summary: str, responses: Json, *parameters: Json) -> Json:
    described: Json = {"operationId": operation, "summary": summary, "responses": responses}
    if parameters:
        described["parameters"] = list(parameters)
    return {"get": described}


def _parameter(name: str, where: str, description: str, schema: Json) -> Json:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": schema,
    }


_PATHS: Json = {
    "/v1/verdicts": _get(
        "listVerdicts",
        "The present verdicts of all runs, in the order of their session ids",
        {
            "200": _response("One page.", "application/json", _PAGE),
            "400": _BAD_REQUEST,
            "503": _NOT_READY,
        },
        _parameter("limit", "query", "Verdicts on a page.",
                   {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
        _parameter("cursor", "query", "The next_cursor of the page before.", _SESSION_ID),
        _parameter("status", "query", "Only runs with this status.", _ref("Status")),
    ),
    "/v1/verdicts/{session_id}": _get(
        "getVerdict",
        "The present verdict of one run",
        {
            "200": _response("The verdict.", "application/json", _ref("Verdict")),
            "400": _BAD_REQUEST,
            "404": _error("No such run is known, or it ended a while ago."),
            "503": _NOT_READY,
        },
        _parameter("session_id", "path", "Names the run.", _SESSION_ID),
    ),
    "/v1/stream": _get(
        "streamVerdicts",
        "Verdicts as they change, as Server-Sent Events",
        {
            "200": _response(
                "`event: verdict`, `id:` the sequence, `data:` a Verdict on one line. What is "
                "current comes at once, changes as they happen, and each verdict again every third "
                "of its lease with the same sequence. Comments keep a quiet stream open.",
                "text/event-stream",
                _TEXT,
            ),
            "400": _BAD_REQUEST,
        },
        _parameter("session_id", "query", "Only this run.", _SESSION_ID),
        _parameter("Last-Event-ID", "header", "At once only what is newer than this sequence.",
                   {"type": "integer", "minimum": 0}),
    ),
    "/metrics": _get(
        "getMetrics",
        "The sidecar's metrics for Prometheus",
        {"200": _response("Prometheus text or OpenMetrics, as asked for.", "text/plain", _TEXT)},
    ),
    "/-/healthy": _get(
        "getHealth",
        "Whether the process answers",
        {"200": _response("It does.", "text/plain", _TEXT)},
    ),
    "/-/ready": _get(
        "getReadiness",
        "Whether the source was read well at least once",
        {"200": _response("It was.", "text/plain", _TEXT), "503": _NOT_READY},
    ),
    "/openapi.json": _get(
        "getDescription",
        "This description",
        {"200": _response("OpenAPI 3.1.", "application/json", {"type": "object"})},
    ),
}  # fmt: skip


def document(version: str) -> Json:
    """Return the description as JSON types. version: of otel-budget."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "otel-budget sidecar",
            "version": version,
            "description": (
                "Tells autonomous agent runs whether to continue or to stop with what they have. "
                "Every error is application/problem+json."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _PATHS,
        "components": {
            "schemas": {
                "Verdict": _VERDICT,
                "Resource": _RESOURCE,
                "Status": {"enum": [str(status) for status in LimitStatus]},
                "Problem": _PROBLEM,
            }
        },
    }
