"""User SQL reads its inputs and nothing else. Two layers, each tested alone: the checker before DuckDB sees a text, and DuckDB's own sandbox."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import duckdb
import pyarrow
import pytest

from pipelines.expressions import ExpressionError, parse_query, parse_scalar
from pipelines.expressions.functions import FUNCTIONS, TABLE_FUNCTIONS
from pipelines.nodes.base import Column
from runs import duckdb_instances
from runs.engine import EngineLimits

pytestmark = pytest.mark.any_database

CANARY = "canary-7f3a"
SCHEMA = (Column("a", "BIGINT"),)

# `{secret}` is a file outside, `{folder}` its folder, `{outside}` a file that does not exist yet, `{url}` a server that would answer.
FILES = [
    "SELECT * FROM '{secret}'",
    'SELECT * FROM "{secret}"',
    "FROM '{secret}'",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv_auto('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_ndjson_objects('{secret}')",
    "SELECT * FROM read_parquet('{folder}/*')",
    "SELECT * FROM parquet_scan('{folder}/x.parquet')",
    "SELECT * FROM parquet_metadata('{folder}/x.parquet')",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM read_duckdb('{folder}/x.duckdb')",
    "SELECT * FROM read_csv('/proc/self/environ')",
    "SELECT * FROM read_text('/proc/self/cmdline')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_csv('{url}')",
    "SELECT * FROM '{url}'",
    "SELECT * FROM read_text('file://{secret}')",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "WITH x AS (SELECT * FROM read_text('{secret}')) SELECT * FROM x",
    "SELECT * FROM input, LATERAL (SELECT * FROM read_text('{secret}'))",
    "SELECT * FROM input WHERE a IN (SELECT length(content) FROM read_text('{secret}'))",
    "SELECT * FROM input ORDER BY (SELECT 1 FROM read_text('{secret}'))",
    "SELECT * FROM input LIMIT (SELECT length(content) FROM read_text('{secret}'))",
    "SELECT * FROM input UNION ALL SELECT length(content) FROM read_text('{secret}')",
    "VALUES ((SELECT content FROM read_text('{secret}')))",
    "SELECT 1 FROM (SELECT 1) AS t, READ_TEXT('{secret}')",
    "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''{secret}'')'))",
]
STATEMENTS = [
    "COPY (SELECT 1) TO '{outside}'",
    "COPY input TO '{outside}'",
    "CREATE TABLE x AS SELECT * FROM read_text('{secret}')",
    "ATTACH '{outside}' AS x",
    "EXPORT DATABASE '{outside}'",
    "IMPORT DATABASE '{folder}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "RESET lock_configuration",
    "PRAGMA enable_external_access",
    "SELECT 1; COPY (SELECT 1) TO '{outside}'",
    "SELECT 1;\n\nATTACH '{outside}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{outside}'",
]
# DuckDB itself would answer these; nothing but the checker keeps them out.
LOOKING_AROUND = [
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_databases()",
    "SELECT * FROM duckdb_views()",
    "SELECT * FROM duckdb_logs",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_table_info('input')",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_tables",
    "SELECT * FROM pg_tables",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM system.information_schema.tables",
    "SELECT * FROM glob('/*')",
    "SELECT current_setting('temp_directory')",
    "SELECT getvariable('x')",
    "SELECT getenv('HOME')",
    "SELECT current_database(), current_schema(), version()",
    "SELECT * FROM sql_auto_complete('SEL')",
    "SELECT write_log('x')",
    "SELECT nextval('s')",
    "SELECT sleep_ms(100000)",
    "SELECT pg_sleep(100)",
    "SELECT system.main.current_setting('temp_directory')",
    "SELECT 'temp_directory'.current_setting()",
    "SELECT list_transform(['temp_directory'], lambda x: current_setting(x))",
    "SELECT max(current_setting('temp_directory')) OVER () FROM input",
    "SELECT * FROM input QUALIFY current_setting('threads') = 1",
    "SELECT * FROM other_input",
    "SELECT * FROM temp.main.input",
    "SELECT * FROM main.input",
    "SELECT * FROM input.other",
    "SELECT * FROM input.main.other",
    "SELECT * FROM input_2",
    "SELECT * FROM df",
    "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a",
    "SELECT * FROM a, (WITH a AS (SELECT 1) SELECT * FROM a)",
    "SUMMARIZE input",
    "SHOW TABLES",
    "DESCRIBE input",
    "SELECT * FROM (SHOW TABLES)",
    "CALL pragma_version()",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "CHECKPOINT",
    "BEGIN",
    "INSERT INTO input VALUES (1)",
    "UPDATE input SET a = 1",
    "DELETE FROM input",
    "DROP VIEW input",
    "CREATE MACRO f(x) AS x",
    "CREATE SECRET s (TYPE http, BEARER_TOKEN 'x')",
    "CREATE TEMP TABLE x AS SELECT 1",
    "WITH x AS (INSERT INTO input VALUES (1) RETURNING a) SELECT * FROM x",
    "SELECT ?",
    "SELECT $1",
    "SELECT #1 FROM input",
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the secrets are. At the end nothing was asked of the server, and nothing was written."""
    tmp_path = tmp_path_factory.mktemp("places")
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.csv").write_text(f"a\n{CANARY}\n")
    with duckdb.connect() as maker:
        maker.execute(f"COPY (SELECT '{CANARY}' AS a) TO '{folder}/x.parquet'")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "way_out").symlink_to(folder)

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CANARY.encode())

        def log_message(self, *_: object) -> None:
            pass

    asked: list[str] = []
    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        "secret": str(folder / "secret.csv"),
        "folder": str(folder),
        "outside": str(folder / "written"),
        "url": f"http://127.0.0.1:{server.server_port}/x.csv",
        "inside": str(tmp_path / "inside"),
    }
    server.shutdown()
    server.server_close()
    assert asked == []
    assert sorted(path.name for path in folder.iterdir()) == ["secret.csv", "x.parquet"]


@pytest.fixture
def sandbox(places: dict[str, str], tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The engine's own instance, without the checker before it."""
    spill = tmp_path / "spill"
    spill.mkdir()
    connection = duckdb_instances.sandbox(EngineLimits(memory_bytes=256 * 1024**2, threads=1, concurrent_runs=1), spill, [Path(places["inside"])])
    connection.execute("CREATE TEMP VIEW input AS SELECT 1 AS a")
    yield connection
    connection.close()


@pytest.mark.parametrize("query", [*FILES, *STATEMENTS, *LOOKING_AROUND])
def test_the_checker_refuses(query: str, places: dict[str, str]) -> None:
    text = query.format(**places) if "{" in query else query
    with pytest.raises(ExpressionError) as caught:
        parse_query(text, {"input": SCHEMA})
    assert caught.value.line >= 1


@pytest.mark.parametrize("query", [*FILES, *STATEMENTS])
def test_the_sandbox_refuses(query: str, places: dict[str, str], sandbox: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error):
        sandbox.execute(query.format(**places)).fetchall()
    assert not Path(places["outside"]).exists()


def test_a_link_within_leads_nowhere(places: dict[str, str], sandbox: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error):
        sandbox.execute(f"SELECT * FROM read_text('{places['inside']}/way_out/secret.csv')").fetchall()
    with pytest.raises(duckdb.Error):
        sandbox.execute(f"SELECT * FROM read_text('{places['inside']}/../outside/secret.csv')").fetchall()


def test_variables_of_the_process_are_no_tables(sandbox: duckdb.DuckDBPyConnection) -> None:
    df = pyarrow.table({"a": [1]})
    assert df.num_rows == 1
    with pytest.raises(duckdb.Error, match="does not exist"):
        sandbox.execute("SELECT * FROM df")


@pytest.mark.parametrize("kind", ["trusted", "dry runs"])
def test_nor_are_they_where_files_may_be_read(kind: str, tmp_path: Path) -> None:
    """In the sandbox `enable_external_access` keeps them out as well; here the setting of its own does so alone."""
    limits = EngineLimits(memory_bytes=256 * 1024**2, threads=1, concurrent_runs=1)
    instance = duckdb_instances.trusted(limits, tmp_path) if kind == "trusted" else duckdb_instances.in_memory(64 * 1024**2, 1, locked=False)
    df = pyarrow.table({"a": [1]})
    assert df.num_rows == 1
    with instance, instance.cursor() as cursor, pytest.raises(duckdb.Error, match="df does not exist"):
        cursor.execute("SELECT * FROM df")


@pytest.mark.parametrize(
    "text",
    [
        "(SELECT 1)",
        "EXISTS (SELECT 1)",
        "a IN (SELECT 1)",
        "a FROM read_text('/etc/passwd')",
        "a) FROM read_text('/etc/passwd') WHERE (true",
        "1; SELECT 2",
        "1 UNION SELECT 2",
        "1 -- \n FROM input",
        "1 /* */ FROM input",
        "DISTINCT a",
        "*",
        "COLUMNS(*)",
        "input.*",
        "a, a",
        "a AS b",
        "read_text('/etc/passwd')",
        "current_setting('threads')",
        "getvariable('x')",
        "getenv('HOME')",
        "a.getenv()",
        "main.getenv('HOME')",
        "'x'.current_setting()",
        "list_transform([1], lambda x: getenv('HOME'))",
        "CASE WHEN getenv('HOME') = '' THEN 1 END",
        "sum(a) FILTER (WHERE getenv('x') = '') OVER ()",
        "sum(a) OVER (ORDER BY getenv('x'))",
        "nextval('s')",
        "sleep_ms(1000)",
        "?",
        "$1",
        "#1",
        "DEFAULT",
        "unnest((SELECT [1]))",
    ],
)
def test_an_expression_is_one_expression(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_scalar(text, SCHEMA).sql  # noqa: B018 - rendering is part of it


# What DuckDB has and expressions may not call. A name that is new in a DuckDB belongs here, or in `functions.py`, once somebody has looked at it.
REFUSED = frozenset(
    """
    bitstring_byte_comparable can_cast_implicitly cast_to_type combine combine_aggr create_sort_key current_catalog current_connection_id
    current_database current_query current_query_id current_role current_schema current_schemas current_setting current_transaction_id
    current_user currval finalize format_pg_type format_type get_block_size get_type getvariable hive_partition_component in_search_path index_key
    invoke json_copy_strftime_if_date json_copy_strftime_if_timestamp json_deserialize_sql json_serialize_plan json_serialize_sql make_type
    map_to_pg_oid md5_number_lower md5_number_upper nextval obj_description parse_duckdb_log_message remap_struct replace_type session_user
    setseed setval shobj_description sleep_ms stats timetz_byte_comparable to_aggregate_state txid_current unpivot_list user
    variant_bytes_to_variant variant_comparator variant_to_parquet_variant vector_type version write_log array_to_string_comma_default
    col_description
    """.split()  # noqa: SIM905 - names in running text can be read and compared
)
REFUSED_KINDS = re.compile(r"__|collate_|icu_collate_|has_\w+_privilege|inet_|pg_(?!typeof|size_pretty)")


def test_every_function_of_duckdb_was_looked_at() -> None:
    sql = "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate', 'macro')"
    with duckdb.connect() as connection:
        known = {row[0] for row in connection.execute(sql).fetchall()}
    words = {name for name in known if re.fullmatch(r"\w+", name)}
    assert sorted(name for name in words - FUNCTIONS - REFUSED if not REFUSED_KINDS.match(name)) == []
    assert not FUNCTIONS & REFUSED
    assert {"unnest", "range", "generate_series"} == TABLE_FUNCTIONS
