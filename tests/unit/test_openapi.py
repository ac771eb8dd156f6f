"""What the API says of itself: everything is described, and every example is true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, TypeAdapter

from fxcast.errors import BadCandles
from fxcast.serving import schemas
from fxcast.serving.api import app
from fxcast.serving.schemas import ForecastBody, ForecastsBody

DOCUMENT: dict[str, Any] = app.openapi()
OPERATIONS: dict[str, dict[str, Any]] = {
    f"{method.upper()} {path}": operation for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def check(example: object, schema: dict[str, Any]) -> None:
    Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    ).validate(example)


def model_of(schema: dict[str, Any]) -> Any:
    """Return the model that a schema describes: one of ours, or a list of it."""
    if schema.get("type") == "array":
        return list[model_of(schema["items"])]
    model = getattr(schemas, schema["$ref"].removeprefix("#/components/schemas/"))
    assert issubclass(model, BaseModel)
    return model


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each body and answer: its status (empty for the body), media type, and schema with examples."""
    answers = {"": operation.get("requestBody", {"content": {}}), **operation["responses"]}
    for status, answer in answers.items():
        for media_type, content in answer["content"].items():
            yield status, media_type, content


@every_operation
def test_an_operation_says_what_it_does_and_which_answers_there_are(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"][0] in [tag["name"] for tag in DOCUMENT["tags"]]
    is_probe = operation["tags"] == ["health"]
    assert operation.get("security") == (None if is_probe else [{"bearer": []}])
    assert is_probe or {"200", "401", "403", "500", "503"} <= set(operation["responses"])
    assert all(answer["description"] for answer in operation["responses"].values())


@every_operation
def test_bodies_and_answers_have_examples_that_their_schema_and_model_accept(operation: dict[str, Any]) -> None:
    for status, media_type, content in contents(operation):
        assert media_type == ("application/json" if status in {"", "200"} else "application/problem+json")
        assert content["examples"], status
        for example in content["examples"].values():
            check(example["value"], content["schema"])
            TypeAdapter(model_of(content["schema"])).validate_json(json.dumps(example["value"]))
            assert media_type == "application/json" or example["value"]["status"] == int(status)


@every_operation
def test_parameters_are_described_and_have_examples_that_their_schema_accepts(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        values = [*schema.get("examples", []), *(each["value"] for each in parameter.get("examples", {}).values())]
        assert values, parameter["name"]
        assert parameter["description"]
        for value in values:
            check(value, schema)


def test_examples_of_fields_and_headers_are_what_their_schema_accepts() -> None:
    fields = [field for schema in DOCUMENT["components"]["schemas"].values() for field in schema["properties"].values()]
    answers = [answer for operation in OPERATIONS.values() for answer in operation["responses"].values()]
    headers = [header["schema"] for answer in answers for header in answer["headers"].values()]
    examples = [(value, schema) for schema in (*fields, *headers) for value in schema.get("examples", [])]
    assert examples
    for value, schema in examples:
        check(value, schema)


def test_the_bodies_that_the_document_shows_are_windows_that_the_service_takes() -> None:
    alone = [example["value"] for example in _bodies("POST /v1/forecast")]
    together = [request for example in _bodies("POST /v1/forecasts") for request in ForecastsBody(**example["value"]).requests]
    for body in (*alone, *together):
        assert len(ForecastBody.model_validate(body).window()) == 100


def test_a_refusal_that_the_document_shows_is_in_the_words_of_the_service() -> None:
    body = deepcopy(_bodies("POST /v1/forecast")[0]["value"])
    body["candles"][3]["time"] = "2024-03-04T03:30:00Z"
    with pytest.raises(BadCandles) as refusal:
        ForecastBody.model_validate(body).window()
    shown = OPERATIONS["POST /v1/forecast"]["responses"]["422"]["content"]["application/problem+json"]["examples"]
    assert shown["candles[3].time"]["value"]["detail"] == str(refusal.value)


def test_tags_stand_in_the_order_in_which_their_operations_do() -> None:
    tags = [operation["tags"][0] for operation in OPERATIONS.values()]
    assert list(dict.fromkeys(tags)) == [tag["name"] for tag in DOCUMENT["tags"]]


def _bodies(operation: str) -> list[dict[str, Any]]:
    return list(OPERATIONS[operation]["requestBody"]["content"]["application/json"]["examples"].values())
