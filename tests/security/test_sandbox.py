"""What runs in a sandbox reaches its inputs, and neither the host nor another run."""

from pathlib import Path

import pytest

from brokoli_site.common.errors import NodeError
from pipelines.nodes.base import NodeContext, Query
from runs.engine import RunSession
from tests.engine.conftest import Plant, plant, session

pytestmark = pytest.mark.any_database

__all__ = ["plant", "session"]


@pytest.fixture
def secret(plant: Plant) -> Path:
    """A file of another run, beside what the node may read."""
    with plant.engine.open_run("other") as other:
        plant.run(other, "SELECT 'canary' AS secret", key="other/1.1.parquet")
    return plant.store.path("other/1.1.parquet")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_parquet('{secret}')",
        "SELECT * FROM read_parquet('{root}/artifacts/*/*.parquet')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM read_blob('{secret}')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_parquet('run/../../other/1.1.parquet')",
        "SELECT * FROM read_json('http://127.0.0.1:1/x')",
        "COPY (SELECT 1) TO '{root}/data/out.csv'",
        "COPY (SELECT 1) TO '/tmp/out.csv'",
        "ATTACH '{root}/data/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '100GB'",
        "SET allowed_directories = ['/']",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET temp_directory = '/tmp'",
        "CREATE SECRET (TYPE s3)",
        "EXPORT DATABASE '{root}/data/all'",
        "SELECT getenv('HOME')",
        "SELECT * FROM secret_variable",
    ],
)
def test_a_statement_that_leads_out_is_refused(plant: Plant, session: RunSession, secret: Path, sql: str) -> None:
    secret_variable = [{"a": 1}]  # DuckDB would find it by name, were its replacement scans on
    assert secret_variable
    before = sorted(plant.root.rglob("*"))
    statement = sql.format(secret=secret, root=plant.root)

    def work(context: NodeContext) -> Query:
        context.connection.execute(statement).fetchall()
        return Query("SELECT 1 AS a")

    with pytest.raises(NodeError) as caught:
        plant.run(session, work)
    assert "canary" not in caught.value.message
    assert sorted(plant.root.rglob("*")) == before


def test_a_node_cannot_read_even_another_output_of_its_run(plant: Plant, session: RunSession) -> None:
    plant.run(session, "SELECT 'canary' AS secret", key="run/1.1.parquet")
    with pytest.raises(NodeError, match="disabled by configuration"):
        plant.run(session, f"SELECT * FROM read_parquet('{plant.store.path('run/1.1.parquet')}')", key="run/2.1.parquet")


def test_inputs_are_out_of_reach_when_the_node_has_ended(plant: Plant, session: RunSession) -> None:
    first = plant.run(session, "SELECT 'canary' AS secret", key="run/1.1.parquet")
    seen: list[str] = []

    def work(context: NodeContext) -> Query:
        (view,) = context.connection.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'input'").fetchall()[0]
        seen.append(view[view.index("/") : view.index(".parquet") + len(".parquet")])
        return Query("SELECT * FROM input")

    plant.run(session, work, first, key="run/2.1.parquet")
    assert not Path(seen[0]).exists()
    with pytest.raises(NodeError):
        plant.run(session, f"SELECT * FROM read_parquet('{seen[0]}')", key="run/3.1.parquet")


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE left_behind AS SELECT 'canary' AS secret", "CREATE VIEW left_behind AS SELECT 'canary' AS secret", "CREATE SEQUENCE left_behind"],
)
def test_what_a_node_type_leaves_in_a_sandbox_meets_no_other_run(plant: Plant, statement: str) -> None:
    def leave(context: NodeContext) -> Query:
        context.connection.execute(statement)
        return Query("SELECT 1 AS a")

    with plant.engine.open_run("run") as first:
        plant.run(first, leave)
    with plant.engine.open_run("run") as second:
        for look in ("SELECT * FROM left_behind", "SELECT nextval('left_behind')"):
            with pytest.raises(NodeError, match="does not exist"):
                plant.run(second, look)


def test_a_sandbox_serves_the_next_run_but_never_two_at_once(plant: Plant) -> None:
    def instance(context: NodeContext) -> Query:
        (folders,) = context.connection.execute("SELECT current_setting('allowed_directories')").fetchall()[0]
        return Query(f"SELECT '{min(folders)}' AS folder")

    with plant.engine.open_run("run") as one, plant.engine.open_run("run") as two:
        first, second = (plant.rows(plant.run(opened, instance)) for opened in (one, two))
        assert first != second
    with plant.engine.open_run("run") as three:
        assert plant.rows(plant.run(three, instance)) in (first, second)
