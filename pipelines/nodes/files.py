"""The data folders: the only files that nodes may read and write.

Every path is judged by its resolved real path, so neither `..` nor a link leads out. The most specific folder decides: a file
may be used when the deepest folder around it is a data folder, not a forbidden one. So the server's home can be forbidden and
`home/data` inside it allowed, and a data folder of `/` still does not reach the home, `/proc` or `/dev`.

What is returned is the real path, and that is what is opened afterwards: a link that is swapped later on is not followed
again. Someone who may replace *folders* on the host between check and use already has the rights of an operator.
"""

import fnmatch
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from brokoli_site.common.errors import NodeError

MOST_FILES = 1_000  # that one glob may match
_MOST_ENTRIES = 100_000  # that one glob may look at
_LONGEST_PATH = 4_096
_ALWAYS_FORBIDDEN = (Path("/proc"), Path("/sys"), Path("/dev"))
_MAGIC = re.compile(r"[*?\[]")
_HINT = "File nodes reach only the folders in BROKOLI_DATA_DIRS."


class MissingFile(NodeError):
    """There is no such file, yet."""

    code = "missing_file"


def exact_pattern(path: Path) -> str:
    """A pattern that matches this path alone, for readers (DuckDB's) that take every path for a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


class DataFolders:
    """Implements `base.FileAccess`.

    `roots` are the data folders; relative paths start at the first. `forbidden` are folders or files that stay out of reach:
    the server's home, its database, keys and artifacts. A forbidden file's companions (`name-wal`, `name-journal`) are too.
    """

    def __init__(self, roots: Sequence[Path], forbidden: Sequence[Path] = ()) -> None:
        if not roots:
            raise ValueError("at least one data folder is needed")
        self.roots = tuple(Path(os.path.realpath(root)) for root in roots)
        self.forbidden = tuple(Path(os.path.realpath(path)) for path in (*forbidden, *_ALWAYS_FORBIDDEN))

    def resolve_read(self, path: str) -> list[Path]:
        """The real paths of the regular files that `path` (a glob is allowed) names, sorted by the path that matched.

        Errors: `NodeError` that names `path` as it was written: outside, missing, no regular file, too many.
        """
        asked = self._asked(path)
        literal = self._allowed(asked, path)
        if not _MAGIC.search(path) or os.path.lexists(literal):
            return [_regular(literal, path)]
        matches = sorted(self._matches(asked, path))
        files = [_regular(real, path) for match in matches if not (real := self._allowed(match, path)).is_dir()]
        if not files:
            raise MissingFile(f"No file matches '{path}'.")
        return files

    def resolve_write(self, path: str) -> Path:
        """The real path to write to; its folder exists afterwards. Errors: `NodeError`."""
        target = self._target(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise _blocked(path) from error
        except OSError as error:
            raise NodeError(f"The folder of '{path}' cannot be made ({(error.strerror or 'unknown error').lower()}).") from error
        # Once more, now that all folders exist: whoever made one of them meanwhile might have made a link.
        target = self._allowed(target, path)
        if os.path.lexists(target):
            _regular(target, path)
        return target

    def resolve_target(self, path: str) -> Path:
        """The real path that `resolve_write` would lead to, which need not exist; nothing is made. Errors: `NodeError`."""
        target = self._target(path)
        above = next(folder for folder in target.parents if os.path.lexists(folder))
        if not above.is_dir():
            raise _blocked(path)
        if os.path.lexists(target):
            _regular(target, path)
        return target

    def _target(self, path: str) -> Path:
        asked = self._asked(path)
        if path.endswith("/") or asked.name in ("", "."):
            raise NodeError(f"'{path}' names a folder; add the name of the file to write.")
        return self._allowed(asked, path)

    def resolve_folder(self, path: str) -> Path:
        """The real path of an existing folder. Errors: `NodeError`."""
        folder = self._allowed(self._asked(path), path)
        if not folder.is_dir():
            raise NodeError(f"There is no folder '{path}' in the data folders.")
        return folder

    def _asked(self, path: str) -> Path:
        """The path as asked for, absolute, not resolved yet."""
        if not path.strip():
            raise NodeError("The path of the file is empty.")
        if "\0" in path or len(path) > _LONGEST_PATH or not path.isprintable():
            raise NodeError("The path of the file holds characters that no path may hold, or is too long.")
        if ".." in Path(path).parts:
            raise NodeError(f"The path '{path}' must not contain '..'. {_HINT}")
        return self.roots[0] / path  # an absolute path stays what it is

    def _allowed(self, asked: Path, path: str) -> Path:
        """The real path of `asked` (which need not exist), if it may be used. Says nothing of what exists outside."""
        try:
            real = Path(os.path.realpath(asked))
        except OSError as error:
            raise NodeError(f"'{path}' cannot be used as a path ({(error.strerror or 'unknown error').lower()}).") from error
        allowed = max((len(root.parts) for root in self.roots if real.is_relative_to(root)), default=-1)
        refused = max((len(folder.parts) for folder in self.forbidden if _covers(folder, real)), default=-1)
        if allowed <= refused:
            raise NodeError(f"'{path}' is outside the data folders. {_HINT}")
        return real

    def _matches(self, pattern: Path, path: str) -> Iterator[Path]:
        """The paths that the glob matches. Folders that are links are not entered by `**`, so a loop of links ends."""
        budget = iter(range(_MOST_ENTRIES))
        for count, match in enumerate(_expand([Path(pattern.anchor)], pattern.parts[1:], self.roots, budget), start=1):
            if count > MOST_FILES:
                raise NodeError(f"'{path}' matches more than {MOST_FILES:,} files; narrow the pattern.")
            yield match
        if next(budget, None) is None:
            raise NodeError(f"'{path}' would search more than {_MOST_ENTRIES:,} files and folders; narrow the pattern.")


def _expand(folders: Iterable[Path], parts: Sequence[str], roots: Sequence[Path], budget: Iterator[int]) -> Iterator[Path]:
    if not parts:
        yield from folders
        return
    part, rest = parts[0], parts[1:]
    for folder in folders:
        if not _MAGIC.search(part):
            # Nothing is listed above the data folders, so a glob tells nothing of what lies around them.
            if not rest and not os.path.lexists(folder / part):
                continue
            yield from _expand([folder / part], rest, roots, budget)
        elif not any(Path(os.path.realpath(folder)).is_relative_to(root) for root in roots):
            continue
        elif part == "**":
            yield from _expand(_below(folder, budget), rest or ("*",), roots, budget)
        else:
            yield from _expand(_named(folder, part, budget), rest, roots, budget)


def _below(folder: Path, budget: Iterator[int]) -> Iterator[Path]:
    """The folder and all folders below it."""
    yield folder
    for entry in _entries(folder, budget):
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
            yield from _below(Path(entry.path), budget)


def _named(folder: Path, part: str, budget: Iterator[int]) -> Iterator[Path]:
    hidden = part.startswith(".")
    for entry in _entries(folder, budget):
        if fnmatch.fnmatchcase(entry.name, part) and (hidden or not entry.name.startswith(".")):
            yield Path(entry.path)


def _entries(folder: Path, budget: Iterator[int]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if next(budget, None) is None:
                    return
                yield entry
    except (NotADirectoryError, FileNotFoundError, PermissionError):
        return


def _blocked(path: str) -> NodeError:
    return NodeError(f"'{path}' cannot be written: a part of its path is a file, not a folder.")


def _covers(forbidden: Path, real: Path) -> bool:
    return real.is_relative_to(forbidden) or (real.parent == forbidden.parent and real.name.startswith(f"{forbidden.name}-"))


def _regular(real: Path, path: str) -> Path:
    try:
        mode = real.stat().st_mode
    except FileNotFoundError as error:
        raise MissingFile(f"There is no file '{path}'.") from error
    except OSError as error:
        raise NodeError(f"'{path}' cannot be read ({(error.strerror or 'unknown error').lower()}).") from error
    if stat.S_ISDIR(mode):
        raise NodeError(f"'{path}' is a folder; name a file, or a pattern such as '{path.rstrip('/')}/*.csv'.")
    if not stat.S_ISREG(mode):
        raise NodeError(f"'{path}' is not a regular file (a device, pipe or socket).")
    return real
