"""A COPY that breaks off half-way ends: with threads for writing alone, DuckDB 2.0 would leave some waiting for ever, which nothing can interrupt."""

import subprocess
import sys
from pathlib import Path

import pytest

from runs import duckdb_instances
from runs.duckdb_instances import EngineLimits
from tests.engine.conftest import MIB
from tests.patience import within

ROOT = Path(__file__).resolve().parents[2]

# A file may have 1 MiB, which to its writer is as a disk that has no more; that needs no right to mount one.
_WITHOUT_ROOM = """
import resource, sys
from pathlib import Path
import duckdb
sys.path.insert(0, sys.argv[1])
from runs import duckdb_instances
from runs.duckdb_instances import EngineLimits

connection = duckdb_instances.trusted(EngineLimits(1024**3, threads=4), Path(sys.argv[2]))
connection.execute("CREATE TABLE t AS SELECT i AS id, md5(i::VARCHAR) AS a, sha256(i::VARCHAR) AS b FROM range(60_000) t(i)")
resource.setrlimit(resource.RLIMIT_FSIZE, (1024**2, 1024**2))
for _ in range(150):
    try:
        connection.execute(f"COPY t TO '{sys.argv[2]}/a.csv' (FORMAT csv, USE_TMP_FILE false)")
    except duckdb.IOException as error:
        print(error)
"""


def test_no_instance_has_threads_for_writing_alone(tmp_path: Path) -> None:
    limits = EngineLimits(memory_bytes=1024 * MIB, threads=2)
    instances = [
        duckdb_instances.trusted(limits, tmp_path),
        duckdb_instances.sandbox(limits, tmp_path, [tmp_path]),
        duckdb_instances.in_memory(256 * MIB, 2, locked=True),
        duckdb_instances.in_memory(256 * MIB, 2, locked=False),
    ]
    for instance in instances:
        assert instance.execute("SELECT current_setting('async_threads')").fetchall() == [(0,)]
        instance.close()


@pytest.mark.slow
def test_copies_without_room_end(tmp_path: Path) -> None:
    """In a process of its own: what hangs in DuckDB cannot be ended otherwise. With threads for writing, about one of twenty hung."""
    command = [sys.executable, "-c", _WITHOUT_ROOM, str(ROOT), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=within(30), check=True)
    assert ran.stdout.count("File too large") == 150
