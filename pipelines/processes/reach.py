"""Which files a job reaches: its own folder, what it was given, and the programs and libraries that any program needs."""

import contextlib
import functools
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipelines.processes import landlock

# Programs, libraries, and what they look up: names, addresses, zones, certificates, processors. Nothing else of `/etc`, where
# services keep their passwords.
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt", "/nix/store", "/proc", "/sys")
_LOOKED_UP = (
    *("alternatives", "ca-certificates", "crypto-policies", "fonts", "host.conf", "hosts", "gai.conf", "group", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "locale.alias", "localtime", "magic", "mime.types", "nsswitch.conf", "odbc.ini", "odbcinst.ini", "os-release", "passwd"),
    *("pki", "protocols", "resolv.conf", "services", "ssl", "timezone"),
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm")  # noqa: S108 - semaphores of `multiprocessing`


def confine(reach: Mapping[str, Sequence[str]], folder: str) -> None:
    """Give up all files but those. `reach` has `read`, `data` and `write`, and `private`, paths that stay out of reach wherever they lie.

    Errors: `OSError`.
    """
    private = [os.path.realpath(path) for path in reach["private"]]
    own = [path for path in private if path not in _PROGRAMS]  # file nodes have no business in `/proc`; programs have
    system = (*programs(), *(f"/etc/{name}" for name in _LOOKED_UP))
    readable = [part for path in system for part in _without(path, own)]
    writable = [part for path in reach["write"] for part in _without(path, private)]
    data = [part for path in reach["data"] for part in _without(path, private)]
    # The job's folder and its inputs lie in what is private.
    landlock.confine([*readable, *reach["read"]], [*writable, *_DEVICES, folder], data)


@functools.cache
def programs() -> tuple[str, ...]:
    """The folders of programs and libraries, none in another. The fork server finds them once for all its jobs."""
    found = sorted({os.path.realpath(path) for path in (*_PROGRAMS, *_interpreter())})
    return tuple(path for path in found if not any(path.startswith(other.rstrip("/") + "/") for other in found))


def _interpreter() -> set[str]:
    found = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(sys.executable))}  # noqa: PTH120
    return {path for path in (*found, *sysconfig.get_paths().values(), *site.getsitepackages(), *sys.path) if path}


def _without(path: str, private: Iterable[str]) -> Iterator[str]:
    """The path; where something private lies in it, its parts that hold nothing private."""
    path = os.path.realpath(path)
    if any(path == one or path.startswith(f"{one}-") for one in private):  # the journal of a database lies beside it
        return
    inside = [one for one in private if one.startswith(path.rstrip("/") + "/")]
    if not inside:
        yield path
        return
    with contextlib.suppress(OSError):
        for name in os.listdir(path):  # noqa: PTH208 - of the folders on the way to what is private
            part = os.path.join(path, name)  # noqa: PTH118
            if not os.path.islink(part):  # noqa: PTH114 - where it leads is named for itself, or not at all
                yield from _without(part, inside)
