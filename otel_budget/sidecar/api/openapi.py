"""The OpenAPI 3.1 description of the API, generated from the operations of its topics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from otel_budget.sidecar.api import auth, request_body
from otel_budget.sidecar.api.problem import problem_answer
from otel_budget.sidecar.api.rendered import json_response
from otel_budget.sidecar.api.route import Access, Answer, Operation, Tag, operations_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema
    from starlette.requests import Request
    from starlette.responses import Response

_TAGS: Final = {
    Tag.VERDICTS: "Whether runs may go on: for a run, its supervisor or a gateway.",
    Tag.SESSIONS: "One run and its overrides by operators; acting takes the admin token.",
    Tag.BUDGETS: "Budgets that runs share; adding to one takes the admin token.",
    Tag.OPERATIONS: "The sidecar itself: metrics, health and this description.",
}
_SECURITY: Final[dict[Access, list[dict[str, list[str]]]]] = {
    Access.OPEN: [],
    Access.READ: [{}, {"read": []}, {"admin": []}],
    Access.ADMIN: [{"admin": []}],
}
_BAD_REQUEST: Final = problem_answer(
    400,
    "A parameter or the body is not allowed; `detail` names it and says what is.",
    "session_id: '../a' is not allowed: 1 to 128 characters from A-Z a-z 0-9 . _ : @ -, starting "
    "with a letter or digit",
)
_INFO: Final = {
    "title": "otel-budget sidecar",
    "description": (
        "Tells autonomous agent runs whether to continue or to stop with what they have. Every "
        "error is application/problem+json."
    ),
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}
_SERVER: Final = {
    "url": "{scheme}://{address}",
    "description": "The address is listen.address; a proxy in front of it may add a path.",
    "variables": {
        "scheme": {"default": "http", "enum": ["http", "https"]},
        "address": {"default": "127.0.0.1:9465"},
    },
}
_REF: Final = "#/components/schemas/{model}"


def document(topics: Iterable[type], version: str) -> dict[str, Any]:
    """Return the description as JSON types. version: of otel-budget."""
    operations = [operation for topic in topics for _, operation in operations_of(topic)]
    schemas = _Schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(
            operation, schemas
        )
    return {
        "openapi": "3.1.0",
        "info": {**_INFO, "version": version},
        "servers": [_SERVER],
        "tags": [{"name": tag.value, "description": text} for tag, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "read": _token("A token from listen.read_token_file, if the sidecar has one."),
                "admin": _token("A token from listen.admin_token_file; it may read, too."),
            },
        },
    }


class Description:
    """``/openapi.json``: the description itself."""

    def __init__(self, text: str) -> None:
        """Take the document as JSON."""
        self._text = text

    @Operation(
        path="/openapi.json",
        id="getDescription",
        tag=Tag.OPERATIONS,
        summary="This description",
        description="Use it to generate clients of this API.",
        answers=(Answer(200, "An OpenAPI 3.1 document.", dict[str, Any], {"openapi": "3.1.0"}),),
    )
    async def description(self, _request: Request) -> Response:
        """Answer with the document."""
        return json_response(self._text)


def answers_of(operation: Operation) -> tuple[Answer, ...]:
    """Return all answers of an operation: its own, and those that follow from what it takes."""
    bad_request = (_BAD_REQUEST,) if operation.parameters or operation.body else ()
    of_the_body: tuple[Answer, ...] = request_body.ANSWERS if operation.body else ()
    if operation.body and operation.body.is_any_type:
        of_the_body = (request_body.TOO_LARGE,)
    guard = auth.ANSWERS[operation.access]
    return (*operation.answers, *bad_request, *of_the_body, *guard)


def _described(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag.value],
        "summary": operation.summary,
        "description": operation.description,
        "security": _SECURITY[operation.access],
    }
    if operation.parameters:
        described["parameters"] = [
            {
                "name": one.name,
                "in": one.place,
                "required": one.required,
                "description": one.description,
                "schema": schemas.of(one.type),
                "example": one.example,
            }
            for one in operation.parameters
        ]
    if operation.body is not None:
        content = {"schema": schemas.of(operation.body.type), "example": operation.body.example}
        described["requestBody"] = {
            "required": True,
            "content": {operation.body.media_type: content},
        }
    answers = sorted(answers_of(operation), key=lambda answer: answer.status)
    described["responses"] = {str(one.status): _response(one, schemas) for one in answers}
    return described


def _response(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        described["headers"] = dict(answer.headers)
    if answer.type is not None:
        content = {"schema": schemas.of(answer.type), "example": answer.example}
        described["content"] = {answer.media_type: content}
    return described


def _token(description: str) -> dict[str, str]:
    return {"type": "http", "scheme": "bearer", "description": description}


class _Generator(GenerateJsonSchema):
    """JSON Schema as this description has it: no titles, no defaults, names without ``Body``."""

    def field_title_should_be_set(self, _schema: Any) -> bool:
        return False

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])  # absent is not null

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return _untitled(super().model_schema(schema))

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        return _untitled(super().enum_schema(schema))

    def normalize_name(self, name: str) -> str:
        return super().normalize_name(name).removesuffix("Body")


def _untitled(schema: JsonSchemaValue) -> JsonSchemaValue:
    return {key: value for key, value in schema.items() if key != "title"}


class _Schemas:
    """The schemas of all types that some operations name, and the components they refer to."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        found = {id(one): one for operation in operations for one in _types_of(operation)}
        made, shared = TypeAdapter.json_schemas(
            [(name, "validation", TypeAdapter(one)) for name, one in found.items()],
            schema_generator=_Generator,
            ref_template=_REF,
        )
        self._made = {name: _one_line(schema) for (name, _), schema in made.items()}
        self.components: dict[str, Any] = _one_line(shared.get("$defs", {}))

    def of(self, described: Any) -> Any:
        return self._made[id(described)]


def _types_of(operation: Operation) -> Iterator[Any]:
    yield from (parameter.type for parameter in operation.parameters)
    if operation.body is not None:
        yield operation.body.type
    yield from (answer.type for answer in answers_of(operation) if answer.type is not None)


def _one_line(value: Any, key: str = "") -> Any:
    """Return a schema with each description on one line, however its docstring is wrapped."""
    if isinstance(value, dict):
        return {name: _one_line(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [_one_line(one) for one in value]
    return " ".join(value.split()) if key == "description" and isinstance(value, str) else value
