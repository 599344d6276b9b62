"""The example of the databases, node by node on each of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokoli_site.common import yaml
from pipelines.vault import StoredConnection, Vault
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop
from tests.programs import ROOT
from tests.servers import Database

CONN_ID = "example_warehouse"


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "postgres_database", "mariadb_database"])
def vault(request: pytest.FixtureRequest) -> Vault:
    if request.param == "sqlite":
        return Vault(connections={CONN_ID: StoredConnection(CONN_ID, "sqlite", host="examples/warehouse.db")})
    database: Database = request.getfixturevalue(request.param)
    return database.vault(CONN_ID)


def test_flights_go_in_and_answers_come_out(workshop: Workshop, vault: Vault) -> None:
    folder = workshop.folder / "examples"
    folder.mkdir()
    shutil.copy(ROOT / "examples/data/flights_2013_02.csv.gz", folder)
    nodes = {node["id"]: node for node in yaml.loads((ROOT / "examples/warehouse.yaml").read_bytes())["nodes"]}
    read = workshop.run("source_file", Given(nodes["flights"]["config"]))
    written = workshop.run("sink_db", Given(nodes["load"]["config"], [f"FROM {read.sql}"], vault=vault))
    assert written.result.row_count == read.result.row_count > 20_000
    late = workshop.run("source_db", Given(nodes["late"]["config"], vault=vault), {"carrier": "UA"})
    direct = (
        f"SELECT carrier, origin, count(*), count(*) FILTER (WHERE dep_delay > 15) FROM {read.sql} WHERE carrier = 'UA' GROUP BY ALL ORDER BY origin"
    )
    assert [tuple(row[:2]) + tuple(int(value) for value in row[2:]) for row in late.rows] == workshop.rows(direct)
