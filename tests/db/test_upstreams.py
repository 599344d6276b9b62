"""Dependencies between pipelines: rows in step with versions, unknown ones and circles refused, upstreams kept from being deleted."""

from typing import Any

import pytest

from brokoli_site.common.errors import Conflict
from pipelines import definitions, listing
from pipelines.definitions import Definition
from pipelines.models import PipelineDependency
from pipelines.spec import InvalidPipeline

pytestmark = pytest.mark.django_db


def make(name: str, **keys: Any) -> Definition:
    return definitions.create({"name": name, "pipeline_id": name.lower(), **keys})


def rows() -> set[tuple[str, str, str, int | None, str]]:
    found = PipelineDependency.objects.select_related("pipeline", "upstream")
    return {(row.pipeline.name, row.upstream.name, row.state, row.within_seconds, row.mode) for row in found}


def problem(caught: pytest.ExceptionInfo[InvalidPipeline]) -> tuple[str, str]:
    (found,) = caught.value.problems
    return found.pointer, found.message


def test_rows_follow_the_versions() -> None:
    a, b = make("A"), make("B")
    rule = {"pipeline_id": str(b.pipeline.id), "state": "completed", "within_seconds": 60, "mode": "trigger"}
    c = make("C", depends_on=["a", "b"], dependency_rules=[rule])
    assert rows() == {("C", "A", "succeeded", None, "gate"), ("C", "B", "completed", 60, "trigger")}

    definitions.patch(c.pipeline.id, {"dependency_rules": None})
    assert rows() == {("C", "A", "succeeded", None, "gate"), ("C", "B", "succeeded", None, "gate")}
    definitions.replace(c.pipeline.id, {"name": "C"})
    assert rows() == set()
    definitions.rollback(c.pipeline.id, 1)
    assert len(rows()) == 2
    definitions.clone(c.pipeline.id)
    assert len(rows()) == 4
    assert listing.dependency_graph()["nodes"][0] == {"id": a.pipeline.id, "pipeline_id": "a", "name": "A", "enabled": True}


def test_an_import_brings_its_dependencies() -> None:
    make("A")
    c = make("C", depends_on=["a"])
    found, _ = definitions.import_document(definitions.represented(c), on_taken="rename")
    assert PipelineDependency.objects.get(pipeline=found.pipeline).upstream.name == "A"


@pytest.mark.parametrize(
    ("keys", "pointer", "message"),
    [
        ({"depends_on": ["a", "nobody"]}, "/depends_on/1", "There is no pipeline 'nobody' to depend on."),
        ({"dependency_rules": [{"pipeline_id": "c"}]}, "/dependency_rules/0/pipeline_id", "A pipeline cannot depend on itself."),
        ({"depends_on": ["01a20096-e51a-7463-930d-69da0079f292"]}, "/depends_on/0", "There is no pipeline '01a20096-"),
    ],
)
def test_what_is_refused(keys: dict[str, Any], pointer: str, message: str) -> None:
    make("A")
    with pytest.raises(InvalidPipeline) as caught:
        make("C", **keys)
    found = problem(caught)
    assert (found[0], found[1].startswith(message)) == (pointer, True), found
    with pytest.raises(InvalidPipeline):
        definitions.replace(make("C").pipeline.id, {"name": "C", **keys})
    assert definitions.find(make("D").pipeline.id).version.number == 1
    assert rows() == set()


def test_one_pipeline_by_id_and_by_slug() -> None:
    key = str(make("A").pipeline.id)
    make("B", depends_on=["a"], dependency_rules=[{"pipeline_id": key, "state": "failed"}])
    assert rows() == {("B", "A", "failed", None, "gate")}
    with pytest.raises(InvalidPipeline, match="Two rules are about"):
        make("C", dependency_rules=[{"pipeline_id": "a"}, {"pipeline_id": key}])


def test_a_circle_is_refused_and_named() -> None:
    a = make("A")
    make("B", depends_on=["a"])
    make("C", depends_on=["b"], dependency_rules=[{"pipeline_id": "a", "mode": "trigger"}])
    make("D", depends_on=["c", "b", "a"])
    with pytest.raises(InvalidPipeline) as caught:
        definitions.patch(a.pipeline.id, {"depends_on": ["d"]})
    assert problem(caught) == (
        "/depends_on/0",
        "Pipelines would wait for each other in a circle: A → D → A. Remove one of these dependencies.",
    )
    assert definitions.find(a.pipeline.id).version.number == 1


def test_an_upstream_cannot_be_deleted_and_a_downstream_can() -> None:
    a, b = make("A"), make("B", depends_on=["a"])
    with pytest.raises(Conflict, match="Pipelines depend on this one: 'B'"):
        definitions.delete(a.pipeline.id)
    definitions.delete(b.pipeline.id)
    definitions.delete(a.pipeline.id)
    assert rows() == set()


def test_validate_names_unknown_upstreams() -> None:
    report = definitions.validate({"name": "x", "nodes": [], "depends_on": ["nobody"], "dependency_rules": [{"pipeline_id": "neither"}]})
    assert [error.message for error in report.errors][-2:] == [
        "There is no pipeline 'neither' to depend on.",
        "There is no pipeline 'nobody' to depend on.",
    ]


def test_the_graph_takes_two_queries(django_assert_num_queries: Any) -> None:
    a = make("A")
    for number in range(5):
        make(f"P{number}", depends_on=["a"], enabled=number > 0)
    make("Alone")
    with django_assert_num_queries(2):
        graph = listing.dependency_graph()
    assert [(node["name"], node["enabled"]) for node in graph["nodes"]] == [("A", True), ("P0", False)] + [(f"P{n}", True) for n in range(1, 5)]
    assert {edge["from"] for edge in graph["edges"]} == {a.pipeline.id}
    assert graph["edges"][0].keys() == {"from", "to", "state", "mode", "within_seconds"}
