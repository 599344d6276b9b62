"""FAULTS rows 6, 16 and 20 for files: bombs in a process whose memory is measured, tables of formats, and a disk that really is full."""

import gzip
import io
import json
import os
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.conversion import archives
from pipelines.conversion.faults import BadFile
from pipelines.nodes.writing import PARQUET_COMPRESSIONS
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop
from tests.workbooks import with_members, workbook

MIB = 1024**2


# --- what unpacks to more than it should ------------------------------------------------------------------------------


def swollen(member: str, size: int) -> bytes:
    return with_members(workbook([["a"]]), {member: b"\0" * size})


def far_cell() -> bytes:
    cells = b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
    sheet = b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>' + cells + b"</sheetData></worksheet>"
    return with_members(workbook([["a"]]), {"xl/worksheets/sheet1.xml": sheet})


def lying() -> bytes:
    """The archive's directory tells 10 bytes for what unpacks to 64 MiB."""
    packed = zlib.compressobj(9, wbits=-15)
    data = packed.compress(b"\0" * 64 * MIB) + packed.flush()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"0123456789")
    content = bytearray(out.getvalue())
    name = b"xl/workbook.xml"
    start = 30 + len(name)
    directory = content.index(b"PK\x01\x02")
    old = directory - start
    content[start:directory] = data
    content[18:22] = struct.pack("<I", len(data))
    moved = len(data) - old
    directory += moved
    content[directory + 20 : directory + 24] = struct.pack("<I", len(data))
    end = content.index(b"PK\x05\x06", directory)
    content[end + 16 : end + 20] = struct.pack("<I", directory)
    return bytes(content)


def crowd() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(archives.MOST_ENTRIES + 1):
            archive.writestr(f"xl/{number}", b"")
    return out.getvalue()


def doctype(entity: str, use: str) -> bytes:
    return f"<!DOCTYPE r [{entity}]>\n<r><p>{use}</p></r>".encode()


LAUGHS = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a sheet of 200 MiB in 200 kB": ("a.xlsx", lambda: swollen("xl/worksheets/sheet1.xml", 200 * MIB), "unpacks to [0-9,]+ times its size"),
    "a member that nobody reads": ("a.xlsx", lambda: swollen("docProps/thumbnail.bin", 200 * MIB), "unpacks to [0-9,]+ times its size"),
    "a directory that lies": ("a.xlsx", lying, "is not what it claims"),
    "ten thousand members": ("a.xlsx", crowd, "is an archive of 10,001 files"),
    "a cell far away": ("a.xlsx", far_cell, r"takes more than 512 MB of memory to read \(max_memory_mb\)"),
    "a billion laughs": ("a.xml", lambda: doctype(LAUGHS, "&a9;"), r"a\.xml, line 1: a document type"),
    "quadratic blowup": ("a.xml", lambda: doctype(f'<!ENTITY a "{"x" * 100_000}">', "&a;" * 10_000), r"a\.xml, line 1: a document type"),
    "a file from outside": ("a.xml", lambda: doctype('<!ENTITY a SYSTEM "file:///etc/passwd">', "&a;"), r"a\.xml, line 1: a document type"),
    "a tag without end": ("a.xml", lambda: b"<r><p " + b"a" * 100 * MIB, r"a\.xml, line 1: a tag or comment is longer than 48 MiB"),
    "a record without end": ("a.xml", lambda: b"<r><p/><p>" + b"a <b/>" * 12 * MIB, r"a\.xml, line 1: a record is larger than 48 MiB"),
    "packed XML": ("a.xml.gz", lambda: gzip.compress(b"<r><p>" + b"a" * 200 * MIB), r"a\.xml\.gz, line 1: a record is larger than 48 MiB"),
    "columns without end": (
        "a.xml",
        lambda: b"<r>" + b"".join(b"<p><c%d/></p>" % number for number in range(16_500)) + b"</r>",
        r"a\.xml has more than 16,384 columns",
    ),
}


HEAVY = {
    *("columns without end", "a tag without end", "a record without end", "packed XML"),
    *("a member that nobody reads", "ten thousand members", "quadratic blowup"),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in BOMBS])
def test_a_bomb_fails_the_node_by_name_and_takes_little_memory(workshop: Workshop, name: str) -> None:
    """Of this process, which is a worker here; what reads the file has a limit of its own."""
    file, make, words = BOMBS[name]
    (workshop.folder / file).write_bytes(make())
    workshop.run("sink_file", Given({"path": "warm.csv"}, ["SELECT 1 AS id"]))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(NodeError, match=words) as caught:
        workshop.run("source_file", Given({"path": file, "max_memory_mb": 512}))
    assert caught.value.message.startswith(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    assert not [process for process in psutil.Process().children(recursive=True) if reads_files(process)]


def reads_files(process: psutil.Process) -> bool:
    """Whether it is a child that converts a file; one that has ended and waits to be collected does not."""
    try:
        return "child.main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def test_sizes_that_an_archive_tells_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(workbook([["a"], [1]]))
    archives.check(tmp_path / "a.xlsx", "a.xlsx")
    with pytest.raises(BadFile, match="more than the 0 MiB that are accepted"):
        archives.check(tmp_path / "a.xlsx", "a.xlsx", most_bytes=1000)


# --- wide, large ------------------------------------------------------------------------------------------------------


def wide(kind: str) -> bytes:
    names = [f"c{number}" for number in range(2000)]
    if kind == "xlsx":
        return workbook([names, list(range(2000))])
    if kind == "xml":
        return ("<r><p>" + "".join(f"<{name}>{number}</{name}>" for number, name in enumerate(names)) + "</p></r>").encode()
    if kind in ("json", "jsonl"):
        row = json.dumps({name: number for number, name in enumerate(names)})
        return (f"[{row}]" if kind == "json" else row).encode()
    return (",".join(names) + "\n" + ",".join(map(str, range(2000))) + "\n").encode()


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "xlsx", "xml"])
def test_two_thousand_columns_are_read_in_order(tmp_path: Path, kind: str) -> None:
    # DuckDB's vectors have 2,048 values: a text column takes some 160 KiB however few its rows are, 2,000 of them 320 MiB (docs/files.md).
    # A quarter of the engine is for the nodes that reach files.
    workshop = Workshop(tmp_path, memory_mib=2048)
    (workshop.folder / f"a.{kind}").write_bytes(wide(kind))
    outcome = workshop.run("source_file", Given({"path": f"a.{kind}"}))
    assert outcome.columns == [f"c{number}" for number in range(2000)]
    assert outcome.rows == [tuple(range(2000))]
    workshop.close()


# The peak as the kernel keeps it for a program. `ru_maxrss` begins with that of the process which started it.
_MEASURED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pipelines.conversion import child
child.main(sys.argv[2])
print(next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")) // 1024)
"""


def peak_of(kind: str, file: Path, folder: Path) -> int:
    """MiB that converting the file takes at its peak."""
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps({"kind": kind, "options": {"path": str(file), "shown": file.name}, "null_values": []}))
    root = str(Path(__file__).resolve().parents[2])
    ran = subprocess.run([sys.executable, "-I", "-c", _MEASURED, root, str(folder / "job.json")], capture_output=True, text=True, check=True)
    assert "error" not in json.loads((folder / "result.json").read_text())
    return int(ran.stdout.split()[-1])


@pytest.mark.slow
def test_a_large_xml_file_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    record = "<p id='{0}'><name>a name of some length {0}</name><x>1.5</x></p>\n"
    peaks = []
    for rows in (30_000, 300_000):
        file = tmp_path / f"{rows}.xml"
        with file.open("w") as out:
            out.write("<r>")
            out.writelines(record.format(number) for number in range(rows))
            out.write("</r>")
        peaks.append(peak_of("xml", file, tmp_path / str(rows)))
    assert peaks[1] - peaks[0] < 48


@pytest.mark.slow
def test_more_xml_than_the_memory_is_read_in_flat_memory(tmp_path: Path) -> None:
    file = tmp_path / "large.xml"
    block = "".join(f"<p id='{number}'><name>{'n' * 60} {number}</name><x>{number}.5</x></p>\n" for number in range(10_000))
    with file.open("w") as out:
        out.write("<r>")
        while out.tell() < 256 * MIB:  # as a tree it would be some gigabytes
            out.write(block)
        out.write("</r>")
    assert peak_of("xml", file, tmp_path / "job") < 200


@pytest.mark.slow
def test_a_sheet_of_as_many_rows_as_there_are_is_written_and_read(workshop: Workshop) -> None:
    rows = 1_048_575
    sql = f"SELECT i AS id, i * 0.5 AS share, 'name ' || (i % 100) AS name FROM range({rows}) t(i)"
    assert workshop.run("sink_file", Given({"path": "a.xlsx"}, [sql])).result.row_count == rows
    outcome = workshop.run("source_file", Given({"path": "a.xlsx"}))
    assert workshop.rows(f"SELECT count(*), sum(id), max(share), count(DISTINCT name) FROM {outcome.sql}") == [
        (rows, rows * (rows - 1) // 2, (rows - 1) * 0.5, 100)
    ]


# --- every way to write -----------------------------------------------------------------------------------------------

TEXT = ("none", "gzip")
POSSIBLE = {**dict.fromkeys(("csv", "tsv", "json", "jsonl", "sql"), TEXT), "parquet": PARQUET_COMPRESSIONS, "xlsx": ("none",)}
WAYS = [
    (kind, mode, compression)
    for kind, compressions in {
        "csv": TEXT,
        "tsv": TEXT,
        "json": TEXT,
        "jsonl": TEXT,
        "sql": TEXT,
        "parquet": PARQUET_COMPRESSIONS,
        "xlsx": ("none",),
    }.items()
    for mode in ("overwrite", "append")
    for compression in compressions
]
REFUSED = {
    ("json", "append", "gzip"): "cannot be appended to a compressed JSON array",
    ("xlsx", "append", "none"): "cannot be appended to a workbook",
}


@pytest.mark.parametrize(("kind", "mode", "compression"), WAYS)
def test_every_format_mode_and_compression(workshop: Workshop, kind: str, mode: str, compression: str) -> None:
    def write(number: int) -> None:
        config = {"path": f"a.{kind}", "mode": mode, "compress": compression}
        workshop.run("sink_file", Given(config, [f"SELECT {number} AS id, 'it''s {number}' AS name"]))

    if (kind, mode, compression) in REFUSED:
        with pytest.raises(NodeError, match=REFUSED[kind, mode, compression]):
            write(1)
        assert workshop.files() == {}
        return
    write(1)
    write(2)
    expected = [(1, "it's 1"), (2, "it's 2")] if mode == "append" else [(2, "it's 2")]
    assert found_in(workshop, f"a.{kind}") == expected
    content = workshop.files()[f"a.{kind}"]
    if kind not in ("parquet", "xlsx"):
        assert content.startswith(b"\x1f\x8b") == (compression == "gzip")


def found_in(workshop: Workshop, name: str) -> list[tuple[Any, ...]]:
    """The rows of the file; those of SQL by executing it."""
    if not name.endswith(".sql"):
        return workshop.run("source_file", Given({"path": name})).rows
    content = workshop.files()[name]
    statements = (gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content).decode()
    workshop.maker.execute("CREATE OR REPLACE TEMP TABLE a (id INTEGER, name VARCHAR)")
    workshop.maker.execute(statements)
    return workshop.maker.execute("FROM a").fetchall()


def test_a_workbook_that_cannot_be_finished_leaves_the_old_file(workshop: Workshop) -> None:
    """Row 20: the last row does not fit."""
    workshop.run("sink_file", Given({"path": "a.xlsx"}, ["SELECT 1 AS id"]))
    before = workshop.files()
    sql = "SELECT repeat('x', CASE WHEN i = 4999 THEN 40000 ELSE 1 END) AS t FROM range(5000) t(i)"
    with pytest.raises(NodeError, match="row 5001: column 't' holds a text of 40,000 characters"):
        workshop.run("sink_file", Given({"path": "a.xlsx"}, [sql]))
    assert workshop.files() == before


# --- a disk that is full ----------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB, where the account may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, check=False)
    if not mounted or mounted.returncode:
        pytest.skip("mounting a tmpfs needs rights that this account does not have")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


LARGE = "SELECT i AS id, md5(i::VARCHAR) AS a, sha256(i::VARCHAR) AS b FROM range(110_000) t(i)"


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.jsonl", "a.sql"])
@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_a_sink_on_a_full_disk_says_so_and_keeps_the_old_file(tmp_path: Path, small_disk: Path, name: str, mode: str) -> None:
    workshop = Workshop(tmp_path)
    try:
        workshop.folder.rmdir()
        (small_disk / "data").mkdir()
        workshop.folder.symlink_to(small_disk / "data")
        workshop.engine.folders = type(workshop.engine.folders)((workshop.folder,), (workshop.store.root,))
        workshop.run("sink_file", Given({"path": name}, [f"{LARGE} LIMIT 10"]))
        before = workshop.files()
        with pytest.raises(TransientNodeError, match="The disk is full"):
            workshop.run("sink_file", Given({"path": name, "mode": mode}, [LARGE]))
        assert workshop.files() == before
    finally:
        workshop.close()


def test_an_output_on_a_full_disk_fails_the_node_and_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    workshop = Workshop(small_disk)
    try:
        given = Given({"query": "SELECT md5(CAST(i AS VARCHAR)) AS a FROM input, range(1_000_000) t(i)"}, ["SELECT 1 AS id"])
        with pytest.raises(TransientNodeError, match="The disk is full"):
            workshop.run("sql", given)
        assert not workshop.artifacts()
    finally:
        workshop.close()
