"""`GET /api/capabilities`, as the SDK reads it."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from brokoli_site.common.version import VERSION
from pipelines.nodes import registry
from system import capabilities

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

_SDK = Path(__file__).parent.parent / "engine"


def answer(api: Client) -> dict[str, Any]:
    response = api.get("/api/capabilities")
    assert response.status_code == 200, response.content
    found: dict[str, Any] = response.json()
    return found


def test_what_the_sdk_asks_before_it_deploys(api: Client) -> None:
    found = answer(api)
    assert found["version"] == VERSION
    assert found["ir_version"] in found["supported_ir_versions"]
    assert all(isinstance(text, str) and text for key in ("supported_ir_versions", "supported_execution_features") for text in found[key])
    assert found["node_type_capabilities"].keys() == set(registry.names())
    assert all(set(tags) <= set(found["node_capabilities"]) for tags in found["node_type_capabilities"].values())
    assert found["disabled_node_types"] == ["bash"]


def test_types_that_are_turned_off(api: Client, settings: Any) -> None:
    settings.DISABLED_NODE_TYPES = ("code", "sql", "nothing-of-ours")
    assert answer(api)["disabled_node_types"] == ["code", "sql"]
    settings.DISABLED_NODE_TYPES = ()
    assert answer(api)["disabled_node_types"] == []


def test_a_type_of_a_package_has_the_tags_of_its_category(api: Client) -> None:
    found = answer(api)["node_type_capabilities"]
    assert (found["source_file"], found["sink_db"], found["sql"]) == (["source", "dataset-output"], ["sink"], ["compute"])


@pytest.mark.parametrize("name", ["sdk_pipeline.json", "sdk_branches.json"])
def test_documents_of_the_sdk_are_within_it(name: str) -> None:
    assert json.loads((_SDK / name).read_text())["ir_version"] in capabilities.IR_VERSIONS


def test_it_takes_no_parameters(api: Client) -> None:
    assert api.get("/api/capabilities?x=1").status_code == 400
