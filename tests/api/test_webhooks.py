"""`POST /api/pipelines/{id}/webhook`, and the token that it asks for."""

import hashlib
import hmac
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from pipelines import definitions, webhooks
from pipelines.models import Pipeline, PipelineVersion, WebhookToken
from runs.models import Run
from tests.factories import save_pipeline

pytestmark = pytest.mark.django_db

TOKEN = "a-token-of-somebody-s-own"


@pytest.fixture
def pipeline() -> Pipeline:
    return save_pipeline("Orders", webhook_token=TOKEN)


@pytest.fixture
def sender() -> Client:
    """Somebody elsewhere, who has no account."""
    User.objects.create_user("ends local mode")
    return Client(headers={"host": "localhost"}, enforce_csrf_checks=True)


def post(sender: Client, pipeline: Pipeline | str, body: Any = b"", content_type: str = "application/json", **headers: str) -> Any:
    key = pipeline if isinstance(pipeline, str) else str(pipeline.id)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return sender.generic("POST", f"/api/pipelines/{key}/webhook", data, content_type=content_type, headers=named)


def signed(body: bytes, token: str = TOKEN) -> str:
    return "sha256=" + hmac.new(token.encode(), body, hashlib.sha256).hexdigest()


def test_whoever_shows_the_token_makes_a_run(sender: Client, pipeline: Pipeline) -> None:
    response = post(sender, pipeline, {"params": {"region": "EU", "n": 2, "x": None}}, X_Webhook_Token=TOKEN)
    run = Run.objects.get()
    assert response.status_code == 202
    assert response.json() == {"id": str(run.id), "pipeline_id": str(pipeline.id), "status": "pending", "run_id": str(run.id)}
    assert response["Location"] == f"/api/runs/{run.id}"
    assert (run.trigger, run.params, run.pipeline_id) == ("webhook", {"region": "EU", "n": 2, "x": None}, pipeline.id)


def test_a_slug_and_no_body_do(sender: Client, pipeline: Pipeline) -> None:
    assert post(sender, pipeline.pipeline_id, content_type="", X_Webhook_Token=TOKEN).status_code == 202
    assert post(sender, pipeline, content_type="text/plain", X_Webhook_Token=TOKEN).status_code == 202
    assert [run.params for run in Run.objects.all()] == [{}, {}]


def test_whoever_signs_with_the_token_makes_a_run(sender: Client, pipeline: Pipeline) -> None:
    body = b'{ "params":{"region" : "EU"} }'  # the bytes count, not what they mean
    assert post(sender, pipeline, body, X_Hub_Signature_256=signed(body)).status_code == 202
    assert post(sender, pipeline, b"", X_Hub_Signature_256=signed(b"")).status_code == 202
    assert [run.params for run in Run.objects.order_by("id")] == [{"region": "EU"}, {}]
    for wrong in (signed(body + b" "), signed(body, TOKEN + "x"), signed(body)[7:], signed(body).replace("sha256", "sha1"), "sha256=", ""):
        assert post(sender, pipeline, body, X_Hub_Signature_256=wrong).status_code == 404
    assert post(sender, pipeline, body, X_Hub_Signature_256=signed(body), X_Webhook_Token="another-token-of-somebody").status_code == 404
    assert Run.objects.count() == 2


def test_a_body_of_another_form(sender: Client, pipeline: Pipeline) -> None:
    push = json.dumps({"ref": "refs/heads/main", "commits": [{"id": "1ü"}]}, ensure_ascii=False, separators=(",", ":"))
    refused = post(sender, pipeline, push.encode(), X_Webhook_Token=TOKEN)
    assert (refused.status_code, {error["pointer"] for error in refused.json()["errors"]}) == (400, {"/ref", "/commits"})
    assert post(sender, pipeline, push.encode(), X_Hub_Signature_256=signed(push.encode())).status_code == 202
    assert Run.objects.get().params == {}

    definitions.patch(pipeline.id, {"params": {"payload": ""}})
    for proof in ({"X_Webhook_Token": TOKEN}, {"X_Hub_Signature_256": signed(push.encode())}):
        assert post(sender, pipeline, push.encode(), **proof).status_code == 202
        assert Run.objects.order_by("-id")[0].params == {"payload": push}
    assert post(sender, pipeline, [1], X_Webhook_Token=TOKEN).status_code == 202
    assert Run.objects.order_by("-id")[0].params == {"payload": "[1]"}
    assert post(sender, pipeline, {"params": {"payload": "mine"}}, X_Webhook_Token=TOKEN).status_code == 202
    assert Run.objects.order_by("-id")[0].params == {"payload": "mine"}
    large = post(sender, pipeline, {"x": "y" * 10_000}, X_Webhook_Token=TOKEN)
    assert (large.status_code, "10,000" in large.json()["detail"]) == (413, True)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{not json", "application/json", 400),
        (b'{"params": {"a": NaN}}', "application/json", 400),
        (b'{"params": {"a": "\\u0000"}}', "application/json", 400),
        (b'{"params": {"a": [1]}}', "application/json", 400),
        (b'{"params": []}', "application/json", 400),
        (b'{"params": {}, "priority": 5}', "application/json", 400),
        (b"[]", "application/json", 400),
        (b"payload=%7B%7D", "application/x-www-form-urlencoded", 415),
        (b'{"params": {}}', "text/plain", 415),
        (b" " * (1024 * 1024 + 1), "application/json", 413),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_known_sender_is_told_what_is_wrong(sender: Client, pipeline: Pipeline, body: bytes, content_type: str, status: int) -> None:
    response = post(sender, pipeline, body, content_type, X_Webhook_Token=TOKEN)
    assert (response.status_code, response["Content-Type"]) == (status, "application/problem+json")
    assert TOKEN not in response.content.decode()
    assert not Run.objects.exists()


def test_a_known_sender_is_told_what_the_pipeline_says(sender: Client, pipeline: Pipeline) -> None:
    definitions.patch(pipeline.id, {"parameters": {"region": {"type": "string", "required": True}}})
    assert post(sender, pipeline, X_Webhook_Token=TOKEN).status_code == 422
    definitions.patch(pipeline.id, {"nodes": [], "parameters": None})
    assert post(sender, pipeline, X_Webhook_Token=TOKEN).json()["code"] == "invalid_pipeline"


def test_the_token_does_not_belong_into_the_address(sender: Client, pipeline: Pipeline) -> None:
    response = sender.post(f"/api/pipelines/{pipeline.id}/webhook?token={TOKEN}")
    assert (response.status_code, response.json()["errors"][0]["parameter"], TOKEN in response.content.decode()) == (400, "token", False)
    assert sender.get(f"/api/pipelines/{pipeline.id}/webhook").status_code == 405


@pytest.mark.parametrize("header", ["Idempotency_Key", "X_GitHub_Delivery"])
def test_the_same_delivery_is_one_run(sender: Client, pipeline: Pipeline, header: str) -> None:
    other = save_pipeline("Other", webhook_token=TOKEN)
    first, second = (post(sender, key, {"params": {"a": 1}}, X_Webhook_Token=TOKEN, **{header: "d-1"}) for key in (pipeline, pipeline.pipeline_id))
    assert (first.status_code, first.json(), first["Location"]) == (second.status_code, second.json(), second["Location"])
    assert ("Idempotency-Replayed" in first, second["Idempotency-Replayed"]) == (False, "true")
    assert post(sender, pipeline, {"params": {"a": 2}}, X_Webhook_Token=TOKEN, **{header: "d-1"}).status_code == 422
    assert post(sender, other, {"params": {"a": 1}}, X_Webhook_Token=TOKEN, **{header: "d-1"}).status_code == 202
    assert post(sender, pipeline, {"params": {"a": 1}}, X_Webhook_Token="some-other-token-here", **{header: "d-1"}).status_code == 404
    assert Run.objects.count() == 2


# --- the token ----------------------------------------------------------------------------------------------------


def test_a_token_is_made_told_once_replaced_and_removed(api: Client) -> None:
    pipeline = save_pipeline("Orders")
    path = f"/api/pipelines/{pipeline.id}/webhook-token"
    assert api.get(path).json() == {"pipeline_id": str(pipeline.id), "set": False, "created_at": None, "url": f"/api/pipelines/{pipeline.id}/webhook"}
    made = api.generic("POST", path)
    token = made.json()["webhook_token"]
    assert (made.status_code, made["Cache-Control"], len(token) > 40, made.json()["set"]) == (201, "no-store", True, True)
    shown = api.get(f"/api/pipelines/{pipeline.pipeline_id}/webhook-token")
    assert shown.json()["set"] and token not in shown.content.decode()
    assert post(api, pipeline, X_Webhook_Token=token).status_code == 202

    replaced = api.generic("POST", path).json()["webhook_token"]
    assert token != replaced
    assert [post(api, pipeline, X_Webhook_Token=one).status_code for one in (token, replaced)] == [404, 202]
    assert [api.delete(path).status_code, api.delete(path).status_code] == [204, 204]
    assert (api.get(path).json()["set"], post(api, pipeline, X_Webhook_Token=replaced).status_code) == (False, 404)
    assert PipelineVersion.objects.count() == 1  # none of it is a change of the definition


def test_the_address_of_a_token_is_strict(api: Client) -> None:
    pipeline = save_pipeline("Orders")
    path = f"/api/pipelines/{pipeline.id}/webhook-token"
    assert api.post(path, {"webhook_token": "mine, please: 123"}, content_type="application/json").status_code == 400
    for method in ("GET", "POST", "DELETE"):
        for key in ("nowhere", "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"):
            assert api.generic(method, f"/api/pipelines/{key}/webhook-token").status_code == 404
    assert not WebhookToken.objects.exists()


def test_a_document_brings_its_token_and_never_shows_it(api: Client) -> None:
    body = {"name": "Orders", "nodes": [], "edges": [], "webhook_token": TOKEN}
    made = api.post("/api/pipelines", body, content_type="application/json").json()
    path = f"/api/pipelines/{made['id']}"
    assert "webhook_token" not in made
    row = WebhookToken.objects.get()
    assert (webhooks.opened(row), TOKEN in row.sealed) == (TOKEN, False)

    for changed in (
        api.put(path, {**body, "webhook_token": ""}, content_type="application/json"),  # as the SDK sends it where there is none
        api.put(path, {key: value for key, value in body.items() if key != "webhook_token"}, content_type="application/json"),
        api.patch(path, {"description": "x", "webhook_token": None}, content_type="application/json"),
    ):
        assert (changed.status_code, TOKEN in changed.content.decode()) == (200, False)
        assert webhooks.opened(WebhookToken.objects.get()) == TOKEN
    api.patch(path, {"webhook_token": "another-token-instead"}, content_type="application/json")
    assert webhooks.opened(WebhookToken.objects.get()) == "another-token-instead"
    assert not [found for found in PipelineVersion.objects.all() if found.document.get("webhook_token")]


@pytest.mark.parametrize(
    "token",
    ["short", "x" * 15, "x" * 201, "with a blank in it ...", "umlaut-ä-is-not-ascii", "tab\tand-some-more-text", 1234567890123456, ["x" * 20]],
)
def test_a_token_that_is_weak_or_cannot_be_sent_is_refused_and_not_repeated(api: Client, token: Any) -> None:
    pipeline = save_pipeline("Orders")
    body = {"name": "Orders", "nodes": [], "edges": [], "webhook_token": token}
    for method, path in (("post", "/api/pipelines"), ("put", f"/api/pipelines/{pipeline.id}"), ("patch", f"/api/pipelines/{pipeline.id}")):
        response = getattr(api, method)(path, body, content_type="application/json")
        (error,) = response.json()["errors"]
        assert (response.status_code, error["pointer"]) == (422, "/webhook_token")
        assert str(token) not in response.content.decode()
    report = api.post("/api/pipelines/validate", body, content_type="application/json")
    assert [error["field"] for error in report.json()["errors"] if error["field"] == "webhook_token"] == ["webhook_token"]
    assert str(token) not in report.content.decode()
    assert not WebhookToken.objects.exists()


def test_a_token_is_nothing_that_a_server_does_not_know(api: Client) -> None:
    body = {"name": "Orders", "nodes": [], "edges": [], "webhook_token": TOKEN}
    report = api.post("/api/pipelines/validate", body, content_type="application/json").json()
    assert not [found for found in (*report["errors"], *report["warnings"]) if found["field"] == "webhook_token"]


def test_copies_of_a_pipeline_have_no_token(api: Client, pipeline: Pipeline) -> None:
    definitions.patch(pipeline.id, {"description": "second"})
    clone = api.post(f"/api/pipelines/{pipeline.id}/clone", {}, content_type="application/json").json()
    exported = api.get(f"/api/pipelines/{pipeline.id}/export").content.decode()
    assert TOKEN not in exported and "webhook" not in exported
    api.post(f"/api/pipelines/{pipeline.id}/rollback", {"version": 1}, content_type="application/json")
    text = exported.replace("pipeline_id: orders", "pipeline_id: imported") + f"webhook_token: {TOKEN}\n"
    imported = api.post("/api/pipelines/import", text.encode(), content_type="application/yaml")
    assert imported.status_code == 201
    assert [row.pipeline_id for row in WebhookToken.objects.all()] == [pipeline.id]
    assert {str(pipeline.id), clone["id"], imported.json()["id"]} == {str(found.id) for found in Pipeline.objects.all()}


def test_a_deleted_pipeline_forgets_its_token(api: Client, pipeline: Pipeline) -> None:
    definitions.delete(pipeline.id)
    assert not WebhookToken.objects.exists()
    again = save_pipeline("Orders")
    assert post(api, again.pipeline_id, X_Webhook_Token=TOKEN).status_code == 404


def test_the_admin_says_whether_there_is_one(api: Client, pipeline: Pipeline) -> None:
    page = api.get(f"/admin/pipelines/pipeline/{pipeline.id}/change/").content.decode()
    assert "its token was set on" in page and TOKEN not in page
    webhooks.remove(pipeline.id)
    assert "its token was set on" not in api.get(f"/admin/pipelines/pipeline/{pipeline.id}/change/").content.decode()
