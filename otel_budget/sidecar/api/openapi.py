"""The OpenAPI 3.1 description of the HTTP API, kept by hand; a test holds it against the routes."""

from __future__ import annotations

from typing import Any, Final

from otel_budget.core import sse
from otel_budget.core.override import OverrideKind
from otel_budget.sidecar.api import examples, problem, schemas

Json = dict[str, Any]

VERDICTS, SESSIONS, OPERATIONS = "verdicts", "sessions", "operations"
TAGS: Final = {
    VERDICTS: "Whether runs may go on: what a run, its supervisor or a gateway asks for.",
    SESSIONS: "One run and what operators ordered for it; acting takes the admin token.",
    OPERATIONS: "The sidecar itself: metrics, health, this description.",
}


def _response(description: str, media_type: str, schema: Json, example: Any) -> Json:
    content = {media_type: {"schema": schema, "example": example}}
    return {"description": description, "content": content}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _error(status: int, description: str, detail: str = "") -> Json:
    content = problem.body(status, detail or examples.PROBLEMS[status])
    return _response(description, problem.MEDIA_TYPE, _ref("Problem"), content)


def _later(error: Json) -> Json:
    """Say when it makes sense to ask again."""
    seconds = {"schema": {"type": "integer"}, "description": "Seconds.", "example": 10}
    return {**error, "headers": {"Retry-After": seconds}}


_BAD_REQUEST = _error(
    400, "A parameter or a body that is not allowed; detail names it and what is."
)
_NO_RUN = _error(404, "No such run is known, or it ended a while ago.")
_NOT_READY = _later(
    _error(503, "Nothing has been read from the source yet, or nothing judged of late.")
)
#: Of every operation but the health checks.
_GUARDED: Json = {
    "401": {
        **_error(401, "A token is needed, or this one is not known."),
        "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    },
    "421": _error(421, "Asked for another host than this machine, as a page in a browser may."),
    "431": _error(431, "Line and headers of the request are too large."),
}
_ACTED: Json = {
    "200": _response(
        "Done and stored: the verdict since, and what the order changed.",
        "application/json",
        _ref("Ordered"),
        examples.CAME_OF_IT,
    ),
    "400": _BAD_REQUEST,
    **_GUARDED,
    "403": _error(403, "The token may only read, or the sidecar has no admin token."),
    "404": _NO_RUN,
    "409": _error(409, "The run is over."),
    "413": _error(413, "The body is too large."),
    "415": _error(415, "The body is not application/json."),
    "503": _error(503, "The order could not be stored, and does not hold."),
}
_ORDERING = {
    OverrideKind.STOP: (
        "Stop a run, whatever its numbers say",
        "It holds until it is released, or for for_seconds; a resumed run has it too.",
    ),
    OverrideKind.RELEASE: (
        "Take a stop back",
        "What else stops the run still does: notes in the answer say so.",
    ),
    OverrideKind.LIMITS: (
        "Hold a run to other ceilings than the configured ones, for a time",
        "The run's own limits stay beside them: the stricter counts.",
    ),
}
_TEXT: Json = {"type": "string"}


def _get(
    tag: str, operation: str, summary: str, more: str, responses: Json, *parameters: Json
) -> Json:
    described: Json = {
        "operationId": operation,
        "tags": [tag],
        "summary": summary,
        "description": more,
        "security": [{}, {"read": []}, {"admin": []}],
        "responses": {**responses, **_GUARDED},
    }
    if parameters:
        described["parameters"] = list(parameters)
    return {"get": described}


def _open(operation: str, summary: str, more: str, responses: Json) -> Json:
    """Describe a health check, which asks for nothing."""
    described = _get(OPERATIONS, operation, summary, more, {})["get"]
    responses = {**responses, "421": _GUARDED["421"]}
    return {"get": {**described, "security": [], "responses": responses}}


def _order(kind: OverrideKind, summary: str, more: str) -> Json:
    body = {"schema": schemas.ORDERED[kind], "example": examples.ORDERED[kind]}
    content = {"application/json": body}
    return {
        "post": {
            "operationId": f"{kind}Session",
            "tags": [SESSIONS],
            "summary": summary,
            "description": more,
            "security": [{"admin": []}],
            "parameters": [_SESSION],
            "requestBody": {"required": True, "content": content},
            "responses": _ACTED,
        }
    }


def _parameter(name: str, where: str, description: str, schema: Json, example: Any) -> Json:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": schema,
        "example": example,
    }


def _session(where: str, description: str = "Names the run.") -> Json:
    return _parameter("session_id", where, description, schemas.SESSION_ID, examples.SESSION_ID)


_SESSION = _session("path")
_SESSIONS: Json = {"type": "array", "items": schemas.SESSION_ID, "maxItems": 100}
_FOLLOWING: Json = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "add": {"type": "array", "items": schemas.SESSION_ID},
        "remove": {"type": "array", "items": schemas.SESSION_ID},
    },
}
_UNKNOWN: Json = {
    "type": "object",
    "required": ["unknown"],
    "properties": {
        "unknown": {
            "type": "array",
            "description": "Runs of those added on which there is no verdict yet.",
            "items": schemas.SESSION_ID,
        },
    },
}
_NOT_LOOKED_AT: Json = {
    "type": "object",
    "required": ["unknown", "impossible"],
    "properties": {
        "unknown": {
            "type": "array",
            "description": "Runs that no target shows.",
            "items": schemas.SESSION_ID,
        },
        "impossible": {
            "type": "array",
            "description": "Runs of a source that reads all runs or none, at its own times.",
            "items": schemas.SESSION_ID,
        },
    },
}
_PATHS: Json = {
    "/v1/verdicts": _get(
        VERDICTS,
        "listVerdicts",
        "The present verdicts of all runs, in the order of their session ids",
        "Pages of up to 1,000; a run that ended stays for 10 minutes.",
        {
            "200": _response("One page.", "application/json", schemas.PAGE, examples.PAGE),
            "400": _BAD_REQUEST,
            "503": _NOT_READY,
        },
        _parameter("limit", "query", "Verdicts on a page.",
                   {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, 100),
        _parameter("cursor", "query", "The next_cursor of the page before.",
                   schemas.SESSION_ID, examples.SESSION_ID),
        _parameter("status", "query", "Only runs with this status.", _ref("Status"), "exceeded"),
        _parameter("session_id", "query", "Only these runs, on one page; `unknown` has the others.",
                   _SESSIONS, [examples.SESSION_ID]),
    ),
    "/v1/verdicts/{session_id}": _get(
        VERDICTS,
        "getVerdict",
        "The present verdict of one run",
        "Programs that only want to know whether to go on read action.",
        {
            "200": _response("The verdict.", "application/json", _ref("Verdict"), examples.VERDICT),
            "400": _BAD_REQUEST,
            "404": _NO_RUN,
            "503": _NOT_READY,
        },
        _SESSION,
    ),
    "/v1/stream": _get(
        VERDICTS,
        "streamVerdicts",
        "Verdicts as they change, as Server-Sent Events",
        "Resumes by Last-Event-ID; one stream may carry all runs.",
        {
            "200": _response(
                "`event: verdict`, `id:` the sequence, `data:` a Verdict on one line. What is "
                "current comes at once, changes as they happen, and each verdict again every third "
                "of its lease with the same sequence. Comments keep a quiet stream open.",
                "text/event-stream",
                _TEXT,
                examples.FRAME,
            ),
            "400": _BAD_REQUEST,
            "429": _later(_error(429, "Too many streams are open from this address.")),
        },
        _parameter("session_id", "query", "Only these runs.", _SESSIONS, [examples.SESSION_ID]),
        _parameter("Last-Event-ID", "header", "At once only what is newer than this sequence.",
                   {"type": "integer", "minimum": 0}, 42),
    ),
    "/v1/stream/{stream_id}": {
        "post": {
            "operationId": "followOthers",
            "tags": [VERDICTS],
            "summary": "Have an open stream on some runs be on others as well, or on some no more",
            "description": f"The stream's answer has its id in the header {sse.STREAM_HEADER}.",
            "security": [{}, {"read": []}, {"admin": []}],
            "parameters": [
                _parameter("stream_id", "path", "Names the stream.", _TEXT, examples.STREAM_ID),
            ],
            "requestBody": {"required": True, "content": {
                "application/json": {"schema": _FOLLOWING, "example": examples.FOLLOWING},
            }},
            "responses": {
                "200": _response("Done.", "application/json", _UNKNOWN, {"unknown": []}),
                "400": _BAD_REQUEST,
                **_GUARDED,
                "404": _error(404, "No such stream is open."),
                "413": _ACTED["413"],
                "415": _ACTED["415"],
                "429": _later(_error(429, "Too many runs are followed from this address.")),
            },
        }
    },
    "/v1/nudge": {
        "post": {
            "operationId": "nudge",
            "tags": [VERDICTS],
            "summary": "Have runs read and judged now, as they may be past a limit",
            "description": "Carries no numbers: the metrics stay the only truth. Of one run the "
            "answer is 204, of several 200.",
            "security": [{}, {"read": []}, {"admin": []}],
            "parameters": [
                {
                    **_parameter("session_id", "query", "The runs.", _SESSIONS,
                                 [examples.SESSION_ID]),
                    "required": True,
                },
            ],
            "responses": {
                "200": _response(
                    "Of several runs: the verdicts of all but these are of now.",
                    "application/json", _NOT_LOOKED_AT, {"unknown": [], "impossible": []},
                ),
                "204": {"description": "Its verdict is of now."},
                "400": _BAD_REQUEST,
                **_GUARDED,
                "404": _error(404, "No target is known to show it.", examples.NOT_SHOWN),
                "409": _error(409, "The source reads all runs or none, at its own times.",
                              examples.NOT_HASTENED),
                "429": _later(_error(429, "Too many runs are looked at already.", examples.BUSY)),
            },
        }
    },
    "/v1/sessions/{session_id}": _get(
        SESSIONS,
        "getSession",
        "The present verdict of one run, and what operators ordered",
        "Which stop and which ceilings hold, and who ordered them.",
        {
            "200": _response("It.", "application/json", _ref("Session"), examples.SESSION),
            "400": _BAD_REQUEST,
            "404": _NO_RUN,
        },
        _SESSION,
    ),
    **{f"/v1/sessions/{{session_id}}/{kind}": _order(kind, *texts)
       for kind, texts in _ORDERING.items()},
    "/metrics": _get(
        OPERATIONS,
        "getMetrics",
        "The sidecar's metrics for Prometheus",
        "docs/metrics.md has their names and meanings.",
        {"200": _response(
            "Prometheus text or OpenMetrics, as asked for.", "text/plain", _TEXT, examples.METRICS,
        )},
    ),
    "/-/healthy": _open(
        "getHealth",
        "Whether the process answers, and no tick hangs",
        "A restart helps with nothing else. Asks for no token and says nothing of any run.",
        {
            "200": _response("It does.", "text/plain", _TEXT, "healthy\n"),
            "503": _error(503, "A tick has hung for minutes."),
        },
    ),
    "/-/ready": _open(
        "getReadiness",
        "Whether the source was read at least once, and all runs judged within the lease",
        "Asks for no token; names no target.",
        {"200": _response("They were.", "text/plain", _TEXT, "ready\n"), "503": _NOT_READY},
    ),
    "/openapi.json": _get(
        OPERATIONS,
        "getDescription",
        "This description",
        "What programs that call this API are generated from.",
        {"200": _response(
            "OpenAPI 3.1.", "application/json", {"type": "object"}, {"openapi": "3.1.0"},
        )},
    ),
}  # fmt: skip


_SERVER: Json = {
    "url": "{scheme}://{address}",
    "description": "Where listen.address says; a proxy in front of it may add a path.",
    "variables": {
        "scheme": {"default": "http", "enum": ["http", "https"]},
        "address": {"default": "127.0.0.1:9465"},
    },
}


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
        "servers": [_SERVER],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": _PATHS,
        "components": {
            "schemas": {
                "Verdict": schemas.VERDICT,
                "Resource": schemas.RESOURCE,
                "Status": schemas.STATUS,
                "Session": schemas.SESSION,
                "Expired": schemas.EXPIRED,
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
