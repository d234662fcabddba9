"""The description of the API: whole, valid, and what clients can be generated from."""

import json
import re
from typing import Any

import jsonschema
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from otel_budget.cli.options import DEFAULT_SIDECAR
from otel_budget.sidecar.api.app import description


def test_the_description_is_valid_and_covers_every_route(
    app: Starlette, client: TestClient
) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == "1.2.3"
    routes = {route.path for route in app.routes if isinstance(route, Route)}
    assert set(document["paths"]) == routes
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all operations of a description."""
    return [one for path in document["paths"].values() for one in path.values()]


def test_a_client_can_be_generated_from_the_description() -> None:
    """What generators and linters ask for: a server, tags, names, texts, a licence."""
    document = description("1.2.3")
    (server,) = document["servers"]
    defaults = {name: one["default"] for name, one in server["variables"].items()}
    assert server["url"].format(**defaults) == DEFAULT_SIDECAR
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    tags = [tag["name"] for tag in document["tags"]]
    assert all(tag["description"] for tag in document["tags"])
    found = operations(document)
    names = [one["operationId"] for one in found]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z][A-Za-z]+", name) for name in (*names, *tags))
    for one in found:
        assert one["summary"], one["operationId"]
        assert one["description"], one["operationId"]
        assert set(one["tags"]) <= set(tags)
        assert any(status.startswith("2") for status in one["responses"])
        assert any(status.startswith("4") for status in one["responses"])
    assert {tag for one in found for tag in one["tags"]} == set(tags)
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    assert [name for name in schemas if f'"#/components/schemas/{name}"' not in text] == []
    # Two types of one name would be told apart by the modules that they are in.
    assert [name for name in schemas if not re.fullmatch("[A-Z][A-Za-z]+", name)] == []


def test_every_example_in_the_description_is_as_its_schema_says() -> None:
    """Of parameters, bodies and answers; each of these has one."""
    document = description("1.2.3")
    described = [
        described
        for one in operations(document)
        for described in (
            *one.get("parameters", ()),
            *one.get("requestBody", {"content": {}})["content"].values(),
            *(
                content
                for response in one["responses"].values()
                for content in response.get("content", {}).values()
            ),
        )
    ]
    assert len(described) > 60
    for each in described:
        jsonschema.validate(each["example"], {**document, **each["schema"]})


def test_answers_are_as_the_description_says(client: TestClient) -> None:
    assert_matches(client.get("/v1/verdicts/a").json(), "Verdict")
    assert_matches(client.get("/v1/verdicts/nobody").json(), "Problem")
    for one in client.get("/v1/verdicts").json()["verdicts"]:
        assert_matches(one, "Verdict")


def assert_matches(value: object, name: str) -> None:
    """Fail if a value is not as its schema in the description says."""
    document = description("1.2.3")
    jsonschema.validate(value, {**document, "$ref": f"#/components/schemas/{name}"})
    described = set(document["components"]["schemas"][name]["properties"])
    assert isinstance(value, dict)
    only_at_times = {  # of several runs at once, of one that waits, and under an operator's orders
        "also_started_at", "waiting_since", "ordered_at", "own_limits_replaced",
    }  # fmt: skip
    assert set(value) == described - only_at_times
