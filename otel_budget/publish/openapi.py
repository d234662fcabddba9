"""The OpenAPI 3.1 description of the HTTP API, kept by hand; a test holds it against the routes."""

from __future__ import annotations

from typing import Any

from otel_budget.model.order import OrderKind
from otel_budget.publish import problem, schemas

Json = dict[str, Any]


def _response(description: str, media_type: str, schema: Json) -> Json:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _error(description: str) -> Json:
    return _response(description, problem.MEDIA_TYPE, _ref("Problem"))


_BAD_REQUEST = _error("A parameter or a body that is not allowed; detail names it and what is.")
_NO_RUN = _error("No such run is known, or it ended a while ago.")
_NOT_READY: Json = {
    **_error("Nothing has been read from the source yet, or nothing judged of late."),
    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
}
#: Of every operation but the health checks.
_GUARDED: Json = {
    "401": {
        **_error("A token is needed, or this one is not known."),
        "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    },
    "421": _error("Asked for another host than this machine, as a page in a browser may."),
    "431": _error("Line and headers of the request are too large."),
}
_ACTED: Json = {
    "200": _response(
        "Done and stored: the verdict since, and what the order changed.",
        "application/json",
        _ref("Ordered"),
    ),
    "400": _BAD_REQUEST,
    **_GUARDED,
    "403": _error("The token may only read, or the sidecar has no admin token."),
    "404": _NO_RUN,
    "409": _error("The run is over."),
    "413": _error("The body is too large."),
    "415": _error("The body is not application/json."),
}
_ORDERING = {
    OrderKind.STOP: "Stop a run, whatever its numbers say",
    OrderKind.RELEASE: "Take a stop back",
    OrderKind.LIMITS: "Hold a run to other ceilings than the configured ones, for a time",
}
_TEXT: Json = {"type": "string"}


def _get(operation: str, summary: str, responses: Json, *parameters: Json) -> Json:
    described: Json = {
        "operationId": operation,
        "summary": summary,
        "security": [{}, {"read": []}, {"admin": []}],
        "responses": {**responses, **_GUARDED},
    }
    if parameters:
        described["parameters"] = list(parameters)
    return {"get": described}


def _open(operation: str, summary: str, responses: Json) -> Json:
    """Describe a health check, which asks for nothing."""
    responses = {**responses, "421": _GUARDED["421"]}
    described = {"operationId": operation, "summary": summary, "security": []}
    return {"get": {**described, "responses": responses}}


def _order(kind: OrderKind, summary: str) -> Json:
    content = {"application/json": {"schema": schemas.ORDERED[kind]}}
    return {
        "post": {
            "operationId": f"{kind}Session",
            "summary": summary,
            "security": [{"admin": []}],
            "parameters": [_SESSION],
            "requestBody": {"required": True, "content": content},
            "responses": _ACTED,
        }
    }


def _parameter(name: str, where: str, description: str, schema: Json) -> Json:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": schema,
    }


_SESSION = _parameter("session_id", "path", "Names the run.", schemas.SESSION_ID)
_PATHS: Json = {
    "/v1/verdicts": _get(
        "listVerdicts",
        "The present verdicts of all runs, in the order of their session ids",
        {
            "200": _response("One page.", "application/json", schemas.PAGE),
            "400": _BAD_REQUEST,
            "503": _NOT_READY,
        },
        _parameter("limit", "query", "Verdicts on a page.",
                   {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
        _parameter("cursor", "query", "The next_cursor of the page before.", schemas.SESSION_ID),
        _parameter("status", "query", "Only runs with this status.", _ref("Status")),
    ),
    "/v1/verdicts/{session_id}": _get(
        "getVerdict",
        "The present verdict of one run",
        {
            "200": _response("The verdict.", "application/json", _ref("Verdict")),
            "400": _BAD_REQUEST,
            "404": _NO_RUN,
            "503": _NOT_READY,
        },
        _SESSION,
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
            "429": _error("Too many streams are open from this address."),
        },
        _parameter("session_id", "query", "Only this run.", schemas.SESSION_ID),
        _parameter("Last-Event-ID", "header", "At once only what is newer than this sequence.",
                   {"type": "integer", "minimum": 0}),
    ),
    "/v1/nudge": {
        "post": {
            "operationId": "nudge",
            "summary": "Have one run read and judged now, as it may be past a limit",
            "description": "Carries no numbers: the metrics stay the only truth.",
            "security": [{}, {"read": []}, {"admin": []}],
            "parameters": [
                {**_parameter("session_id", "query", "Names the run.", schemas.SESSION_ID),
                 "required": True},
            ],
            "responses": {
                "204": {"description": "Its verdict is of now."},
                "400": _BAD_REQUEST,
                **_GUARDED,
                "404": _error("No target is known to show it."),
                "409": _error("The source reads all runs or none, at its own times."),
                "429": _error("Too many runs are looked at already."),
            },
        }
    },
    "/v1/sessions/{session_id}": _get(
        "getSession",
        "The present verdict of one run, and what operators ordered",
        {
            "200": _response("It.", "application/json", _ref("Session")),
            "400": _BAD_REQUEST,
            "404": _NO_RUN,
        },
        _SESSION,
    ),
    **{f"/v1/sessions/{{session_id}}/{kind}": _order(kind, text)
       for kind, text in _ORDERING.items()},
    "/metrics": _get(
        "getMetrics",
        "The sidecar's metrics for Prometheus",
        {"200": _response("Prometheus text or OpenMetrics, as asked for.", "text/plain", _TEXT)},
    ),
    "/-/healthy": _open(
        "getHealth",
        "Whether the process answers",
        {"200": _response("It does.", "text/plain", _TEXT)},
    ),
    "/-/ready": _open(
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
                "Verdict": schemas.VERDICT,
                "Resource": schemas.RESOURCE,
                "Status": schemas.STATUS,
                "Session": schemas.SESSION,
                "Order": schemas.ORDER,
                "Ordered": schemas.CAME_OF_IT,
                "Problem": schemas.PROBLEM,
            },
            "securitySchemes": {
                "read": _token("One of listen.read_token_file, where the sidecar has it."),
                "admin": _token("One of listen.admin_token_file; it may read, too."),
            },
        },
    }


def _token(description: str) -> Json:
    return {"type": "http", "scheme": "bearer", "description": description}
