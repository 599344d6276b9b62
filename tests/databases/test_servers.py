"""The servers that the other tests of this folder talk to."""

import pytest

from tests.servers import Database

SERVERS = ["postgres_database", "mariadb_database"]


@pytest.fixture(params=SERVERS)
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


def test_a_test_has_an_empty_database_and_a_connection_to_it(database: Database) -> None:
    database.execute("CREATE TABLE t (id integer)", "INSERT INTO t VALUES (1), (2)")
    assert database.rows("SELECT id FROM t ORDER BY id") == [(1,), (2,)]
    assert database.others() == 0
    details = database.vault("target").connection("target", ("postgres", "mysql"))
    assert (details.type, details.port, details.schema, details.password) == (database.type, database.port, database.name, database.password)
