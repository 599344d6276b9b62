"""The OpenAPI document and its page."""

import json
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def schema(api: Client) -> dict[str, Any]:
    response = api.get("/api/schema")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    found: dict[str, Any] = json.loads(response.content)
    return found


def test_it_is_valid_openapi_3_1(schema: dict[str, Any]) -> None:
    assert schema["openapi"].startswith("3.1")
    validate_schema(schema)  # type: ignore[no-untyped-call]


def test_it_is_yaml_for_who_asks(api: Client) -> None:
    response = api.get("/api/schema", headers={"accept": "application/vnd.oai.openapi"})
    assert response.content.startswith(b"openapi: 3.1")


def test_every_call_documents_its_problems(schema: dict[str, Any]) -> None:
    for path, calls in schema["paths"].items():
        for method, call in calls.items():
            responses = call["responses"]
            assert {"400", "401", "403", "503"} <= responses.keys(), (method, path)
            assert ("404" in responses) or "{" not in path, (method, path)
            for status, response in responses.items():
                if status >= "400":
                    assert response["content"].keys() == {"application/problem+json"}, (method, path, status)


def test_every_call_has_a_name_and_a_sentence(schema: dict[str, Any]) -> None:
    calls = [call for calls in schema["paths"].values() for call in calls.values()]
    assert len({call["operationId"] for call in calls}) == len(calls)
    assert all(call["description"].strip() for call in calls)


def test_strict_bodies_say_so(schema: dict[str, Any]) -> None:
    assert schema["components"]["schemas"]["RollbackBody"]["additionalProperties"] is False
    assert "additionalProperties" not in schema["components"]["schemas"]["PipelineDocument"]


def test_it_is_made_without_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    assert "arning" not in capsys.readouterr().err


def test_the_page_loads_nothing_from_elsewhere(api: Client) -> None:
    response = api.get("/api/docs", headers={"accept": "text/html"})
    page = response.content.decode()
    assert (response.status_code, "/api/schema" in page, "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js" in page) == (
        200,
        True,
        True,
    )
    assert "https://" not in page
    assert "//cdn" not in page
    script = api.get("/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js")
    assert script.status_code == 200
    script.close()
