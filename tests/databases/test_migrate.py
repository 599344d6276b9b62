"""`migrate` between real servers."""

import threading
from typing import Any

import pytest

from brokoli_site.common.errors import NodeCancelled, NodeError, TransientNodeError
from pipelines.nodes.base import Stop
from pipelines.vault import Vault
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop
from tests.patience import within
from tests.programs import wait_for
from tests.servers import Database

SERIES = {
    "postgres": "SELECT g AS id, 'name ' || g AS name, CAST(g AS numeric(12, 2)) AS amount FROM (SELECT generate_series(1, {}) AS g) t",
    "mysql": "SELECT seq AS id, concat('name ', seq) AS name, CAST(seq AS DECIMAL(12, 2)) AS amount FROM seq_1_to_{}",
}
TABLE = "CREATE TABLE target (id BIGINT PRIMARY KEY, name VARCHAR(100), amount DECIMAL(30, 6))"


@pytest.fixture(params=[("postgres", "mariadb"), ("mariadb", "postgres")], ids=["postgresql to mariadb", "mariadb to postgresql"])
def pair(request: pytest.FixtureRequest) -> tuple[Database, Database]:
    source, destination = (request.getfixturevalue(f"{name}_database") for name in request.param)
    return source, destination


def migrate(workshop: Workshop, pair: tuple[Database, Database], query: str, stop: Stop | None = None, **config: Any) -> Outcome:
    source, destination = pair
    vault = Vault(connections={"from": source.connection("from"), "to": destination.connection("to")})
    given = {"source_conn_id": "from", "dest_conn_id": "to", "source_query": query, "dest_table": "target", **config}
    return workshop.run("migrate", Given(given, vault=vault), stop=stop, node_id="copy")


def test_rows_are_copied_once(workshop: Workshop, pair: tuple[Database, Database]) -> None:
    pair[1].execute(TABLE)
    query = SERIES[pair[0].type].format(50_000)
    for _ in range(2):  # the second is a retry of the same node in the same run
        assert migrate(workshop, pair, query).result.row_count == 50_000
    assert pair[1].rows("SELECT count(*), min(name), sum(amount) FROM target") == [(50_000, "name 1", 1_250_025_000)]


def test_parts_are_read_at_the_same_time(workshop: Workshop, pair: tuple[Database, Database]) -> None:
    pair[1].execute(TABLE, "INSERT INTO target VALUES (7, 'old', 0), (-1, 'kept', 0)")
    partition = {"column": "id", "strategy": "numeric", "boundaries": [10_000, 20_000, 30_000], "max_parallel": 3}
    outcome = migrate(workshop, pair, SERIES[pair[0].type].format(40_000), mode="upsert", key_columns=["id"], partition=partition)
    assert outcome.result.row_count == 40_000
    assert pair[1].rows("SELECT count(*), sum(id) FROM target WHERE name LIKE 'name %'") == [(40_000, 800_020_000)]
    assert pair[1].rows("SELECT count(*) FROM target WHERE id = -1") == [(1,)]


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_source_that_fails_half_way_leaves_the_destination_as_it_was(mode: str, workshop: Workshop, pair: tuple[Database, Database]) -> None:
    pair[1].execute(TABLE, "INSERT INTO target VALUES (-1, 'kept', 0)")
    source = pair[0]
    thread = threading.Thread(target=source.end_reader)
    thread.start()
    with pytest.raises(TransientNodeError, match="went away in the middle"):
        migrate(workshop, pair, SERIES[source.type].format(100_000_000), mode=mode)
    thread.join()
    assert pair[1].rows("SELECT id, name FROM target") == [(-1, "kept")]


@pytest.mark.slow
def test_a_stop_leaves_the_destination_as_it_was(workshop: Workshop, pair: tuple[Database, Database]) -> None:
    pair[1].execute(TABLE, "INSERT INTO target VALUES (-1, 'kept', 0)")
    stop, errors = Stop(), list[NodeError]()

    def work() -> None:
        try:
            migrate(workshop, pair, SERIES[pair[0].type].format(100_000_000), stop, mode="overwrite")
        except NodeError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: pair[1].others() == 1)
    thread.join(0.5)
    stop.stop(NodeCancelled("The run was cancelled."))
    thread.join(within(3))
    assert not thread.is_alive()
    assert [type(error) for error in errors] == [NodeCancelled]
    assert pair[1].rows("SELECT id, name FROM target") == [(-1, "kept")]
    wait_for(lambda: pair[0].others() == 0)
