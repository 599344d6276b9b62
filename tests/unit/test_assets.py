"""Which files, tables and APIs nodes read and write: told of their configs, by one name each, and never with a secret."""

import time
from collections.abc import Mapping
from typing import Any

import pytest
from django.conf import settings

from pipelines.assets import graph
from pipelines.assets.queries import LONGEST_QUERY, tables_of
from pipelines.assets.values import Asset, Assets, Database, Databases
from pipelines.nodes import registry
from pipelines.nodes.base import NodeConfig, NodeContext, NodeType, PassThrough, Ports, Result
from pipelines.spec import NodeSpec, from_document

PG, MY, LITE = Database("postgres", "shop"), Database("mysql", "shop"), Database("sqlite", "shop.db")
DATABASES = {"pg": PG, "my": MY, "lite": LITE}


def assets(kind: str, config: Mapping[str, Any]) -> Assets:
    return graph.assets_of(NodeSpec("n", kind, "Node", config), DATABASES)


@pytest.mark.parametrize(
    ("database", "sql", "tables"),
    [
        (PG, "SELECT * FROM orders", ["orders"]),
        (PG, "SELECT * FROM orders o JOIN customers c ON o.c = c.id, items", ["customers", "items", "orders"]),
        (PG, "SELECT * FROM nodes a JOIN nodes b ON a.id = b.parent", ["nodes"]),
        (PG, "SELECT * FROM (SELECT * FROM a UNION SELECT * FROM b) x WHERE id IN (SELECT id FROM c) AND EXISTS (SELECT 1 FROM d)", list("abcd")),
        (PG, "(SELECT * FROM a) EXCEPT (SELECT * FROM b) ORDER BY 1", ["a", "b"]),
        (PG, "WITH x AS (SELECT * FROM a), y AS (SELECT * FROM x) SELECT * FROM y JOIN b USING (id)", ["a", "b"]),
        (PG, "WITH orders AS (SELECT * FROM orders) SELECT * FROM orders", ["orders"]),
        (PG, "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT * FROM t, limits", ["limits"]),
        (PG, "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a, b", ["b"]),  # a's b is a table: the other comes later
        (PG, "SELECT (WITH q AS (SELECT * FROM a) SELECT max(x) FROM q) FROM q", ["a", "q"]),
        (PG, "WITH a AS (SELECT 1) SELECT * FROM sales.a", ["sales.a"]),
        (PG, "WITH a AS (SELECT 1) SELECT * FROM a UNION SELECT * FROM b", ["b"]),
        (PG, 'SELECT * FROM Orders, "Orders", public.orders, shop.public.orders, sales."My.Table"', ["Orders", 'sales."My.Table"', "orders"]),
        (PG, "SELECT * FROM a, LATERAL (SELECT * FROM b WHERE b.id = a.id) x, generate_series(1, 3) g, unnest(ARRAY[1]) u", ["a", "b"]),
        (PG, "SELECT * FROM t WHERE d = '${run.date}' AND n > ${param.n} LIMIT ${param.limit}", ["t"]),
        (PG, "TABLE orders", ["orders"]),
        (PG, "SELECT 'FROM nowhere' -- FROM nothing\n /* FROM never */ FROM here", ["here"]),
        (PG, "VALUES (1), (2)", []),
        (PG, "SELECT 1", []),
        (MY, "SELECT * FROM `shop`.`Orders` JOIN other.items USING (id) WHERE EXISTS (SELECT 1 FROM DUAL)", ["Orders", "other.items"]),
        (LITE, "SELECT * FROM main.Orders, [other].[x]", ["orders", "other.x"]),
        (Database("tsql", "db"), "SELECT TOP 5 * FROM [dbo].[My Orders] CROSS APPLY f(x) JOIN db2.dbo.t ON 1 = 1", ['"my orders"', "db2.dbo.t"]),
        (Database("bigquery"), "SELECT * FROM `p.d.t`, UNNEST(xs)", ["p.d.t"]),
        (Database("oracle"), "SELECT * FROM orders, dual", ["ORDERS"]),
        (Database("snowflake"), "SELECT $1 FROM Orders QUALIFY row_number() OVER (ORDER BY 1) = 1", ["ORDERS"]),
        (Database(), "SELECT * FROM Orders", ["orders"]),
    ],
)
def test_tables_of_queries(database: Database, sql: str, tables: list[str]) -> None:
    found = tables_of(sql, database)
    assert (sorted(found.tables), found.complete) == (sorted(tables), True)


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT FROM WHERE", []),
        ("SELECT 'no end", []),
        ("SELECT * FROM a; SELECT * FROM b", []),
        ("DELETE FROM a", []),
        ("SHOW ALL", []),
        ("EXPLAIN SELECT * FROM a", []),
        ("", []),
        ("${var.whole_query}", []),
        ("SELECT * FROM a JOIN ${param.table} USING (id)", ["a"]),
        ("SELECT * FROM orders_${param.year}", []),
        ("SELECT * FROM a" + " " * LONGEST_QUERY, []),
        ("SELECT * FROM " + ", ".join(f"t{number:03}" for number in range(150)), [f"t{number:03}" for number in range(100)]),
    ],
)
def test_what_cannot_be_read_is_said_to_be_so(sql: str, tables: list[str]) -> None:
    found = tables_of(sql, PG)
    assert (list(found.tables), found.complete) == (tables, False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 9_000 + "1" + ")" * 9_000,
        "SELECT x" + "[1]" * 6_000,
        "SELECT x" + ".f(1)" * 3_900,
        "SELECT x" + "[1] /* */ . y" * 1_500,
        "SELECT " + "CASE WHEN 1 THEN " * 900 + "1" + " END" * 900,
        "SELECT * FROM " + "(SELECT * FROM " * 1_000 + "t" + ") a" * 1_000,
        "SELECT 1 " + "UNION SELECT 1 " * 1_300,
        "WITH " + ", ".join(f"c{n} AS (SELECT * FROM c{n - 1})" for n in range(1, 600)) + " SELECT * FROM c1",
        "SELECT " + "NOT " * 4_900 + "1",
        "SELECT /*" * 2_000,
    ],
    ids=lambda sql: sql[:20],
)
def test_no_text_takes_long(sql: str) -> None:
    start = time.process_time()
    tables_of(sql, PG)
    assert time.process_time() - start < 2


def in_pg(name: str, *, known: bool = True) -> Asset:
    return Asset("table", "pg", name, known)


@pytest.mark.parametrize(
    ("kind", "config", "reads", "writes"),
    [
        ("source_file", {"path": "in/a.csv"}, [Asset("file", "", "in/a.csv")], []),
        ("source_file", {"path": "./in//a.csv"}, [Asset("file", "", "in/a.csv")], []),
        ("source_file", {"path": "/in/a.csv", "conn_id": "bucket"}, [Asset("file", "bucket", "in/a.csv")], []),
        ("source_file", {"path": "in/${param.day}/*.csv"}, [Asset("file", "", "in/${param.day}/*.csv")], []),
        ("source_file", {"path": "sftp://me:hunter2@h/in.csv"}, [Asset("file", "", "sftp:/***@h/in.csv")], []),
        ("source_file", {"path": "s3://key:hunter2@b/in.csv", "conn_id": "s3"}, [Asset("file", "s3", "s3:/***@b/in.csv")], []),
        ("source_file", {"path": "/me:x@home/in@noon.csv"}, [Asset("file", "", "/me:x@home/in@noon.csv")], []),
        ("source_api", {"url": "//me:hunter2@h/x", "conn_id": "c"}, [Asset("api", "c", "***@h/x")], []),
        ("source_file", {"path": "${secret.path}"}, [Asset("file", "", "***", known=False)], []),
        ("sink_file", {"path": "out.parquet"}, [], [Asset("file", "", "out.parquet")]),
        ("source_db", {"conn_id": "pg", "query": "SELECT * FROM a, b"}, [in_pg("a"), in_pg("b")], []),
        ("source_db", {"conn_id": "pg", "query": "no query"}, [in_pg("", known=False)], []),
        ("source_db", {"conn_id": "pg", "query": "SELECT * FROM a, ${param.b}"}, [in_pg("a"), in_pg("", known=False)], []),
        (
            "source_db",
            {"uri": "postgres://me:s3cret@DB.example.org/shop?sslmode=require", "query": "SELECT * FROM A"},
            [Asset("table", "postgres://db.example.org:5432/shop", "a")],
            [],
        ),
        (
            "source_db",
            {"uri": "postgres://me:${secret.pw}@${param.host}/shop", "query": "SELECT * FROM a"},
            [Asset("table", "postgres://${param.host}:5432/shop", "a")],
            [],
        ),
        ("source_db", {"uri": "${secret.uri}", "query": "SELECT * FROM a"}, [Asset("table", "", "", known=False)], []),
        ("source_db", {"uri": "sqlite:///x/../shop.db", "query": "SELECT * FROM a"}, [Asset("table", "sqlite:shop.db", "a")], []),
        ("sink_db", {"conn_id": "pg", "table": "public.Orders"}, [], [in_pg("Orders")]),
        ("sink_db", {"conn_id": "my", "table": "shop.orders"}, [], [Asset("table", "my", "orders")]),
        ("sink_db", {"conn_id": "nobody_made_it", "table": "a.b"}, [], [Asset("table", "nobody_made_it", "a.b")]),
        ("sink_db", {"conn_id": "pg", "table": "${param.t}"}, [], [in_pg("", known=False)]),
        (
            "migrate",
            {"source_conn_id": "my", "source_query": "SELECT * FROM a", "dest_conn_id": "pg", "dest_table": "b"},
            [Asset("table", "my", "a")],
            [in_pg("b")],
        ),
        (
            "source_api",
            {"url": "HTTPS://me:s3cret@API.example.org:443/v1/orders/?key=s3cret#x"},
            [Asset("api", "", "https://api.example.org/v1/orders")],
            [],
        ),
        ("source_api", {"url": "/v1/orders?key=s3cret", "conn_id": "shop"}, [Asset("api", "shop", "v1/orders")], []),
        ("source_api", {"url": "https://${secret.host}/x"}, [Asset("api", "", "", known=False)], []),
        ("source_api", {"url": "http://[bad"}, [Asset("api", "", "", known=False)], []),
        ("sink_api", {"url": "https://x.example/${secret.token}/${param.day}"}, [], [Asset("api", "", "https://x.example/***/${param.day}")]),
        (
            "dbt",
            {"project_dir": "shop", "conn_id": "pg", "target_schema": "mart", "output_model": "orders"},
            [Asset("file", "", "shop")],
            [in_pg("mart.orders")],
        ),
        ("wait", {"condition": "file_exists", "path": "in/*.csv"}, [Asset("file", "", "in/*.csv")], []),
        ("notify", {"webhook_url": "https://hooks.example/s3cret"}, [], []),
        ("sql", {"query": "SELECT * FROM input"}, [], []),
        ("no_such_type", {"path": "x"}, [], []),
    ],
)
def test_assets_of_each_type(kind: str, config: dict[str, Any], reads: list[Asset], writes: list[Asset]) -> None:
    found = assets(kind, config)
    assert (list(found.reads), list(found.writes)) == (reads, writes)
    assert "s3cret" not in repr(found)


def test_a_path_within_the_data_folder_is_the_same_as_a_relative_one() -> None:
    assert assets("source_file", {"path": f"{settings.DATA_DIRS[0]}/in/a.csv"}) == assets("source_file", {"path": "in/a.csv"})


@pytest.mark.parametrize("value", [None, 5, [], {"x": 1}, "", "\0", "://", "${", "$${x}", "${}", "x" * 5000, "é/\u202e"])
def test_a_wrong_config_does_no_harm(value: object, caplog: pytest.LogCaptureFixture) -> None:
    keys = ("path", "url", "uri", "conn_id", "query", "table", "source_uri", "source_query", "dest_table", "dest_uri", "project_dir", "output_model")
    for kind in registry.OWN:
        assets(kind, dict.fromkeys(keys, value))
        assets(kind, {"condition": "http", "url": value})
    assert not caplog.records


class Feed(NodeType):
    name = "feed"
    label = "Feed"
    category = "source"
    help = "For tests."
    ports = Ports(0, 0)
    Config = NodeConfig

    def assets(self, config: Mapping[str, Any], databases: Databases) -> Assets:
        return Assets(reads=(Asset("api", "", f"feed:{config['name']}"),))

    def run(self, context: NodeContext) -> Result:
        return PassThrough()


def test_a_type_of_others_says_what_it_reads(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(registry, "find", lambda name: Feed())
    assert assets("feed", {"name": "x"}).reads == (Asset("api", "", "feed:x"),)
    assert assets("feed", {}) == Assets()  # it fails, and no pipeline with it
    assert "assets of a node of type feed" in caplog.text


def pipeline(nodes: list[tuple[str, str, dict[str, Any]]], edges: list[tuple[str, str]]) -> graph.Graph:
    document = {
        "name": "P",
        "nodes": [{"id": node_id, "type": kind, "name": node_id, "config": config} for node_id, kind, config in nodes],
        "edges": [{"from": source, "to": target} for source, target in edges],
    }
    return graph.of_pipeline(from_document(document), DATABASES)


def shown(found: graph.Graph) -> set[tuple[str, str]]:
    ids = [item.full_id("P") for item in found.items]
    return {(ids[source], ids[target]) for source, target in found.edges}


def test_a_pipeline_is_assets_with_processing_between() -> None:
    found = pipeline(
        [
            ("read", "source_db", {"conn_id": "pg", "query": "SELECT * FROM a JOIN b USING (id)"}),
            ("one", "source_file", {"path": "c.csv"}),
            ("both", "union", {}),
            ("write", "sink_db", {"conn_id": "pg", "table": "d"}),
            ("guess", "source_db", {"conn_id": "pg", "query": "SELECT ${var.columns}, '${secret.s}' FROM ${param.x}"}),
        ],
        [("read", "both"), ("one", "both"), ("both", "write"), ("write", "guess")],
    )
    assert shown(found) == {
        ("table://pg/a", "proc:P:read"),
        ("table://pg/b", "proc:P:read"),
        ("proc:P:read", "proc:P:both"),
        ("file:c.csv", "proc:P:both"),
        ("proc:P:both", "table://pg/d"),
        ("connection:pg", "proc:P:read"),
        ("connection:pg", "table://pg/d"),
        ("connection:pg", "table:?:P:guess"),
        ("variable:columns", "table:?:P:guess"),
        ("variable:s", "table:?:P:guess"),
    }
    by_id = {item.full_id("P"): item for item in found.items}
    assert not by_id["table:?:P:guess"].known and by_id["proc:P:both"].sub_type == "union"
    assert "table:?" not in " ".join(found.shared_ids())
    assert graph.loaded(found.dumped())[0][0][0] == found.items[0].id


def test_statements_fill_the_table_that_they_are_made_for() -> None:
    found = pipeline(
        [
            ("one", "source_file", {"path": "c.csv"}),
            ("make", "sql_generate", {"table": "orders"}),
            ("keep", "condition", {"expression": "always_true"}),
            ("write", "sink_db", {"conn_id": "pg"}),
            ("other", "sink_db", {"conn_id": "pg"}),
        ],
        [("one", "make"), ("make", "keep"), ("keep", "write"), ("one", "other")],
    )
    assert ("proc:P:keep", "table://pg/orders") in shown(found)
    assert ("file:c.csv", "table:?:P:other") in shown(found)


def test_long_names_stay_apart() -> None:
    found = pipeline([(f"n{n}", "source_file", {"path": "x/" * 2000 + str(n)}) for n in range(2)], [])
    first, second = (item.id for item in found.items)
    assert first != second and max(len(first), len(second)) <= graph.LONGEST_ID


@pytest.mark.slow
def test_a_pipeline_with_very_much_sql_is_read_in_bounded_time() -> None:
    sql = "SELECT " + ", ".join(f"col_{n} + {n} AS c{n}" for n in range(700)) + " FROM t"
    start = time.process_time()
    found = pipeline([(f"n{n}", "source_db", {"conn_id": "pg", "query": f"{sql} WHERE x = {n}"}) for n in range(250)], [])
    assert time.process_time() - start < 15
    assert {"table://pg/t", "proc:P:n249"} <= {item.full_id("P") for item in found.items}


def test_every_type_says_it_by_itself() -> None:
    """What reaches outside of its run without a word would be missing from the lineage."""
    silent = {node_type.name for node_type in registry.all() if type(node_type).assets is NodeType.assets and node_type.name in registry.OWN}
    reaching = {"source_file", "sink_file", "source_db", "sink_db", "migrate", "source_api", "sink_api", "dbt", "wait", "sql_generate"}
    assert silent == set(registry.OWN) - reaching
