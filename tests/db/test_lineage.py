"""The lineage of all pipelines: rows in step with versions, assets that are shared, few queries however many pipelines."""

from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from brokoli_site.common.errors import NotFound
from pipelines import connections, definitions
from pipelines.assets import rows
from pipelines.models import Pipeline, PipelineAsset, PipelineLineage
from system import lineage
from tests.factories import make_pipeline

pytestmark = pytest.mark.django_db


def node(node_id: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, "name": node_id, "config": config}


def save(name: str, source: dict[str, Any], sink: dict[str, Any]) -> Pipeline:
    nodes = [node("in", **source), node("do", "transform", rules=[]), node("out", **sink)]
    edges = [{"from": "in", "to": "do"}, {"from": "do", "to": "out"}]
    return definitions.create({"name": name, "nodes": nodes, "edges": edges}).pipeline


def csv(path: str) -> dict[str, Any]:
    return {"kind": "source_file", "path": path}


def to_csv(path: str) -> dict[str, Any]:
    return {"kind": "sink_file", "path": path}


def table(name: str) -> dict[str, Any]:
    return {"kind": "source_db", "conn_id": "db", "query": f"SELECT * FROM {name}"}


def to_table(name: str) -> dict[str, Any]:
    return {"kind": "sink_db", "conn_id": "db", "table": name}


def edges(found: lineage.Lineage) -> set[tuple[str, str]]:
    return {(edge["from"], edge["to"]) for edge in found.edges}


def assets() -> set[str]:
    return set(PipelineAsset.objects.values_list("asset", flat=True))


def test_what_pipelines_share_is_one_node() -> None:
    first = save("A", csv("a.csv"), to_table("orders"))
    second = save("B", table("Orders"), to_csv("b.csv"))
    found = lineage.whole()
    assert set(found.nodes) == {
        *("file:a.csv", "table://db/orders", "file:b.csv", "connection:db", f"proc:{first.id}:do", f"proc:{second.id}:do"),
    }
    assert {(f"proc:{first.id}:do", "table://db/orders"), ("table://db/orders", f"proc:{second.id}:do")} <= edges(found)
    assert found.nodes[f"proc:{first.id}:do"]["pipeline"] == "A" and found.nodes["table://db/orders"]["pipeline_id"] is None


def test_rows_follow_the_versions() -> None:
    made = save("A", csv("a.csv"), to_csv("b.csv"))
    assert assets() == {"file:a.csv", "file:b.csv"}
    definitions.patch(made.id, {"name": "Renamed"})
    assert {one["pipeline"] for one in lineage.whole().edges} == {"Renamed"}
    definitions.patch(made.id, {"nodes": [node("in", "source_file", path="c.csv")], "edges": []})
    assert assets() == {"file:c.csv"} and set(lineage.whole().nodes) == {"file:c.csv"}
    definitions.rollback(made.id, 1)
    assert assets() == {"file:a.csv", "file:b.csv"}
    clone = definitions.clone(made.id)
    assert len(lineage.whole().edges) == 4
    definitions.delete(made.id)
    assert {edge["pipeline_id"] for edge in lineage.whole().edges} == {str(clone.pipeline.id)}
    assert lineage.pending() == 0


def test_a_deleted_pipeline_is_around_nothing() -> None:
    made = save("A", csv("a.csv"), to_csv("b.csv"))
    definitions.delete(made.id)
    with pytest.raises(NotFound):
        lineage.around("file:a.csv", 3)
    with pytest.raises(NotFound):
        lineage.around(f"proc:{made.id}:do", 3)


def test_pipelines_that_were_there_before_are_caught_up_with() -> None:
    for number in range(3):
        make_pipeline([node("in", "source_file", path=f"{number}.csv")])
    make_pipeline([{"nonsense": 1}])
    assert (lineage.whole().nodes, lineage.pending()) == ({}, 4)
    assert rows.catch_up(most=2) == 2
    assert lineage.pending() == 2
    assert rows.catch_up() == 2
    assert set(lineage.whole().nodes) == {"file:0.csv", "file:1.csv", "file:2.csv"}
    assert (lineage.pending(), rows.catch_up()) == (0, 0)
    PipelineLineage.objects.update(revision=0)
    assert rows.catch_up() == 4


def test_a_connection_that_changes_has_its_users_told_anew() -> None:
    save("A", csv("a.csv"), to_csv("b.csv"))
    save("B", {"kind": "source_db", "conn_id": "db", "query": 'SELECT * FROM "Orders" WHERE `x` = 1'}, to_csv("c.csv"))
    assert "table://db/Orders" not in lineage.whole().nodes
    connections.create("db", {"type": "mysql", "host": "db.example.org", "schema": "shop"})
    assert lineage.pending() == 1
    rows.catch_up()
    connections.change("db", {"description": "x"}, whole=False)
    assert lineage.pending() == 0
    connections.change("db", {"type": "sqlite", "host": "x.db"}, whole=False)
    assert lineage.pending() == 1
    rows.catch_up()
    assert "table://db/orders" in lineage.whole().nodes


def test_around() -> None:
    first = save("A", csv("a.csv"), to_table("orders"))
    second = save("B", table("orders"), to_csv("b.csv"))
    save("C", csv("a.csv"), to_csv("c.csv"))
    save("D", csv("b.csv"), to_csv("d.csv"))
    near = lineage.around("table://db/orders", 1)
    assert set(near.nodes) == {"table://db/orders", f"proc:{first.id}:do", f"proc:{second.id}:do", "connection:db"}
    assert edges(near) == {
        *((f"proc:{first.id}:do", "table://db/orders"), ("table://db/orders", f"proc:{second.id}:do"), ("connection:db", "table://db/orders"))
    }
    far = set(lineage.around("table://db/orders", 4).nodes)
    assert {"file:a.csv", "file:b.csv", "file:d.csv"} <= far
    assert "file:c.csv" not in far  # a.csv feeds it, but orders has nothing to do with that
    assert set(lineage.around("file:c.csv", 2).nodes) >= {"file:a.csv"}
    assert set(lineage.around(f"proc:{second.id}:do", 1).nodes) == {"table://db/orders", f"proc:{second.id}:do", "file:b.csv"}
    assert "file:d.csv" in lineage.around("connection:db", 5).nodes


def test_around_a_cycle() -> None:
    save("A", csv("a.csv"), to_csv("b.csv"))
    save("B", csv("b.csv"), to_csv("a.csv"))
    save("C", csv("z.csv"), to_csv("b.csv"))
    found = lineage.around("file:a.csv", 20)
    assert {"file:a.csv", "file:b.csv", "file:z.csv"} <= set(found.nodes)
    assert len(found.edges) == len({(edge["from"], edge["to"]) for edge in found.edges}) == 6


def test_what_is_not_understood_is_found_by_its_id() -> None:
    made = save("A", {"kind": "source_db", "conn_id": "db", "query": "SELECT * FROM ${param.t}"}, to_csv("b.csv"))
    found = lineage.around(f"table:?:{made.id}:in", 2)
    assert "file:b.csv" in found.nodes and not found.nodes[f"table:?:{made.id}:in"]["understood"]


@pytest.mark.parametrize(
    "asset", ["file:nothing", "", "proc:", "proc:x:y", "proc:00000000-0000-7000-8000-000000000000:x", "table:?:::", "\u202e", "x" * 999]
)
def test_around_nothing(asset: str) -> None:
    with pytest.raises(NotFound):
        lineage.around(asset, 1)


def test_the_number_of_queries_does_not_grow(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    for count in (2, 8):
        for number in range(count):
            save(f"P{count}-{number}", table("orders"), to_csv(f"{count}-{number}.csv"))
        with django_assert_num_queries(1):
            assert len(lineage.whole().nodes) > count
        with django_assert_num_queries(1):  # a step that leads to nothing new that is shared asks for nothing
            lineage.around("table://db/orders", 1)
        with django_assert_num_queries(2):
            lineage.around("table://db/orders", 3)
        with django_assert_num_queries(1):
            lineage.pending()


def test_saving_costs_a_few_queries_more(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_max_num_queries(12):
        made = save("A", csv("a.csv"), to_table("orders"))
    with django_assert_max_num_queries(14):
        definitions.patch(made.id, {"description": "x"})
