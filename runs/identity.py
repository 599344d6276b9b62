"""Which process is this, so that a neighbour on the same machine can tell at once that it is gone."""

import os
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = Path("/proc/self/ns/pid")


def machine() -> str:
    """Names this boot of this machine and this PID namespace: two processes with the same value see the same process ids."""
    try:
        return f"{_BOOT_ID.read_text().strip()}/{_PID_NAMESPACE.readlink()}"
    except OSError:
        return f"{os.uname().nodename}/{psutil.boot_time():.0f}"


def process_identity(pid: int) -> str:
    """`machine|pid|start time`; a reused process id differs in its start time. Errors: `psutil.NoSuchProcess`."""
    return f"{machine()}|{pid}|{_start_time(pid)}"


def is_neighbour(identity: str) -> bool:
    """Whether that process was started on this boot of this machine, and so has the same clock since the boot."""
    return identity.partition("|")[0] == machine()


def is_gone(identity: str) -> bool:
    """True only when that process certainly does not run any more; False also when it is on another machine."""
    pid = identity.partition("|")[2].partition("|")[0]
    if not is_neighbour(identity) or not pid.isdigit():
        return False
    try:
        return process_identity(int(pid)) != identity or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def _start_time(pid: int) -> str:
    """When the process started, in a form that no step of the clock changes.

    Linux counts from the boot. psutil adds the time of the boot, which moves whenever the clock is set: a healthy neighbour
    would look like a stranger under its own process id.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return f"{psutil.Process(pid).create_time():.2f}"
    return stat.rpartition(")")[2].split()[19]  # the 22nd field; the second, the name, may hold anything, spaces too
