"""DuckDB instances as Brokoli runs them: limited in memory, threads and disk, without extensions from outside, in UTC."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipelines.expressions import literal

# Below this DuckDB cannot even hold the buffers of one writing thread.
_LEAST_MEMORY = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the data engine of one worker process may use.

    `memory_bytes` is shared by the instances of the process: a quarter for the trusted one (sources and sinks of all runs),
    the rest in equal parts for the sandboxes of the `concurrent_runs` that may be open at once. The parts are fixed when an
    instance starts: a part that grew while others are idle could not be taken back from a query that uses it. An instance
    that has used its part spills to disk. No part is smaller than 64 MiB. `spill_bytes` (None: what is free) is per run.
    """

    memory_bytes: int
    threads: int
    spill_bytes: int | None = None
    concurrent_runs: int = 4

    @property
    def trusted_memory(self) -> int:
        return max(_LEAST_MEMORY, self.memory_bytes // 4)

    @property
    def sandbox_memory(self) -> int:
        return max(_LEAST_MEMORY, self.memory_bytes * 3 // 4 // max(1, self.concurrent_runs))


def trusted(limits: EngineLimits, spill: Path) -> duckdb.DuckDBPyConnection:
    """An instance that may read and write files. Only SQL that we build runs on it, with paths that were checked in Python."""
    return _start(limits, limits.trusted_memory, spill)


def sandbox(limits: EngineLimits, spill: Path, readable: Collection[Path]) -> duckdb.DuckDBPyConnection:
    """An instance for SQL that people wrote: it reaches files in the `readable` folders and its own spill folder, and nothing else.

    DuckDB resolves links before it compares, so nothing in those folders leads out of them. No setting can be changed afterwards.
    """
    connection = _start(limits, limits.sandbox_memory, spill)
    folders = ", ".join(literal(f"{folder}/") for folder in sorted(readable))
    connection.execute(f"SET allowed_directories = [{folders}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def in_memory(memory_bytes: int, threads: int, *, locked: bool) -> duckdb.DuckDBPyConnection:
    """An instance that keeps everything in memory and has no place to spill to. `locked`: one for SQL that people wrote, without any file."""
    connection = _connect(memory_bytes, threads, "", "/nonexistent")
    # Rows that pass from one instance to another keep types that Arrow does not know.
    connection.execute("SET GLOBAL arrow_lossless_conversion = true")
    if locked:
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
    return connection


def _start(limits: EngineLimits, memory: int, spill: Path) -> duckdb.DuckDBPyConnection:
    return _connect(memory, limits.threads, str(spill), str(spill), limits.spill_bytes)


def _connect(memory: int, threads: int, spill: str, home: str, spill_bytes: int | None = None) -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{memory}B",
        "threads": threads,
        # Who computes writes. With threads for writing alone, a COPY that breaks off (a full disk, an interrupt, a failed cast) may wait for ever
        # for one of them, which waits for a lock of that COPY; nothing interrupts it (docs/adr/0033-no-threads-for-writing-alone.md).
        "async_threads": 0,
        "temp_directory": spill,
        # Extensions, secrets and settings of whoever runs the worker have no place in what it computes.
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "allow_persistent_secrets": False,
        "home_directory": home,
        "secret_directory": f"{home}/secrets",
        "extension_directories": "['/nonexistent/extensions']",
        "python_enable_replacements": False,
        # A column that is NULL throughout gets a type that Parquet readers and later nodes know.
        "legacy_disable_null_type": True,
    }
    if spill_bytes is not None:
        config["max_temp_directory_size"] = f"{spill_bytes}B"
    connection = duckdb.connect(":memory:", config=config)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection
