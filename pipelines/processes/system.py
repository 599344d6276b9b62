"""What Linux offers to limit, mark and find processes."""

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522
_KEPT_CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4  # CHOWN, DAC_OVERRIDE, FOWNER, FSETID
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")

MOST_OPEN_FILES = 1024
_MOST_ENTRIES = 100_000  # that a look at a folder counts; who makes more has filled the disk in another way
# Beyond what the account already runs. It stops a fork bomb of an account that is not root before the supervisor looks.
_MORE_PROCESSES = 1024


def prctl(option: int, value: int) -> None:
    """Errors: `OSError`."""
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def adopt_orphans() -> None:
    """Descendants of this process that lose their parent become its children (PR_SET_CHILD_SUBREAPER)."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Be killed when `parent`, which must have one thread, ends; at once if it already has."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def gain_no_privileges() -> None:
    """No program that this process or its children execute can gain rights: set-user-ID bits do nothing."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def give_up_capabilities() -> None:
    """Of root's, keep those alone that make it the owner of every file: `capset(2)`. Does nothing to other accounts. Errors: `OSError`.

    The others would lead out of any confinement: root may look into every process.
    """
    header, sets = _CapabilityHeader(_CAPABILITY_VERSION, 0), (_Capabilities * 2)()
    if _LIBC.capget(ctypes.byref(header), sets) == 0:
        kept = sets[0].permitted & _KEPT_CAPABILITIES
        sets[0], sets[1] = _Capabilities(kept, kept, 0), _Capabilities(0, 0, 0)
        if _LIBC.capset(ctypes.byref(header), sets) == 0:
            return
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))


def limit(address_space: int, cpu_seconds: int | None, file_bytes: int) -> None:
    """Limits of this process and of each that it starts; they cannot be raised again. `address_space` in bytes, `file_bytes` of any file."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_AS, address_space)
    _lower(resource.RLIMIT_FSIZE, file_bytes)
    _lower(resource.RLIMIT_NOFILE, MOST_OPEN_FILES)
    if os.getuid() != 0:  # root has no such limit, and counting takes milliseconds
        _lower(resource.RLIMIT_NPROC, _processes_of_account() + _MORE_PROCESSES)
    if cpu_seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))  # SIGXCPU, then SIGKILL


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _processes_of_account() -> int:
    """Threads count too: the limit is on both."""
    uid, count = os.getuid(), 0
    for entry in _processes():
        with contextlib.suppress(OSError, ValueError):
            if entry.stat().st_uid == uid:
                count += int(_status(entry, "Threads"))
    return count


def address_space() -> int:
    """Bytes of address space that this process has now."""
    return int((_PROC / "self" / "statm").read_text().split()[0]) * _PAGE


def own_memory(pid: int | str = "self") -> int:
    """Bytes of resident memory that no file stands behind; what is shared with the process it was forked from counts too. 0: it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = (_PROC / str(pid) / "statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * _PAGE
    return 0


def proportional_memory(pid: int) -> int:
    """Bytes of resident memory that no file stands behind, a page that n processes share counted as a nth. 0: unknown or gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    return 0


def disk_used(folder: str) -> float:
    """Bytes on disk of all files in the folder and below; infinite for more of them than anybody counts."""
    used, entries, waiting = 0, 0, [folder]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as found:  # a folder may be gone by now
            for entry in found:
                entries += 1
                if entries > _MOST_ENTRIES:
                    return float("inf")
                with contextlib.suppress(OSError):
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return used


def descendants() -> list[int]:
    """The processes that this one started, and those that they started."""
    parents = _by_parent()
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def children() -> list[int]:
    """The processes whose parent this one is, adopted ones too."""
    return _by_parent().get(os.getpid(), [])


def _by_parent() -> dict[int, list[int]]:
    """All processes of the machine that we see, by the parent's process id."""
    parents: dict[int, list[int]] = {}
    for entry in _processes():
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name of the program stands in parentheses and may hold anything, spaces and parentheses too.
            parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            parents.setdefault(int(parent), []).append(int(entry.name))
    return parents


def _processes() -> Iterator[Path]:
    return (_PROC / name for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 - names, many times a second


def _status(entry: Path, key: str) -> str:
    for line in (entry / "status").read_text(errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return line.split()[1]
    raise ValueError(key)


def be_first_to_go() -> None:
    """When the machine runs out of memory, this process and its children are killed before the worker is."""
    with contextlib.suppress(OSError):
        (_PROC / "self" / "oom_score_adj").write_text("500")


def send(pids: list[int], number: int) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def close_descriptors(keep: tuple[int, ...] = ()) -> None:
    """Close all but 0, 1, 2 and `keep`."""
    for descriptor in sorted(int(name) for name in os.listdir("/proc/self/fd")):  # noqa: PTH208 - descriptors, not paths
        if descriptor > 2 and descriptor not in keep:
            with contextlib.suppress(OSError):
                os.close(descriptor)
