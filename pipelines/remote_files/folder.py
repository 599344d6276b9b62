"""What all remote folders can do, and which names a pattern means."""

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from brokoli_site.common.errors import NodeError

MOST_FILES = 1_000  # that one pattern may match
MOST_ENTRIES = 100_000  # that one pattern may look at
MAGIC = re.compile(r"[*?\[]")
_LONGEST_PATH = 1_024


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file by its path below the base. `size` in bytes, None where the server does not tell."""

    path: str
    size: int | None = None


class RemoteFolder(Protocol):
    """The files below a connection's base. Paths have no `/` at their start. Errors of all: `NodeError` naming the path as people wrote it."""

    def find(self, path: str) -> Sequence[RemoteFile]:
        """The files that `path` (a pattern is allowed) names, sorted; at least one."""

    def fetch(self, file: RemoteFile, target: BinaryIO, most_bytes: int, check: Callable[[], None]) -> None:
        """Write the file's content to `target`. `check` is called between pieces."""

    def store(self, source: Path, path: str, check: Callable[[], None]) -> None:
        """Make `path` the content of `source`, whole or not at all. `check` is called between pieces and right before it is seen."""


def parts_of(path: str) -> tuple[str, ...]:
    """The parts of a path below the base. Errors: `NodeError` for one that leads out, names nothing or holds what no name may hold."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if not parts or path.endswith("/"):
        raise NodeError(f"'{path}' names no file; give its path below the connection's base.")
    if ".." in parts:
        raise NodeError(f"The path '{path}' must not contain '..'; it starts at the connection's base.")
    if len(path) > _LONGEST_PATH or not path.isprintable():
        raise NodeError("The path of the file holds characters that no path may hold, or is too long.")
    return parts


def matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path are what the parts of a pattern mean; `**` is any number of folders. Hidden names only where asked for."""
    done = {0}  # how many names the parts until here may stand for; each is looked at once, however many `**` there are
    for part in (*pattern, *("*" for _ in pattern[-1:] if pattern[-1] == "**")):
        if part == "**":
            done = set(range(min(done), len(names))) if done else set()
        else:
            done = {count + 1 for count in done if count < len(names) and name_matches(names[count], part)}
    return len(names) in done


def name_matches(name: str, part: str) -> bool:
    return fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))


def too_many(path: str) -> NodeError:
    return NodeError(f"'{path}' matches more than {MOST_FILES:,} files, or looks at more than {MOST_ENTRIES:,}; narrow the pattern.")


def too_large(path: str, most_bytes: int) -> NodeError:
    return NodeError(f"'{path}' is larger than {most_bytes / 1024**2:,.0f} MiB, the most that is fetched here.")


def missing(path: str) -> NodeError:
    return NodeError(f"No file matches '{path}'." if MAGIC.search(path) else f"There is no file '{path}'.")
