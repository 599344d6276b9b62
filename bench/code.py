"""What a `code` node costs beside its script: the same script in a process of its own that reads the same Parquet and writes one.

`python -m bench.code frame FOLDER INPUT` prints the milliseconds of reading, computing and writing, without the start of Python and the
import of pandas: what is compared with the node is the script alone.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

TEN, MANY = "code-ten.parquet", "code-many.parquet"
# By name: what the node is given as its script.
SCRIPTS = {
    "frame": "df['total'] = df['quantity'] * df['price']\noutput_data = df",
    "rows": "for row in rows:\n    row['total'] = row['quantity'] * row['price']\noutput_data = rows",
}


def make_inputs(folder: Path, rows: int) -> None:
    """Ten rows and many; the same every time."""
    query = """
        select i as order_id, 'customer ' || (i * 48271 % 50000) as customer, i % 9 + 1 as quantity, (i * 7919 % 99900 + 100) / 100 as price,
               timestamp '2024-01-01' + interval (i) second as ordered_at
        from range({rows}) t(i)
    """
    with duckdb.connect() as connection:
        for name, count in ((TEN, 10), (MANY, rows)):
            connection.execute(f"copy ({query.format(rows=count)}) to '{folder / name}' (format parquet)")


def pipeline(folder: str, source: str, way: str) -> dict[str, Any]:
    """The file, and the script over it. `folder` lies in the data folder."""
    nodes = [
        {"id": "read", "type": "source_file", "name": "Read", "config": {"path": f"{folder}/{source}"}},
        {"id": "script", "type": "code", "name": "Script", "config": {"script": SCRIPTS[way], "max_memory_mb": 4096}},
    ]
    name = f"code-{way}-{Path(source).stem}"
    return {"name": f"Bench: {name}", "pipeline_id": f"bench-{name}", "nodes": nodes, "edges": [{"from": "read", "to": "script"}]}


def bare_frame(source: Path, target: Path) -> None:
    """The same script, as people write it without us."""
    df = pd.read_parquet(source)
    df["total"] = df["quantity"] * df["price"]
    df.to_parquet(target)


def bare_rows(source: Path, target: Path) -> None:
    """The same, row by row."""
    rows = pq.read_table(source).to_pylist()
    for row in rows:
        row["total"] = row["quantity"] * row["price"]
    pq.write_table(pa.Table.from_pylist(rows), target)


def main(way: str, folder: str, source: str) -> None:
    bare = {"frame": bare_frame, "rows": bare_rows}[way]
    bare(Path(folder) / TEN, Path(folder) / "bare.parquet")  # what is imported late is imported now
    start = time.perf_counter()
    bare(Path(folder) / source, Path(folder) / "bare.parquet")
    print(json.dumps((time.perf_counter() - start) * 1000))


if __name__ == "__main__":
    main(*sys.argv[1:])
