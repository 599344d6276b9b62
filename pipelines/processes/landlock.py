"""Landlock: a process gives up, for itself and for all that it will start, every file but those that it names. No rights are needed for it.

The kernel's interface: https://docs.kernel.org/userspace-api/landlock.html (Linux 5.13, version 1, and later versions of it). Besides
files, a confined process cannot look into a process outside (`/proc/*/environ`, `/proc/*/mem`, ptrace), and from version 6 on it can
send no signal there.
"""

import ctypes
import functools
import os
import stat
from collections.abc import Iterable

_LIBC = ctypes.CDLL(None, use_errno=True)
# The same numbers on every architecture, as all system calls since Linux 5.1.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_RULE_OF_PATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM, _REFER = 1 << 6, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13
_TRUNCATE, _IOCTL_DEVICE = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_READ = _EXECUTE | _READ_FILE | _READ_DIR
# What is neither a file nor a folder, and moving from one folder to another, by which a folder that holds such a thing could come in.
_MORE_THAN_FILES = _MAKE_CHAR | _MAKE_SOCK | _MAKE_FIFO | _MAKE_BLOCK | _MAKE_SYM | _REFER
# How many rights on files each version knows: the lowest bits.
_KNOWN_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_MOST_KNOWN_RIGHTS = 16  # from version 5 on
_SCOPES = 0b11  # abstract sockets and signals, from version 6 on


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


@functools.cache
def version() -> int:
    """The version that the kernel offers; 0 when it offers none, or something around us (a container) forbids to ask."""
    return max(0, int(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))))


def confine(readable: Iterable[str], writable: Iterable[str], files_only: Iterable[str] = ()) -> None:
    """From now on only these files and folders, with all that is in them, can be opened; those that do not exist are left out.

    In `files_only` files and folders can be written too, but no link, pipe, socket or device be made, or moved in.

    The process must have given up gaining privileges. Errors: `OSError`.
    """
    offered = version()
    files = (1 << _KNOWN_RIGHTS.get(offered, _MOST_KNOWN_RIGHTS)) - 1
    ruleset = _Ruleset(files, 0, _SCOPES if offered >= 6 else 0)
    size = 24 if offered >= 6 else 8  # older kernels refuse fields that they do not know
    descriptor = _call(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path in readable:
            _allow(descriptor, path, files & _READ)
        for path in writable:
            _allow(descriptor, path, files & ~_IOCTL_DEVICE)
        for path in files_only:
            _allow(descriptor, path, files & ~_IOCTL_DEVICE & ~_MORE_THAN_FILES)
        _call(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = _PathRule(rights, descriptor)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_OF_PATH), ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    answer = int(_LIBC.syscall(ctypes.c_long(number), *arguments))
    if answer < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return answer
