"""What `make fuzz` found, kept as tests."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

pytestmark = pytest.mark.django_db


@pytest.fixture
def root() -> Client:
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("root"))
    return client


def make(client: Client, **document: Any) -> Any:
    return client.post("/api/pipelines", {"name": "Found", "nodes": [], "edges": [], **document}, content_type="application/json")


def test_an_export_of_the_audit_log_has_whole_numbers_of_any_size(root: Client) -> None:
    """A parameter's default of 30 digits broke the export in its middle."""
    assert make(root, params={"most": 10**30}).status_code == 201
    lines = b"".join(root.get("/api/audit/export?kind=pipeline").streaming_content).splitlines()  # type: ignore[attr-defined]
    assert str(10**30) in lines[0].decode()
    assert json.loads(lines[0])["action"] == "pipeline.created"


@pytest.mark.parametrize("key", ["state", "mode"])
@pytest.mark.parametrize("value", [False, 0, [], {}])
def test_a_rule_that_is_nothing_of_another_type_is_refused(root: Client, key: str, value: object) -> None:
    """`false` was as good as nothing."""
    answer = make(root, dependency_rules=[{"pipeline_id": "orders", key: value}])
    assert answer.status_code == 422
    assert f"/dependency_rules/0/{key}" in {error["pointer"] for error in answer.json()["errors"]}


@pytest.mark.parametrize("value", [None, ""])
def test_a_rule_may_leave_out_how_the_other_must_have_ended(root: Client, value: object) -> None:
    assert make(root, pipeline_id="orders").status_code == 201
    assert make(root, pipeline_id="report", dependency_rules=[{"pipeline_id": "orders", "state": value, "mode": value}]).status_code == 201


@pytest.mark.parametrize("action", ["!pipeline.updated", "pipeline.updated!", "pipeline.*.*", "pipeline.updated\npipeline.deleted"])
def test_an_action_to_look_for_is_one_from_its_first_letter_to_its_last(root: Client, action: str) -> None:
    """A part that looked like an action was enough, and the whole was looked for."""
    assert root.get("/api/audit", {"action": action}).status_code == 400
    assert root.get("/api/audit", {"action": "pipeline.*"}).status_code == 200
