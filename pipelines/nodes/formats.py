"""The file formats that nodes read and write: one line each. A format that another version brings gets its line first."""

from dataclasses import dataclass
from pathlib import Path, PurePath

GZIP_SUFFIXES = (".gz", ".gzip")


@dataclass(frozen=True, slots=True)
class Format:
    """`suffixes` name it when no format is configured. `reads` and `writes` tell what this version can do with it."""

    name: str
    suffixes: tuple[str, ...]
    reads: bool = True
    writes: bool = True


FORMATS: dict[str, Format] = {
    item.name: item
    for item in (
        Format("csv", (".csv", ".txt")),
        Format("tsv", (".tsv", ".tab")),
        Format("json", (".json",)),
        Format("jsonl", (".jsonl", ".ndjson")),
        Format("parquet", (".parquet", ".pq")),
        Format("sql", (".sql",), reads=False),
        Format("xlsx", (".xlsx",)),
        Format("xls", (".xls", ".xlsm", ".xlsb"), writes=False),
        Format("ods", (".ods",), writes=False),
        Format("xml", (".xml",), writes=False),
    )
}
WORKBOOKS = frozenset({"xlsx", "xls", "ods"})
READABLE = tuple(name for name, item in FORMATS.items() if item.reads)
WRITABLE = tuple(name for name, item in FORMATS.items() if item.writes)


def is_gzipped(path: str) -> bool:
    return path.lower().endswith(GZIP_SUFFIXES)


def is_pattern(path: str) -> bool:
    """Whether it may name several files."""
    return any(character in path for character in "*?[")


def has_gzip_mark(path: Path) -> bool:
    """Whether the file's first bytes are gzip's, whatever its name. Errors: `OSError`."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def by_suffix(path: str) -> Format | None:
    """The format that the name's ending tells, `.gz` left out; None when it tells nothing."""
    name = path.lower()
    for suffix in GZIP_SUFFIXES:
        name = name.removesuffix(suffix)
    ending = PurePath(name).suffix
    return next((item for item in FORMATS.values() if ending in item.suffixes), None)


def readable(path: str, configured: str) -> str:
    """The name of the format to read `path` as. Errors: `ValueError` with a sentence."""
    return _chosen(path, configured, READABLE, "read")


def writable(path: str, configured: str) -> str:
    """The name of the format to write `path` in. Errors: `ValueError` with a sentence."""
    return _chosen(path, configured, WRITABLE, "written")


def _chosen(path: str, configured: str, possible: tuple[str, ...], done: str) -> str:
    known = FORMATS.get(configured.lower()) if configured else by_suffix(path)
    listed = ", ".join(possible)
    if known is None and configured:
        raise ValueError(f"'{configured}' is not a file format. Known: {listed}.")
    if known is None:
        raise ValueError(f"the ending of '{path}' does not tell a format. Set `format` to one of {listed}.")
    if known.name not in possible:
        raise ValueError(f"the format {known.name} cannot be {done} by this version. It can be one of {listed}.")
    return known.name
