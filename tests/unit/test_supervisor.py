"""What the supervisor says about a child that ended."""

import signal
import subprocess
import sys

import pytest

from runs.supervisor import Child


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("sys.exit(3)", "exit code 3"),
        (f"os.kill(os.getpid(), {int(signal.SIGKILL)})", "signal SIGKILL"),
        (f"os.kill(os.getpid(), {int(signal.SIGRTMIN) + 1})", f"signal {int(signal.SIGRTMIN) + 1}"),  # has no name in Python
    ],
)
def test_why_a_child_ended(end: str, cause: str) -> None:
    child = Child("worker 1", ["ignored"], grace_seconds=1)
    child.process = subprocess.Popen([sys.executable, "-c", f"import os, sys; {end}"])
    child.process.wait(timeout=20)

    assert child.note_exit() == f"worker 1 ended ({cause}); starting it again in 0.5 s"
