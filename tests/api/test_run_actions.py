"""Trigger, cancel and resume over the API."""

import json
import uuid
from typing import Any

import pytest
from django.test import Client

from brokoli_site.common.ids import new_id
from pipelines.models import Pipeline, PipelineVersion
from runs.models import LogEntry, Run
from runs.states import RunStatus
from tests.factories import accept_run, claim_one, end_run, make_pipeline, register_worker

pytestmark = pytest.mark.django_db


@pytest.fixture
def pipeline() -> Pipeline:
    return make_pipeline()


def post(api: Client, path: str, body: Any = None, content_type: str = "application/json") -> Any:
    return api.post(path, data=body if isinstance(body, bytes | str) else b"" if body is None else json.dumps(body), content_type=content_type)


def test_a_run_is_committed_before_the_answer(api: Client, pipeline: Pipeline) -> None:
    response = post(api, f"/api/pipelines/{pipeline.id}/run", {"params": {"date": "2024-01-15"}})
    run = Run.objects.get()
    assert response.status_code == 202
    assert response.json() == {"id": str(run.id), "pipeline_id": str(pipeline.id), "status": "pending"}
    assert response["Location"] == f"/api/runs/{run.id}"
    assert (run.params, run.trigger, run.priority) == ({"date": "2024-01-15"}, "api", 0)
    shown = api.get(response["Location"]).json()
    assert (shown["status"], shown["params"]) == ("pending", {"date": "2024-01-15"})
    assert [(node["node_id"], node["status"]) for node in shown["node_runs"]] == [("first", "pending"), ("second", "pending")]


def test_a_slug_names_a_pipeline_too(api: Client, pipeline: Pipeline) -> None:
    assert post(api, f"/api/pipelines/{pipeline.pipeline_id}/run").json()["pipeline_id"] == str(pipeline.id)


@pytest.mark.parametrize("body", [None, {}, {"params": {}}, "  "])
def test_the_body_is_optional(api: Client, pipeline: Pipeline, body: Any) -> None:
    assert post(api, f"/api/pipelines/{pipeline.id}/run", body).status_code == 202
    assert Run.objects.get().params == {}


def test_a_body_is_optional_even_without_a_content_type(api: Client, pipeline: Pipeline) -> None:
    for path in (f"/api/pipelines/{pipeline.id}/run", f"/api/runs/{accept_run(pipeline).id}/cancel"):
        assert api.generic("POST", path, b"", content_type="").status_code in (200, 202)


def test_params_are_scalars_of_every_kind(api: Client, pipeline: Pipeline) -> None:
    params = {"text": "ä", "empty": "", "whole": 2**63 - 1, "least": -(2**63), "real": 1.5, "yes": True, "nothing": None, "n" * 200: "x" * 10_000}
    assert post(api, f"/api/pipelines/{pipeline.id}/run", {"params": params, "priority": -100}).status_code == 202
    run = Run.objects.get()
    assert (run.params, run.priority) == (params, -100)


BAD_RUNS: list[tuple[str, Any, str]] = [
    ("unknown field", {"param": {}}, "/param"),
    ("params not an object", {"params": []}, "/params"),
    ("params null", {"params": None}, "/params"),
    ("nested param", {"params": {"a": {"b": 1}}}, "/params/a"),
    ("list param", {"params": {"a/b": [1]}}, "/params/a~1b"),
    ("long text", {"params": {"a": "x" * 10_001}}, "/params/a"),
    ("number of 65 bits", {"params": {"a": 2**63}}, "/params/a"),
    ("long name", {"params": {"n" * 201: 1}}, "/params"),
    ("empty name", {"params": {"": 1}}, "/params"),
    ("many params", {"params": {str(n): n for n in range(101)}}, "/params"),
    ("priority too high", {"priority": 101}, "/priority"),
    ("priority as text", {"priority": "5"}, "/priority"),
    ("priority as a fraction", {"priority": 1.0}, "/priority"),
    ("priority as true", {"priority": True}, "/priority"),
    ("priority null", {"priority": None}, "/priority"),
]


@pytest.mark.parametrize(("body", "pointer"), [(body, pointer) for _, body, pointer in BAD_RUNS], ids=[name for name, _, _ in BAD_RUNS])
def test_bad_fields_are_named(api: Client, pipeline: Pipeline, body: Any, pointer: str) -> None:
    response = post(api, f"/api/pipelines/{pipeline.id}/run", body)
    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert not Run.objects.exists()


MALFORMED: list[tuple[str, bytes]] = [
    ("half an object", b'{"params": {'),
    ("array", b"[]"),
    ("number", b"1"),
    ("null", b"null"),
    ("duplicate keys", b'{"params": {"a": 1, "a": 2}}'),
    ("NaN", b'{"params": {"a": NaN}}'),
    ("infinity by overflow", b'{"params": {"a": 1e999}}'),
    ("5,000 digits", b'{"params": {"a": ' + b"9" * 5000 + b"}}"),
    ("NUL", b'{"params": {"a": "\\u0000"}}'),
    ("NUL in a name", b'{"params": {"\\u0000": 1}}'),
    ("lone surrogate", b'{"params": {"a": "\\ud800"}}'),
    ("deep", b'{"params": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001),
    ("not UTF-8", b'{"params": {"a": "\xff"}}'),
]


@pytest.mark.parametrize("body", [body for _, body in MALFORMED], ids=[name for name, _ in MALFORMED])
@pytest.mark.parametrize("what", ["run", "cancel", "resume"])
def test_malformed_bodies_are_refused(api: Client, pipeline: Pipeline, what: str, body: bytes) -> None:
    run = accept_run(pipeline)
    response = post(api, f"/api/pipelines/{pipeline.id}/run" if what == "run" else f"/api/runs/{run.id}/{what}", body)
    assert (response.status_code, response["Content-Type"]) == (400, "application/problem+json")
    assert list(Run.objects.values_list("id", "status")) == [(run.id, "pending")]


def test_a_huge_body_is_too_large(api: Client, pipeline: Pipeline) -> None:
    assert post(api, f"/api/pipelines/{pipeline.id}/run", b'{"params": {"a": "' + b"x" * 1024 * 1024 + b'"}}').status_code == 413


def test_another_media_type_is_refused(api: Client, pipeline: Pipeline) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert post(api, f"/api/pipelines/{pipeline.id}/run", b"params=1", content_type).status_code == 415


def test_a_query_parameter_is_refused(api: Client, pipeline: Pipeline) -> None:
    response = post(api, f"/api/pipelines/{pipeline.id}/run?priority=5")
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (400, "priority")


def test_an_unknown_pipeline_cannot_run(api: Client) -> None:
    for key in (new_id(), "nope", "%00", "x" * 3000):
        assert post(api, f"/api/pipelines/{key}/run").status_code == 404


def test_a_deleted_pipeline_cannot_run(api: Client, pipeline: Pipeline) -> None:
    Pipeline.objects.update(deleted_at=pipeline.created_at)
    assert post(api, f"/api/pipelines/{pipeline.id}/run").status_code == 404


def test_a_pipeline_that_cannot_run_says_all_that_is_wrong(api: Client) -> None:
    nodes = [{"id": "a", "type": "no_such_type", "config": {}}, {"id": "b", "type": "another_one", "config": {}}]
    pipeline = make_pipeline(nodes, [("a", "b")])
    response = post(api, f"/api/pipelines/{pipeline.id}/run")
    assert response.status_code == 422
    assert {error.get("node_id") for error in response.json()["errors"]} == {"a", "b"}
    assert not Run.objects.exists()


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_actions_are_posts(api: Client, pipeline: Pipeline, method: str) -> None:
    run = accept_run(pipeline)
    for path in (f"/api/pipelines/{pipeline.id}/run", f"/api/runs/{run.id}/cancel", f"/api/runs/{run.id}/resume"):
        assert getattr(api, method)(path).status_code == 405


def test_what_waits_is_cancelled_at_once(api: Client, pipeline: Pipeline) -> None:
    run = accept_run(pipeline)
    response = post(api, f"/api/runs/{run.id}/cancel")
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert {node["status"] for node in response.json()["node_runs"]} == {"cancelled"}


@pytest.mark.parametrize("force", [False, True])
def test_what_executes_is_asked_to_end(api: Client, pipeline: Pipeline, force: bool) -> None:
    run = accept_run(pipeline)
    claim_one(register_worker())
    for _ in range(2):  # asking twice is no error
        response = post(api, f"/api/runs/{run.id}/cancel", {"force": force})
        assert (response.status_code, response.json()["status"], response.json()["cancel_requested"]) == (202, "running", True)
    run.refresh_from_db()
    assert run.cancel_force is force
    assert LogEntry.objects.filter(run=run, kind="run.cancel_requested").count() == 1


@pytest.mark.parametrize("status", [RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED])
def test_what_has_ended_cannot_be_cancelled(api: Client, pipeline: Pipeline, status: RunStatus) -> None:
    run = accept_run(pipeline)
    end_run(run, status)
    response = post(api, f"/api/runs/{run.id}/cancel")
    assert (response.status_code, response["Content-Type"]) == (409, "application/problem+json")
    assert status in response.json()["detail"]


@pytest.mark.parametrize("body", [{"force": "true"}, {"force": 1}, {"force": None}, {"forced": True}])
def test_bad_cancel_bodies_are_refused(api: Client, pipeline: Pipeline, body: Any) -> None:
    run = accept_run(pipeline)
    assert post(api, f"/api/runs/{run.id}/cancel", body).status_code == 400
    run.refresh_from_db()
    assert run.status == RunStatus.PENDING


def test_a_failed_run_is_resumed_by_a_new_one(api: Client, pipeline: Pipeline) -> None:
    run = accept_run(pipeline, params={"date": "2024-01-15"})
    end_run(run, RunStatus.FAILED, "no luck")
    response = post(api, f"/api/runs/{run.id}/resume")
    resumed = Run.objects.exclude(id=run.id).get()
    assert response.status_code == 202
    assert response.json() == {"id": str(resumed.id), "pipeline_id": str(pipeline.id), "status": "pending", "resumed_from": str(run.id)}
    assert response["Location"] == f"/api/runs/{resumed.id}"
    shown = api.get(response["Location"]).json()
    assert (shown["resumed_from"], shown["trigger"], shown["params"]) == (str(run.id), "resume", {"date": "2024-01-15"})
    assert post(api, f"/api/runs/{run.id}/resume").status_code == 409


@pytest.mark.parametrize("status", [RunStatus.SUCCESS, RunStatus.CANCELLED, RunStatus.PENDING, RunStatus.RUNNING])
def test_only_failed_runs_can_be_resumed(api: Client, pipeline: Pipeline, status: RunStatus) -> None:
    run = accept_run(pipeline)
    if status == RunStatus.RUNNING:
        claim_one(register_worker())
    elif status != RunStatus.PENDING:
        end_run(run, status)
    response = post(api, f"/api/runs/{run.id}/resume")
    assert (response.status_code, Run.objects.count()) == (409, 1)


def test_a_resume_may_start_at_a_node_and_take_the_latest_version(api: Client, pipeline: Pipeline) -> None:
    run = accept_run(pipeline)
    end_run(run, RunStatus.FAILED)
    response = post(api, f"/api/runs/{run.id}/resume", {"from_node": "first", "version": "latest"})
    assert (response.status_code, Run.objects.get(id=response.json()["id"]).resume_from_node) == (202, "first")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"from_node": "nope"}, "/from_node"),
        ({"from_node": 1}, "/from_node"),
        ({"from_node": "x" * 201}, "/from_node"),
        ({"from_node": None}, "/from_node"),
        ({"version": "oldest"}, "/version"),
        ({"version": 2}, "/version"),
        ({"node": "first"}, "/node"),
    ],
)
def test_bad_resume_bodies_are_refused(api: Client, pipeline: Pipeline, body: Any, pointer: str) -> None:
    run = accept_run(pipeline)
    end_run(run, RunStatus.FAILED)
    response = post(api, f"/api/runs/{run.id}/resume", body)
    assert (response.status_code, response.json()["errors"][0]["pointer"], Run.objects.count()) == (400, pointer, 1)


@pytest.mark.parametrize("what", ["cancel", "resume"])
def test_an_unknown_run_is_not_found(api: Client, what: str) -> None:
    for key in (uuid.uuid4(), "nope", "%00"):
        assert post(api, f"/api/runs/{key}/{what}").status_code == 404


# --- declared parameters ------------------------------------------------------------------------------------------


def declaring(**parameters: Any) -> Pipeline:
    pipeline = make_pipeline()
    version = pipeline.versions.get()
    PipelineVersion.objects.filter(id=version.id).update(document={**version.document, "parameters": parameters, "params": {"legacy": 1}})
    return pipeline


def test_every_wrong_param_is_named_at_the_trigger(api: Client) -> None:
    pipeline = declaring(n={"type": "integer", "required": True}, day={"type": "date"}, size={"choices": ["s", "m"]})
    response = post(api, f"/api/pipelines/{pipeline.id}/run", {"params": {"day": "yesterday", "size": "l", "nobody": 1}})
    assert (response.status_code, response["Content-Type"], response.json()["code"]) == (422, "application/problem+json", "invalid_params")
    assert {error["pointer"]: error["detail"] for error in response.json()["errors"]} == {
        "/params/day": "The parameter 'day' must be a date such as 2024-01-31, not 'yesterday'.",
        "/params/size": "The parameter 'size' must be one of 's', 'm', not 'l'.",
        "/params/nobody": "The parameter 'nobody' is not declared. The pipeline declares n, day, size.",
        "/params/n": "The parameter 'n' must be given: a whole number.",
    }
    assert not Run.objects.exists()


def test_a_run_keeps_what_it_was_given(api: Client) -> None:
    """Defaults are not stored, and a text stays one: a later look shows who said what."""
    pipeline = declaring(n={"type": "integer", "default": 5})
    response = post(api, f"/api/pipelines/{pipeline.id}/run", {"params": {"date": "2024-01-15", "legacy": 2, "n": "7"}})
    assert (response.status_code, Run.objects.get().params) == (202, {"date": "2024-01-15", "legacy": 2, "n": "7"})


def test_a_resume_with_the_latest_version_must_fit_its_declarations(api: Client) -> None:
    pipeline = declaring(n={"type": "integer", "default": 5})
    failed = end_run(accept_run(pipeline), RunStatus.FAILED)
    document = pipeline.versions.get().document | {"parameters": {"m": {"required": True}}}
    PipelineVersion.objects.create(pipeline=pipeline, number=2, document=document, created_at=failed.created_at)
    Pipeline.objects.filter(id=pipeline.id).update(version=2)
    latest = post(api, f"/api/runs/{failed.id}/resume", {"version": "latest"})
    assert (latest.status_code, latest.json()["errors"][0]["pointer"]) == (422, "/params/m")
    assert post(api, f"/api/runs/{failed.id}/resume").status_code == 202
