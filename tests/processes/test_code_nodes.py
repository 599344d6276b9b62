"""Scripts in a real worker: what is cancelled, and what a worker leaves when it dies, is gone within seconds."""

import signal
import time

import psutil
import pytest
from django.test import Client

from runs.models import LogEntry, NodeRun, Run
from runs.states import NodeStatus
from tests.conftest import StartWorker
from tests.engine.test_children import DAEMON
from tests.factories import accept_run, make_pipeline
from tests.patience import within
from tests.programs import Program, wait_for

pytestmark = [pytest.mark.any_database, pytest.mark.slow]

STUBBORN = f"{DAEMON}\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ndaemon()\nprint('ready')\nwhile True: time.sleep(60)"


def accept_script(script: str, **settings: object) -> Run:
    return accept_run(make_pipeline([{"id": "c", "type": "code", "name": "C", "config": {"script": script, **settings}}], []))


def is_ready(run: Run) -> bool:
    return LogEntry.objects.filter(run=run, message="ready").exists()


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def children_of(worker: Program, run: Run) -> list[psutil.Process]:
    """The fork server, the supervisor, the script and its daemon."""
    worker.wait_for(lambda: is_ready(run), what="the script to be ready")
    found = psutil.Process(worker.pid).children(recursive=True)
    assert len(found) == 4
    return found


def test_force_leaves_no_process_within_six_seconds(start_worker: StartWorker) -> None:
    run = accept_script(STUBBORN)
    worker = start_worker()
    server, *job = children_of(worker, run)
    started = time.monotonic()

    client = Client(headers={"host": "localhost:8080"})
    answer = client.post(f"/api/runs/{run.id}/cancel", {"force": True}, content_type="application/json")

    assert answer.status_code == 202, answer.content
    worker.wait_for(lambda: not alive(job), 6, "its processes to be gone")
    worker.wait_for(lambda: Run.objects.get(id=run.id).status == "cancelled", 6, "the run to end")
    took = time.monotonic() - started
    print(f"forced cancel of a script that ignores TERM: no process left and run cancelled after {took:.2f} s")
    assert took < within(6)
    assert [node.status for node in NodeRun.objects.filter(run=run)] == [NodeStatus.CANCELLED]
    assert alive([server])
    assert worker.alive


def test_kill_9_of_the_worker_leaves_no_process(start_worker: StartWorker) -> None:
    run = accept_script(STUBBORN)
    worker = start_worker()
    processes = children_of(worker, run)
    started = time.monotonic()

    worker.kill()

    wait_for(lambda: not alive(processes), 5, "its processes to be gone")
    print(f"kill -9 of the worker: no process left after {time.monotonic() - started:.2f} s")


def test_a_stopped_worker_has_no_process_when_its_lease_is_over(start_worker: StartWorker) -> None:
    """Another worker may be executing the run by then, and two of one script are one too many."""
    run = accept_script(STUBBORN)
    worker = start_worker(BROKOLI_LEASE_SECONDS="3")
    _, *job = children_of(worker, run)
    started = time.monotonic()

    worker.signal(signal.SIGSTOP)

    wait_for(lambda: not alive(job), 3, "its processes to be gone")
    print(f"SIGSTOP of the worker, lease 3 s: no process left after {time.monotonic() - started:.2f} s")
    assert Run.objects.get(id=run.id).status == "running"


@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_that_is_told_to_stop_takes_its_scripts_along(start_worker: StartWorker, times: int) -> None:
    run = accept_script(STUBBORN)
    worker = start_worker(BROKOLI_DRAIN_SECONDS="1")
    processes = children_of(worker, run)

    worker.signal(signal.SIGTERM)
    if times == 2:
        worker.wait_for(lambda: "draining" in worker.output, what="the worker to drain")
        worker.signal(signal.SIGTERM)

    worker.wait(20)
    wait_for(lambda: not alive(processes), 2, "its processes to be gone")
    assert Run.objects.get(id=run.id).status == "pending"


def test_the_worker_lives_on(start_worker: StartWorker) -> None:
    """After scripts that end their interpreter, use all memory, or kill what watches over them, the next one runs."""
    scripts = (
        "import os; os._exit(3)",
        "x = []\nwhile True: x.append(bytearray(1_000_000))",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.kill(os.getpid(), 9)",
        "import ctypes; ctypes.string_at(0)",
    )
    failing = [accept_script(script, max_memory_mb=128) for script in scripts]
    healthy = accept_script("output_data = [{'a': 1}]")

    assert start_worker("--drain").wait(60) == 0

    assert {Run.objects.get(id=run.id).status for run in failing} == {"failed"}
    assert Run.objects.get(id=healthy.id).status == "success"
