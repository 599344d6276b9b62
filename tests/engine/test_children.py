"""What scripts and commands can do wrong: the node fails with a sentence, nothing of theirs is left, and the worker lives."""

import gc
import json
import resource
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from brokoli_site.common.errors import NodeCancelled, NodeError, NodeTimeout, TransientNodeError
from pipelines import documents, validation
from pipelines.nodes.base import Stop
from pipelines.problems import Problem
from pipelines.processes import running
from tests.contracts.case import Given
from tests.contracts.workshop import Outcome, Workshop
from tests.patience import within
from tests.programs import wait_for

MIB = 1024**2
IDS = "SELECT i AS id FROM range(3) t(i)"
# A grandchild that left its parent, its group and its session, and that heeds no signal it can do without. It says its process id.
DAEMON = """
import os, signal, subprocess, sys, time
def daemon():
    ready, done = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.write(done, str(os.getpid()).encode())
            os.close(done)
            while True:
                time.sleep(60)
        os._exit(0)
    os.wait()
    return int(os.read(ready, 20))
"""


@pytest.fixture
def workshop(tmp_path: Path, settings: object) -> Iterator[Workshop]:
    settings.DISABLED_NODE_TYPES = ()  # type: ignore[attr-defined]
    made = Workshop(tmp_path)
    made.run("code", Given({"script": "output_data = [{'warm': 1}]"}))  # the fork server starts
    yield made
    made.close()


@pytest.fixture(autouse=True)
def nothing_is_left(workshop: Workshop) -> Iterator[None]:
    """Of any test: no process but the fork server, and no descriptor of this process."""
    descriptors = open_descriptors()
    yield
    wait_for(lambda: not ours(), 2, "all processes to be gone")
    gc.collect()
    assert open_descriptors() <= descriptors


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def fork_servers() -> list[psutil.Process]:
    """Children of this process that start jobs. Other tests of it may have left others, for dry runs and the like."""
    return [child for child in psutil.Process().children() if "forkserver" in " ".join(child.cmdline())]


def ours() -> list[psutil.Process]:
    """The living descendants of this process but the fork server itself."""
    return [child for server in fork_servers() for child in server.children(recursive=True) if lives(child)]


def lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def fail(workshop: Workshop, script: str, *, stop: Stop | None = None, **config: object) -> NodeError:
    with pytest.raises(NodeError) as caught:
        workshop.run("code", Given({"script": script, **config}, [IDS]), stop=stop)
    return caught.value


def ask(workshop: Workshop, script: str, **config: object) -> Outcome:
    return workshop.run("code", Given({"script": script, **config}, [IDS]))


@pytest.mark.parametrize(
    ("script", "again"),
    [("raise OSError('away')", True), ("import sys; sys.exit(3)", True), ("pass", False), ("output_data = 5", False)],
)
def test_what_a_script_raises_may_pass_and_what_is_wrong_with_its_output_does_not(workshop: Workshop, script: str, again: bool) -> None:
    assert fail(workshop, script).retryable is again


def test_a_loop_for_ever_runs_out_of_time(workshop: Workshop) -> None:
    error = fail(workshop, "while True: pass", stop=Stop(timeout_seconds=0.3))
    assert isinstance(error, NodeTimeout)


def test_a_loop_for_ever_runs_out_of_processor_time(workshop: Workshop) -> None:
    error = fail(workshop, "while True: pass", max_cpu_seconds=1)
    assert error.message == "The script computed for longer than 1 seconds (max_cpu_seconds)."


def test_so_does_one_that_ignores_the_signal(workshop: Workshop) -> None:
    error = fail(workshop, "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", max_cpu_seconds=1)
    assert "max_cpu_seconds" in error.message


def test_what_ignores_term_is_killed_after_the_grace(workshop: Workshop) -> None:
    script = f"{DAEMON}\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ndaemon()\nprint('ready')\nwhile True: time.sleep(60)"
    stop = Stop()
    with workshop.running("code", Given({"script": script}), stop) as at_work:
        wait_for(lambda: "ready" in at_work.log.text, what="the script to be ready")
        assert len(ours()) == 3  # the supervisor, the script and its daemon
        started = time.monotonic()
        stop.stop(NodeCancelled("The run was cancelled."))
        at_work.thread.join(within(10))
        took = time.monotonic() - started
    assert [type(error) for error in at_work.errors] == [NodeCancelled]
    assert running.GRACE_SECONDS <= took < running.GRACE_SECONDS + within(1.5)
    wait_for(lambda: not ours(), 1, "the supervisor, which has told of the end, to be gone")


def test_what_heeds_term_may_tidy_up(workshop: Workshop) -> None:
    script = """
import signal, sys, time
def tidy(number, frame):
    print("tidy")
    sys.exit(0)
signal.signal(signal.SIGTERM, tidy)
print("ready")
while True: time.sleep(60)"""
    stop = Stop()
    with workshop.running("code", Given({"script": script}), stop) as at_work:
        wait_for(lambda: "ready" in at_work.log.text, what="the script to be ready")
        stop.stop(NodeCancelled("The run was cancelled."))
    assert "tidy" in at_work.log.text


def test_what_a_script_leaves_running_is_ended_with_it(workshop: Workshop) -> None:
    outcome = ask(workshop, f"{DAEMON}\noutput_data = [{{'pid': daemon()}}]")
    assert not psutil.pid_exists(outcome.rows[0][0])
    assert "left 1 processes running" in outcome.log.text


def test_a_child_that_holds_the_streams_open_is_no_hang(workshop: Workshop) -> None:
    started = time.monotonic()
    outcome = workshop.run("bash", Given({"command": "sleep 60 & echo started"}))
    assert outcome.rows == [(0, "started")]
    assert time.monotonic() - started < within(5)


def test_a_fork_bomb_is_ended(workshop: Workshop) -> None:
    error = fail(workshop, "import os, time\nwhile True:\n    os.fork()\n    time.sleep(0.002)")
    assert error.message == f"The script had more than {running.MOST_PROCESSES} processes at the same time."


def test_memory_without_end(workshop: Workshop) -> None:
    error = fail(workshop, "x = []\nwhile True:\n    x.append(bytearray(1_000_000))", max_memory_mb=128)
    assert error.message == "Line 3 of the script: MemoryError: the script needs more than its 128 MB of memory (max_memory_mb)"
    assert not error.retryable


def test_memory_of_many_processes_counts_together(workshop: Workshop) -> None:
    script = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        kept = bytearray(os.urandom(1)) * 60_000_000
        time.sleep(60)
        os._exit(0)
time.sleep(60)"""
    error = fail(workshop, script, max_memory_mb=128)
    assert error.message == "The script and what it started used more than 128 MB of memory (max_memory_mb)."


def test_forks_that_share_their_memory_are_not_taken_for_more(workshop: Workshop) -> None:
    script = """
import os, time
kept = bytearray(60_000_000)
children = [os.fork() for _ in range(1)]
if 0 in children:
    time.sleep(1.2)
    os._exit(0)
for child in children: os.waitpid(child, 0)
output_data = [{"ok": 1}]"""
    assert ask(workshop, script, max_memory_mb=100).rows == [(1,)]


def print_much(workshop: Workshop, megabytes: int, stream: str) -> None:
    before = psutil.Process().memory_info().rss
    outcome = ask(workshop, f"import sys\nline = 'x' * 99\nfor _ in range({megabytes} * 10_000): print(line, file=sys.{stream})\noutput_data = table")
    assert psutil.Process().memory_info().rss - before < 64 * MIB
    assert outcome.log.text.count("x" * 99) == 9_000
    assert f"{megabytes * 10_000 - 9_000:,} more lines were printed and not kept" in outcome.log.text


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_much_that_is_printed_is_counted_and_not_kept(workshop: Workshop, stream: str) -> None:
    print_much(workshop, 20, stream)


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_gigabyte_that_is_printed_is_counted_and_not_kept(workshop: Workshop, stream: str) -> None:
    print_much(workshop, 1000, stream)


def test_a_line_without_end_is_cut(workshop: Workshop) -> None:
    outcome = ask(workshop, "import sys\nfor _ in range(50): sys.stdout.write('y' * 1_000_000)\noutput_data = table")
    (line,) = [line for _, line in outcome.log.lines if line.startswith("y")]
    assert len(line) < 9_000
    assert "49991808 more bytes" in line


def test_files_without_end(workshop: Workshop) -> None:
    """One file, and many."""
    script = "block = b'x' * 1_000_000\nwith open('big', 'wb') as file:\n    while True: file.write(block)"
    error = fail(workshop, script, max_disk_mb=32)
    assert error.message == "Line 3 of the script: OSError: the script wrote more than 32 MB of files (max_disk_mb)"
    script = "n = 0\nwhile True:\n    n += 1\n    open(f'part{n}', 'wb').write(b'x' * 1_000_000)"
    error = fail(workshop, script, max_disk_mb=32)
    assert error.message == "The script wrote more than 32 MB of files (max_disk_mb)."
    assert not error.retryable


def test_an_output_without_end(workshop: Workshop) -> None:
    error = fail(workshop, "import pyarrow as pa\noutput_data = pa.table({'a': pa.nulls(9_000_000, pa.int64()).fill_null(1)})", max_disk_mb=32)
    assert "more than 32 MB of files (max_disk_mb)" in error.message


def test_a_command_that_writes_without_end(workshop: Workshop) -> None:
    with pytest.raises(NodeError, match=r"more than 32 MB of files \(max_disk_mb\)|File size limit exceeded"):
        workshop.run("bash", Given({"command": "yes > big", "max_disk_mb": 32}))


def test_every_descriptor_closed_is_no_hang(workshop: Workshop) -> None:
    outcome = ask(workshop, "import os\nos.closerange(0, 256)\noutput_data = table.slice(2)")
    assert outcome.rows == [(2,)]


def test_more_memory_than_the_operator_allows(workshop: Workshop, settings: object) -> None:
    """What is asked for is refused; the default is merely lowered."""
    settings.CODE_MAX_MEMORY = 256 * MIB  # type: ignore[attr-defined]
    assert fail(workshop, "output_data = table", max_memory_mb=257).message.startswith("Field 'max_memory_mb' must be at most 256 on this server")
    assert "more than its 256 MB" in fail(workshop, "x = bytearray(300_000_000)").message
    (problem,) = validated({"script": "output_data = table", "max_memory_mb": 257})
    assert (problem.field, problem.message) == ("max_memory_mb", "must be at most 256 on this server (BROKOLI_CODE_MAX_MEMORY)")
    with pytest.raises(NodeError, match="at most 256"):
        workshop.run("bash", Given({"command": "true", "max_memory_mb": 257}))


def validated(config: dict[str, object]) -> list[Problem]:
    document = {"name": "P", "nodes": [{"id": "a", "type": "code", "name": "A", "config": config}], "edges": []}
    return list(validation.validate(documents.normalised(document)).errors)


def test_streams_that_are_closed_are_no_hang(workshop: Workshop) -> None:
    outcome = ask(workshop, "import os, sys, time\nos.close(1); os.close(2)\nsys.stdout.close()\noutput_data = table.slice(1)")
    assert outcome.rows == [(1,), (2,)]


def test_inputs_cannot_be_changed(workshop: Workshop) -> None:
    """Neither what a script does to its data, nor what it writes to every file that it was given, reaches the artifact."""
    artifact = workshop.store.path(workshop.table(IDS).artifact)
    before = artifact.read_bytes()
    script = """
import os
rows[0]["id"] = 99
for name in os.listdir("/proc/self/fd"):
    if int(name) > 2:
        try: open(f"/proc/self/fd/{name}", "wb").write(b"gone")
        except OSError: pass
for folder, _, names in os.walk(".."):
    for name in names: open(os.path.join(folder, name), "wb").write(b"gone")
output_data = rows"""
    assert ask(workshop, script).rows[0] == (99,)
    assert artifact.read_bytes() == before


def test_something_else_in_the_place_of_the_output(workshop: Workshop) -> None:
    error = fail(workshop, "import os, json\nopen('../output.arrow', 'w').write('x')\njson.dump({}, open('../result.json', 'w'))\nos._exit(0)")
    assert "cannot be read" in error.message


# What a script may leave where its result or its output is expected.
LEAVINGS = {
    "a pipe for a result": "os.mkfifo('../result.json')",
    "a pipe for an output": "said('{}'); os.mkfifo('../output.arrow')",
    "a folder": "os.mkdir('../result.json')",
    "a link for a result": "os.symlink('/etc/passwd', '../result.json')",
    "a link for an output": "said('{}'); os.symlink('/etc/passwd', '../output.arrow')",
    "a link to what never ends": "os.symlink('/dev/zero', '../result.json')",
    "a large result": "said(''); os.truncate('../result.json', 3 * 2**30)",
    "a large output": "said('{}'); open('../output.arrow', 'w').truncate(15 * 2**30)",
    "a deep result": "said('[' * 10**6)",
    "another result": "said('{\"error\": 1}')",
    "an input that there is not": "said('{\"passes\": 7}')",
    "no text": """
b = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b'\\0\\0\\0\\0\\2\\0\\0\\0'), pa.py_buffer(b'\\xff\\xfe')])
write(pa.record_batch({'a': b}))""",
    "a little that becomes much": """
write(pa.record_batch({'a': pa.nulls(8 * 2**20, pa.int8()).fill_null(0)}), 500, compression='zstd')""",
}
LEAVING = """
import os, pyarrow as pa
def said(text):
    open('../result.json', 'w').write(text)
def write(batch, times=1, **options):
    with pa.OSFile('../output.arrow', 'wb') as file, pa.ipc.new_file(file, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for _ in range(times):
            writer.write_batch(batch)
    said('{}')
"""


@pytest.mark.parametrize("leaving", LEAVINGS.values(), ids=LEAVINGS.keys())
def test_whatever_a_script_leaves_neither_holds_up_the_worker_nor_fills_it(workshop: Workshop, leaving: str) -> None:
    errors: list[NodeError] = []
    process = psutil.Process()
    most = process.memory_info().rss + 512 * MIB
    node = threading.Thread(target=lambda: errors.append(fail(workshop, f"{LEAVING}\n{leaving}\nos._exit(0)")), daemon=True)
    node.start()
    began = time.monotonic()
    while node.is_alive():
        assert time.monotonic() - began < within(30), "the worker is held up"
        assert process.memory_info().rss < most
        node.join(0.01)
    assert "output" in errors[0].message
    assert "unexpectedly" not in errors[0].message


def test_an_error_that_holds_the_data_is_cut(workshop: Workshop) -> None:
    error = fail(workshop, "class E(Exception): pass\nraise E('\\ud800' + 'x' * 50_000_000)")
    assert error.message.startswith("Line 2 of the script: E: ?xxx")
    assert len(error.message) < 10_000


@pytest.fixture
def unconfined(settings: object) -> None:
    """A confined script can send its supervisor no signal: see `test_confinement.py`."""
    settings.CODE_SANDBOX = "off"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("unconfined")
def test_a_supervisor_that_its_script_kills(workshop: Workshop) -> None:
    error = fail(workshop, f"{DAEMON}\ndaemon()\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)")
    assert isinstance(error, TransientNodeError)
    assert "watched over the job was killed" in error.message


@pytest.mark.usefixtures("unconfined")
def test_a_supervisor_that_its_script_stops(workshop: Workshop) -> None:
    stop = Stop()
    script = f"{DAEMON}\ndaemon()\nprint('ready')\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(60)"
    with workshop.running("code", Given({"script": script}), stop) as at_work:
        wait_for(lambda: "ready" in at_work.log.text, what="the script to be ready")
        started = time.monotonic()
        stop.stop(NodeCancelled("The run was cancelled."))
        at_work.thread.join(within(10))
        wait_for(lambda: not ours(), 2, "all processes to be gone")
        assert time.monotonic() - started < within(6)
    assert [type(error) for error in at_work.errors] == [NodeCancelled]


def test_the_fork_server_has_one_thread(workshop: Workshop) -> None:
    """A lock that another thread holds at the moment of a fork is never released in the child."""
    (server,) = fork_servers()
    assert server.num_threads() == 1


def test_a_fork_server_that_was_killed_is_started_again(workshop: Workshop) -> None:
    (server,) = fork_servers()
    server.kill()
    wait_for(lambda: server.status() == psutil.STATUS_ZOMBIE, what="the server to die")
    assert ask(workshop, "output_data = table").rows == [(0,), (1,), (2,)]


def test_a_silent_worker_is_taken_for_dead(workshop: Workshop, settings: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stopped cannot tell anybody; its jobs end before its lease does."""
    settings.LEASE_SECONDS = 2  # type: ignore[attr-defined]
    monkeypatch.setattr(running, "_BEATS_PER_SILENCE", 0.01)
    started = time.monotonic()
    script = f"{DAEMON}\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ndaemon()\nwhile True: time.sleep(60)"
    error = fail(workshop, script, stop=Stop(timeout_seconds=within(10)))
    assert "watched over the job" in error.message
    assert 1 < time.monotonic() - started < 1 + within(1)


def test_a_beat_that_nobody_reads_any_more_hides_no_report(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that is closed with something unread resets the connection; what it had sent before is still to be read."""
    monkeypatch.setattr(running._Conversation, "_send", lambda self, message: None)
    job = running.Job("script", tmp_path, tmp_path, running.ProcessLimits(100), {})
    conversation = running._Conversation(job, Stop(), lambda stream, line: None)
    conversation._control, supervisor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    conversation._control.settimeout(0)
    conversation._selector.register(conversation._control, selectors.EVENT_READ)
    supervisor.send(json.dumps({"status": 0, "signal": None, "limit": "", "left_behind": 0, "cpu_seconds": 0.1}).encode())
    conversation._control.send(b".")
    supervisor.close()

    ended = conversation.until_the_end()

    assert ended is not None
    assert ended.status == 0
    conversation.__exit__()


def test_many_at_the_same_time(workshop: Workshop) -> None:
    results: list[object] = []

    def one(number: int) -> None:
        outcome = workshop.run("code", Given({"script": f"print({number})\noutput_data = [{{'n': {number}}}]"}))
        results.append((outcome.result.row_count, outcome.log.text))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == sorted((1, f"info: {number}") for number in range(12))  # type: ignore[type-var]


def test_a_child_has_nothing_of_its_worker(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment, descriptors, session, rights, limits, folder, modules."""
    monkeypatch.setenv("BROKOLI_SECRET_KEY", "canary-in-the-environment")
    monkeypatch.setenv("PYTHONPATH", "/canary-on-the-path")
    for server in running._servers.values():
        server.close()  # the next one is started with the canary in the worker's environment
    script = """
import json, os, resource, sys
def read(path):
    with open(path) as file: return file.read()
found = {
    "environment": dict(os.environ) | dict(item.split("=", 1) for item in read("/proc/self/environ").split("\\0") if item),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")),
    "session": os.getsid(0) == os.getpid() == os.getpgrp(),
    "status": dict(line.split(":\\t", 1) for line in read("/proc/self/status").splitlines() if ":\\t" in line),
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_CORE", "RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE")},
    "folder": [os.getcwd(), os.environ["HOME"], os.environ["TMPDIR"], oct(os.stat(".").st_mode & 0o777)],
    "files": os.listdir("."),
    "stdin": os.readlink("/proc/self/fd/0"),
    "modules": [name for name in sys.modules if name.partition(".")[0] in ("django", "duckdb", "pipelines", "brokoli_site", "runs")],
    "path": sys.path,
    "umask": oct(os.umask(0)),
    "oom": read("/proc/self/oom_score_adj").strip(),
}
output_data = [{"found": json.dumps(found)}]"""
    outcome = ask(workshop, script, max_memory_mb=512, max_cpu_seconds=30)
    found = json.loads(outcome.rows[0][0])
    assert set(found["environment"]) == {*running.ENVIRONMENT, "HOME", "TMPDIR"}
    assert "canary" not in json.dumps(found)
    assert found["descriptors"] == [0, 1, 2]
    assert found["session"] is True
    assert found["status"]["NoNewPrivs"] == "1"
    assert found["limits"]["RLIMIT_CORE"] == [0, 0]
    assert found["limits"]["RLIMIT_CPU"] == [30, 31]
    assert 512 * MIB < found["limits"]["RLIMIT_AS"][1] < 4096 * MIB
    assert found["limits"]["RLIMIT_FSIZE"][1] != resource.RLIM_INFINITY
    cwd, home, temporary, mode = found["folder"]
    assert cwd == home == temporary
    assert (mode, found["files"], found["stdin"], found["umask"]) == ("0o700", [], "/dev/null", "0o77")
    assert found["modules"] == []
    assert str(running.ROOT) not in found["path"]
    assert found["oom"] == "500"


def test_an_interpreter_of_the_operator(workshop: Workshop, settings: object, tmp_path: Path) -> None:
    """A link to our own interpreter knows its packages as little as any other; without pyarrow the node says so."""
    other = tmp_path / "python"
    other.symlink_to(psutil.Process().exe())
    settings.PYTHON_PATHS = (other,)  # type: ignore[attr-defined]
    error = fail(workshop, "output_data = table", python_path=str(other))
    assert "has no pyarrow" in error.message
    assert "not allowed" in fail(workshop, "output_data = table", python_path="/usr/bin/python3").message


@pytest.mark.parametrize(("number", "name"), [(signal.SIGABRT, "SIGABRT"), (signal.SIGRTMIN + 3, str(signal.SIGRTMIN + 3))])
def test_the_signal_that_ended_it_is_named(number: int, name: str) -> None:
    complaint = running.Ended(None, number, "", 0, 0.0).complaint("script", running.ProcessLimits(100))
    assert complaint is not None
    assert complaint.message == f"The process of the script was ended by signal {name}."
