"""What the OpenAPI document says of runs: every status, examples that fit their schemas, and answers that fit them too."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.core.management import call_command
from django.test import Client

from runs.states import RunStatus
from tests.history import START, lines, past_pipeline, produce, saved_run

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

READS = {200, 400, 401, 403, 404, 503}
CALLS = {
    "/api/pipelines/{pipeline_id}/run": {"post": {202, 400, 401, 403, 404, 409, 413, 415, 422, 503}},
    "/api/pipelines/{pipeline_id}/runs": {"get": READS},
    "/api/pipelines/{pipeline_id}/backfill": {"post": {200, 202, 400, 401, 403, 404, 409, 413, 415, 422, 503}},
    "/api/pipelines/{pipeline_id}/backfills": {"get": READS},
    "/api/backfills/{backfill_id}": {"get": READS},
    "/api/backfills/{backfill_id}/cancel": {"post": {200, 400, 401, 403, 404, 409, 413, 415, 503}},
    "/api/runs": {"get": READS - {404}},
    "/api/runs/{run_id}": {"get": READS},
    "/api/runs/{run_id}/cancel": {"post": {200, 202, 400, 401, 403, 404, 409, 413, 415, 503}},
    "/api/runs/{run_id}/resume": {"post": {202, 400, 401, 403, 404, 409, 413, 415, 422, 503}},
    "/api/runs/{run_id}/logs": {"get": READS},
    "/api/runs/{run_id}/logs/export": {"get": READS},
    "/api/runs/{run_id}/nodes/{node_id}/preview": {"get": READS},
    "/api/runs/{run_id}/nodes/{node_id}/output": {"get": READS},
    "/api/runs/{run_id}/nodes/{node_id}/profile": {"get": READS},
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Made by the command, which fails on any warning."""
    path: Path = tmp_path_factory.mktemp("openapi") / "schema.json"
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", "--file", str(path))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def fits(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """Errors: `jsonschema.ValidationError`."""
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


@pytest.mark.parametrize("path", CALLS)
def test_every_status_is_documented(document: dict[str, Any], path: str) -> None:
    # Any call may be one too many (429).
    expected = {method: statuses | {429} for method, statuses in CALLS[path].items()}
    assert {method: {int(status) for status in call["responses"]} for method, call in document["paths"][path].items()} == expected


@pytest.mark.parametrize("path", CALLS)
def test_every_call_has_an_example_and_each_fits(document: dict[str, Any], path: str) -> None:
    examples = [
        (content["schema"], example["value"])
        for call in document["paths"][path].values()
        for part in (*call["responses"].values(), call.get("requestBody", {}))
        for content in part.get("content", {}).values()
        for example in content.get("examples", {}).values()
    ]
    assert examples
    for schema, value in examples:
        fits(document, schema, value)


def test_what_the_server_answers_fits(api: Client, document: dict[str, Any]) -> None:
    pipeline = past_pipeline()
    saved_run(pipeline, at=START.replace(year=2023))
    body = json.dumps({"start_date": "2024-01-01", "end_date": "2024-01-03"})
    backfill = api.post(f"/api/pipelines/{pipeline.id}/backfill", body, content_type="application/json")
    for status in RunStatus:
        run = saved_run(pipeline, status, params={"text": "a", "number": 1.5, "yes": True, "nothing": None})
        lines(run, 2)
        produce(run, "SELECT range AS a, NULL AS b, 'x' AS c, [1] AS d FROM range(60)")
        for path, statuses in CALLS.items():
            if "get" in statuses and not path.endswith(("export", "output")):
                for query_string in ("", "?page=1") if path.endswith("runs") else ("",):
                    ids = {"run_id": run.id, "node_id": "first", "pipeline_id": pipeline.id, "backfill_id": backfill["Location"].rpartition("/")[2]}
                    answer = api.get(path.format(**ids) + query_string)
                    schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
                    fits(document, schema, answer.json())
    problem = document["paths"]["/api/runs"]["get"]["responses"]["400"]["content"]["application/problem+json"]["schema"]
    fits(document, problem, api.get("/api/runs?nope=1").json())
