"""The OpenAPI document: valid, without warnings, and telling what each call answers."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command

RUN_CALLS = {
    "/api/pipelines/{pipeline_id}/run": {"post": {202, 400, 401, 403, 404, 413, 415, 422, 503}},
    "/api/runs/{run_id}/cancel": {"post": {200, 202, 400, 401, 403, 404, 409, 413, 415, 503}},
    "/api/runs/{run_id}/resume": {"post": {202, 400, 401, 403, 404, 409, 413, 415, 422, 503}},
    "/api/runs": {"get": {200, 400, 401, 403, 503}},
    "/api/pipelines/{pipeline_id}/runs": {"get": {200, 400, 401, 403, 404, 503}},
    "/api/runs/{run_id}": {"get": {200, 400, 401, 403, 404, 503}},
    "/api/runs/{run_id}/logs": {"get": {200, 400, 401, 403, 404, 503}},
    "/api/runs/{run_id}/logs/export": {"get": {200, 400, 401, 403, 404, 503}},
    "/api/runs/{run_id}/nodes/{node_id}/preview": {"get": {200, 400, 401, 403, 404, 503}},
    "/api/runs/{run_id}/nodes/{node_id}/output": {"get": {200, 400, 401, 403, 404, 503}},
    "/api/runs/{run_id}/nodes/{node_id}/profile": {"get": {200, 400, 401, 403, 404, 503}},
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `/api/schema` answers. Making it fails on any warning."""
    path: Path = tmp_path_factory.mktemp("openapi") / "schema.yml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(path))
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")


@pytest.mark.parametrize("path", RUN_CALLS)
def test_every_status_of_a_call_on_runs_is_there(document: dict[str, Any], path: str) -> None:
    calls = {method: {int(status) for status in call["responses"]} for method, call in document["paths"][path].items()}
    assert calls == RUN_CALLS[path]


def test_every_call_says_what_it_does(document: dict[str, Any]) -> None:
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            assert call.get("summary") or call.get("description"), f"{method} {path}"


def test_errors_are_documented_as_problems(document: dict[str, Any]) -> None:
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            for status, response in call["responses"].items():
                if int(status) >= 400:
                    assert list(response.get("content", {})) == ["application/problem+json"], f"{method} {path} {status}"
