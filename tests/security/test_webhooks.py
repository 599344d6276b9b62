"""Webhooks need no login, so they tell nothing: whatever is wrong looks alike, and the token is nowhere but where it was asked for."""

import json
import logging
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from brokoli_site.common.secrets import Keyring
from pipelines import definitions, webhooks
from pipelines.models import WebhookToken
from runs.models import Run
from tests.factories import accept_run, save_pipeline
from tests.security.canaries import Watch, plain
from tests.security.test_canaries import answers

TOKEN = "a-token-of-somebody-s-own"
UNKNOWN = "019a9f3c-5b1e-7c42-9d0e-2f6a4c1b8e70"
CANARY = plain("webhook")
exposed = Watch(CANARY).seen


def ask(key: str, body: bytes = b"{}", **headers: str) -> Any:
    client = Client(headers={"host": "localhost"}, enforce_csrf_checks=True)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.generic("POST", f"/api/pipelines/{key}/webhook", body, content_type="application/json", headers=named)


@pytest.mark.django_db
def test_all_refusals_look_alike() -> None:
    right = save_pipeline("Right", webhook_token=TOKEN)
    disabled = save_pipeline("Disabled", webhook_token=TOKEN, enabled=False)
    none = save_pipeline("None")
    deleted = save_pipeline("Deleted", webhook_token=TOKEN)
    definitions.delete(deleted.id)
    other = save_pipeline("Elsewhere", webhook_token="the-token-of-another-one")
    unreadable = save_pipeline("Unreadable", webhook_token=TOKEN)
    WebhookToken.objects.filter(pipeline=unreadable).update(sealed=Keyring((Fernet.generate_key(),)).seal(TOKEN, "x"))
    asked = {
        "wrong token": (str(right.id), {"X_Webhook_Token": TOKEN[:-1] + "x"}),
        "shorter token": (str(right.id), {"X_Webhook_Token": "x"}),
        "empty token": (str(right.id), {"X_Webhook_Token": ""}),
        "no token": (str(right.id), {}),
        "no token was set": (str(none.id), {"X_Webhook_Token": TOKEN}),
        "no token was set, and none given": (str(none.id), {"X_Webhook_Token": ""}),
        "disabled": (str(disabled.id), {"X_Webhook_Token": TOKEN}),
        "deleted": (str(deleted.id), {"X_Webhook_Token": TOKEN}),
        "token of another": (str(other.id), {"X_Webhook_Token": TOKEN}),
        "unreadable": (str(unreadable.id), {"X_Webhook_Token": TOKEN}),
        "unknown": (UNKNOWN, {"X_Webhook_Token": TOKEN}),
        "unknown slug": ("nowhere", {"X_Webhook_Token": TOKEN}),
        "no id": ("%F0%9F%8E%89", {"X_Webhook_Token": TOKEN}),
        "wrong signature": (str(right.id), {"X_Hub_Signature_256": "sha256=" + "0" * 64}),
        "beyond ASCII": (str(right.id), {"X_Webhook_Token": "ä" * 20, "X_Hub_Signature_256": "ü"}),
    }
    seen = {}
    for name, (key, headers) in asked.items():
        for body in (b"{}", b"{not json"):  # who is not known is not told how to write, either
            with CaptureQueriesContext(connection) as queries:
                response = ask(key, body, **headers)
            shown = {**response.json(), "instance": "", "request_id": ""}
            seen[name, body] = (response.status_code, json.dumps(shown), str(sorted(response.headers)), len(queries))
    assert len(set(seen.values())) == 1, seen
    assert next(iter(seen.values()))[0] == 404
    assert not Run.objects.exists()
    assert ask(str(right.id), X_Webhook_Token=TOKEN).status_code == 202


@pytest.mark.django_db
def test_who_reads_the_log_is_told_why(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = save_pipeline("Right", webhook_token=TOKEN)
    with caplog.at_level(logging.WARNING):
        ask(str(pipeline.id), X_Webhook_Token="wrong-" + TOKEN)
        ask(str(pipeline.id))
        ask(UNKNOWN, X_Webhook_Token=TOKEN)
    told = [record for record in caplog.records if "webhook refused" in record.getMessage()]
    assert len(told) == 2  # of what is no pipeline of ours nobody fills our log
    assert "wrong token" in told[0].getMessage() and "no token" in told[1].getMessage()
    assert TOKEN not in caplog.text


@pytest.mark.django_db
def test_a_page_of_another_origin_needs_the_token_too() -> None:
    pipeline = save_pipeline("Right", webhook_token=TOKEN)
    assert ask(str(pipeline.id), Origin="https://evil.example").status_code == 404
    assert ask(str(pipeline.id), Origin="https://evil.example", X_Webhook_Token=TOKEN).status_code == 202


@pytest.mark.django_db
def test_the_token_is_told_by_nothing(api_client: Client, caplog: pytest.LogCaptureFixture) -> None:
    body = {"name": "Sweep-only", "nodes": [{"id": "only", "type": "sql", "config": {"query": "SELECT 1 AS x"}}], "edges": []}
    caplog.set_level(logging.DEBUG)
    told = {}
    made = api_client.post("/api/pipelines", {**body, "webhook_token": f"{CANARY}-first"}, content_type="application/json")
    path = f"/api/pipelines/{made.json()['id']}"
    for name, response in {
        "post": made,
        "put": api_client.put(path, {**body, "webhook_token": f"{CANARY}-second"}, content_type="application/json"),
        "patch": api_client.patch(path, {"webhook_token": f"{CANARY}-third"}, content_type="application/json"),
        "refused": api_client.patch(path, {"webhook_token": f"{CANARY} weak"}, content_type="application/json"),
        "validate": api_client.post("/api/pipelines/validate", {**body, "webhook_token": f"{CANARY}-draft"}, content_type="application/json"),
        "taken": api_client.post("/api/pipelines", {**body, "pipeline_id": "sweep-only", "webhook_token": CANARY}, content_type="application/json"),
        "webhook": ask(path.rpartition("/")[2], X_Webhook_Token=f"{CANARY}-third"),
        "wrong": ask(path.rpartition("/")[2], X_Webhook_Token=f"{CANARY}-fourth"),
        "import": api_client.post("/api/pipelines/import", {**body, "webhook_token": f"{CANARY}-file"}, content_type="application/json"),
    }.items():
        told[name] = exposed(response.content.decode())
    pipeline = definitions.find(definitions.identify("sweep-only")).pipeline
    assert webhooks.opened(WebhookToken.objects.get()) == f"{CANARY}-third"
    run = accept_run(pipeline)
    for address, answer in answers(api_client, [pipeline], [run], only_reads=True):
        told[address] = exposed(answer)
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            told[table] = exposed(str(cursor.fetchall()))
    for address in (f"/admin/pipelines/pipeline/{pipeline.id}/change/", "/admin/pipelines/pipelineversion/"):
        told[address] = exposed(api_client.get(address).content.decode())
    told["log"] = exposed(caplog.text)
    assert len(told) > 40
    assert {where: what for where, what in told.items() if what} == {}


@pytest.fixture
def api_client() -> Client:
    return Client(headers={"host": "localhost:8080"}, raise_request_exception=False)
