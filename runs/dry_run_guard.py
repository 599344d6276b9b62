"""What keeps a dry run from leaving a trace: in the process that executes it, whatever would change something outside is refused.

The product's own node types write nothing in a dry run. This catches the mistake in one, and in those of third parties: Python
refuses the call (an audit hook, PEP 578), and the kernel refuses every byte that native code would put into a file
(`RLIMIT_FSIZE` of 0). Both last until the process ends; neither can be taken back.
"""

import os
import resource
import sys
from pathlib import Path
from typing import Any

from brokoli_site.common.errors import NodeError

MEMORY_FILE_BYTES = 64 * 1024**2  # that files in memory may hold, each
_MEMORY_FILES = "/proc/self/fd/"
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events, by what they do: https://docs.python.org/3/library/audit_events.html
_CHANGES = frozenset(
    f"os.{name}"
    for name in ("chflags", "chmod", "chown", "link", "mkdir", "remove", "removexattr", "rename", "rmdir", "setxattr", "symlink", "truncate", "utime")
)
_PROGRAMS = frozenset({"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn", "subprocess.Popen"})
_DATABASES = frozenset({"sqlite3.connect"})


class DryRunEffect(NodeError):
    """A dry run does not execute this node: it would change something outside."""

    code = "dry_run_effect"


def install(memory_bytes: int) -> None:
    """Guard this process until it ends; it may allocate that much memory beyond what it has now, and leaves no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, MEMORY_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_DATA, (_data_bytes() + memory_bytes,) * 2)
    sys.addaudithook(_refuse)


def open_memory_files() -> None:
    """Let files in memory be filled, where `install` forbade it."""
    if resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MEMORY_FILE_BYTES, MEMORY_FILE_BYTES))


def seal_memory_files() -> None:
    """The end of `open_memory_files`."""
    if resource.getrlimit(resource.RLIMIT_FSIZE) == (MEMORY_FILE_BYTES, MEMORY_FILE_BYTES):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, MEMORY_FILE_BYTES))


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & _WRITING and not isinstance(path, int) and not os.fsdecode(path).startswith(_MEMORY_FILES):
            raise DryRunEffect("A dry run does not execute this node: it would write a file.")
    elif event in _CHANGES:
        raise DryRunEffect(f"A dry run does not execute this node: it would change files ({event}).")
    elif event in _PROGRAMS:
        raise DryRunEffect("A dry run does not execute this node: it would start a program.")
    elif event in _DATABASES and not _opens_read_only(arguments[0]):
        raise DryRunEffect("A dry run does not execute this node: it would open a database file, which may write it.")


def _opens_read_only(database: object) -> bool:
    """A file that SQLite is asked to open for reading alone: https://www.sqlite.org/uri.html"""
    return isinstance(database, str) and database.startswith("file:") and database.endswith("?mode=ro")


def _data_bytes() -> int:
    """What counts for `RLIMIT_DATA` already; 0 where the system does not tell."""
    try:
        with Path("/proc/self/status").open(encoding="ascii", errors="replace") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:")), 0)
    except OSError:
        return 0
