"""Pipelines in the admin: shown in a few queries, escaped, and never changed there."""

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from pipelines import definitions

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("stub_types")]


def test_lists_take_a_fixed_number_of_queries(api: Client, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    for number in range(30):
        definitions.create({"name": f"P{number}"})
    for address in ("/admin/pipelines/pipeline/", "/admin/pipelines/pipeline/?q=P1&enabled__exact=1", "/admin/pipelines/pipelineversion/"):
        with django_assert_max_num_queries(6):
            assert api.get(address).status_code == 200


def test_a_pipeline_is_shown_with_its_definition_as_text(api: Client) -> None:
    made = definitions.create({"name": "<script>alert(1)</script>", "nodes": [{"id": "a", "type": "stub_rows"}]})
    for address in (f"/admin/pipelines/pipeline/{made.pipeline.id}/change/", f"/admin/pipelines/pipelineversion/{made.version.pk}/change/"):
        page = api.get(address).content.decode()
        assert "&quot;type&quot;: &quot;stub_rows&quot;" in page
        assert "<script>alert" not in page


def test_nothing_is_changed_there(api: Client) -> None:
    made = definitions.create({"name": "p"})
    base = f"/admin/pipelines/pipeline/{made.pipeline.id}"
    assert api.get("/admin/pipelines/pipeline/add/").status_code == 403
    assert api.post(f"{base}/delete/", {"post": "yes"}).status_code == 403
    assert api.post(f"{base}/change/", {"name": "x"}).status_code == 403
    assert definitions.find(made.pipeline.id).document["name"] == "p"
