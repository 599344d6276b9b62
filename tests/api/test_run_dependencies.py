"""Dependencies over the API: what a pipeline waits for, who waits for it, and a trigger that is refused."""

from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from runs.models import Run
from runs.states import RunStatus
from tests.factories import accept_run, end_run, save_pipeline

pytestmark = pytest.mark.django_db


def test_deps_and_dependents(api: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    orders, stock = save_pipeline("Orders"), save_pipeline("Stock")
    report = save_pipeline("Report", depends_on=["orders"], dependency_rules=[{"pipeline_id": "stock", "mode": "trigger", "within_seconds": 60}])
    run = end_run(accept_run(orders), RunStatus.SUCCESS)

    with django_assert_num_queries(4):  # who asks, the pipeline, its rules, their runs
        found = api.get(f"/api/pipelines/{report.id}/deps").json()
    by_name: dict[str, Any] = {upstream["name"]: upstream for upstream in found}
    assert by_name["Orders"] | {"last_run": by_name["Orders"]["last_run"]["id"]} == {
        "id": str(orders.id),
        "pipeline_id": "orders",
        "name": "Orders",
        "enabled": True,
        "state": "succeeded",
        "mode": "gate",
        "within_seconds": None,
        "holds": True,
        "reason": "",
        "last_run": str(run.id),
    }
    assert (by_name["Stock"]["holds"], by_name["Stock"]["last_run"]) == (False, None)
    assert by_name["Stock"]["reason"] == "Pipeline 'Stock' must have succeeded within 1m00s; no run of it has ended yet"

    (dependent,) = api.get("/api/pipelines/stock/dependents").json()
    assert (dependent["id"], dependent["name"], dependent["mode"], dependent["within_seconds"]) == (str(report.id), "Report", "trigger", 60)
    graph = api.get("/api/pipelines/dependency-graph").json()
    assert {(edge["from"], edge["to"]) for edge in graph["edges"]} == {(str(orders.id), str(report.id)), (str(stock.id), str(report.id))}
    assert api.get("/api/pipelines/nobody/deps").status_code == api.get("/api/pipelines/nobody/dependents").status_code == 404


def test_a_closed_gate_refuses_and_can_be_passed_on_purpose(api: Client) -> None:
    save_pipeline("Orders")
    save_pipeline("Report", depends_on=["orders"])
    refused = api.post("/api/pipelines/report/run", {}, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (409, "dependency_unmet")
    assert refused.json()["detail"] == "Pipeline 'Orders' must have succeeded; no run of it has ended yet."
    assert not Run.objects.exists()
    assert api.post("/api/pipelines/report/run", {"ignore_dependencies": "yes"}, content_type="application/json").status_code == 400
    assert api.post("/api/pipelines/report/run", {"ignore_dependencies": True}, content_type="application/json").status_code == 202


def test_a_circle_and_a_needed_upstream_over_the_api(api: Client) -> None:
    orders = save_pipeline("Orders")
    save_pipeline("Report", depends_on=["orders"])
    refused = api.patch(f"/api/pipelines/{orders.id}", {"depends_on": ["report"]}, content_type="application/json")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/depends_on/0")
    assert "Orders → Report → Orders" in refused.json()["detail"]
    refused = api.delete(f"/api/pipelines/{orders.id}")
    assert (refused.status_code, refused.json()["detail"]) == (409, "Pipelines depend on this one: 'Report'. Change those first.")
