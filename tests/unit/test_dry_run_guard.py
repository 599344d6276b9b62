"""The guard, in processes of their own: it cannot be taken back."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.programs import ROOT

PREPARED = """
import os, subprocess, sys, tempfile
from pathlib import Path
import duckdb
from runs import dry_run_guard
dry_run_guard.install(1024**3)
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", "-c", PREPARED + code]
    return subprocess.run(command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "code",
    [
        "open('new.txt', 'w')",
        "open('there.txt', 'r+')",
        "open('there.txt', 'ab')",
        "os.open('new.txt', os.O_CREAT)",
        "Path('there.txt').unlink()",
        "Path('new').mkdir()",
        "os.rename('there.txt', 'new.txt')",
        "os.truncate('there.txt', 0)",
        "os.utime('there.txt')",
        "os.symlink('there.txt', 'new.txt')",
        "tempfile.TemporaryDirectory()",
        "tempfile.TemporaryFile()",
        "subprocess.Popen(['touch', 'new.txt'])",
        "os.system('touch new.txt')",
        "os.fork()",
        "os.posix_spawn('/usr/bin/touch', ['touch', 'new.txt'], {})",
        "import sqlite3; sqlite3.connect('new.db')",
        "import sqlite3; sqlite3.connect('file:new.db?mode=rwc', uri=True)",
    ],
)
def test_python_changes_nothing(code: str, tmp_path: Path) -> None:
    (tmp_path / "there.txt").write_text("old")
    ended = run(code, tmp_path)
    assert "DryRunEffect: A dry run does not execute this node" in ended.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there.txt", "old")]


def test_native_code_writes_no_byte(tmp_path: Path) -> None:
    ended = run("duckdb.execute(\"COPY (SELECT 1 AS a) TO 'new.csv' (USE_TMP_FILE false)\")", tmp_path)
    assert "File too large" in ended.stderr
    assert all(path.stat().st_size == 0 for path in tmp_path.iterdir())


def test_what_is_read_stays_readable(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("a\n1\n")
    ended = run("print(open('there.csv').read().split(), duckdb.execute(\"FROM 'there.csv'\").fetchall())", tmp_path)
    assert ended.stdout == "['a', '1'] [(1,)]\n", ended.stderr


def test_a_database_file_may_be_opened_to_be_read(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "there.db")) as connection:
        connection.executescript("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    before = (tmp_path / "there.db").read_bytes()
    ended = run("import sqlite3; c = sqlite3.connect('file:there.db?mode=ro', uri=True); print(c.execute('SELECT a FROM t').fetchall())", tmp_path)
    assert ended.stdout == "[(1,)]\n", ended.stderr
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("there.db", before)]


def test_files_in_memory_are_filled_only_while_they_may_be(tmp_path: Path) -> None:
    code = """
number = os.memfd_create("x")
path = Path(f"/proc/self/fd/{number}")
dry_run_guard.open_memory_files()
path.write_text("a")
dry_run_guard.seal_memory_files()
try:
    path.write_text("bb")
except OSError as error:
    print(error.strerror)
"""
    ended = run(code, tmp_path)
    assert ended.stdout == "File too large\n", ended.stderr


def test_memory_is_limited(tmp_path: Path) -> None:
    ended = run("bytearray(2 * 1024**3)", tmp_path)
    assert "MemoryError" in ended.stderr
