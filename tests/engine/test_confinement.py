"""What a confined script cannot open, look into or signal, asked from inside of it; and what it still can."""

import hashlib
import os
import socket
from pathlib import Path

import pytest
from django.conf import LazySettings

from brokoli_site.common.errors import NodeError
from pipelines.nodes import confinement
from pipelines.processes import landlock
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop

pytestmark = pytest.mark.skipif(not landlock.version(), reason="the kernel has no Landlock")

IDS = "SELECT i AS id FROM range(3) t(i)"
TRY = """
import os
def attempt(act):
    try:
        act()
    except OSError as error:
        return error.strerror
    return "done"
"""


@pytest.fixture
def workshop(workshop: Workshop, settings: LazySettings) -> Workshop:
    settings.DISABLED_NODE_TYPES = ()
    return workshop


def ask(workshop: Workshop, script: str, **config: object) -> list[str]:
    """What the script leaves in `answers`."""
    given = Given({"script": f"{TRY}\n{script}\noutput_data = [{{'n': n, 'a': str(a)}} for n, a in enumerate(answers)]", **config}, [IDS])
    return [row[1] for row in workshop.run("code", given).rows]


DENIED = "Permission denied"


def test_the_home_of_the_server_is_out_of_reach(workshop: Workshop, settings: LazySettings) -> None:
    key = settings.HOME / "keys" / "canary"
    key.parent.mkdir(exist_ok=True)
    key.write_text("canary")
    other = workshop.store.path(workshop.table("SELECT 'another run' AS a").artifact)
    paths = [str(key), str(settings.HOME), str(other), str(other.parent), str(workshop.folder.parent), "/tmp", "/root", "/etc/shadow", "/"]
    script = f"answers = [attempt(lambda: os.open(path, os.O_RDONLY)) for path in {paths!r}]"
    assert ask(workshop, script) == [DENIED] * len(paths)
    key.unlink()


def test_the_worker_cannot_be_looked_into(workshop: Workshop) -> None:
    """Nor can the fork server and the supervisor: environment, memory, descriptors, working folder; as root, too."""
    script = f"""
pids = [os.getppid(), {os.getpid()}]
answers = [attempt(lambda: open(f"/proc/{{pid}}/{{name}}", "rb").read(1)) for pid in pids for name in ("environ", "mem", "maps")]
answers += [attempt(lambda: os.readlink(f"/proc/{{pid}}/{{name}}")) for pid in pids for name in ("cwd", "root", "exe", "fd/0")]
answers += [attempt(lambda: os.listdir(f"/proc/{{pid}}/root/")) for pid in pids]"""
    assert ask(workshop, script) == [DENIED] * 16


@pytest.mark.skipif(landlock.version() < 6, reason="signals are confined from Linux 6.12 on")
def test_nothing_outside_can_be_signalled(workshop: Workshop) -> None:
    script = f"answers = [attempt(lambda: os.kill(pid, 0)) for pid in (os.getppid(), {os.getpid()}, 1)]"
    assert ask(workshop, script) == ["Operation not permitted"] * 3


def test_its_own_processes_can(workshop: Workshop) -> None:
    script = """
import signal, subprocess
child = subprocess.Popen(["/bin/sleep", "60"])
answers = [attempt(child.kill), -child.wait() == signal.SIGKILL]"""
    assert ask(workshop, script) == ["done", "True"]


@pytest.mark.skipif(landlock.version() < 6, reason="abstract sockets are confined from Linux 6.12 on")
def test_abstract_sockets_outside_are_out_of_reach(workshop: Workshop) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0brokoli-test")
        server.listen()
        script = "import socket\nanswers = [attempt(lambda: socket.socket(socket.AF_UNIX).connect('\\0brokoli-test'))]"
        assert ask(workshop, script) == ["Operation not permitted"]


def test_inputs_can_be_read_and_not_written(workshop: Workshop) -> None:
    artifact = workshop.store.path(workshop.table(IDS).artifact)
    before = hashlib.sha256(artifact.read_bytes()).hexdigest()
    script = f"""
path = {str(artifact)!r}
def write(): open(path, "r+b").write(b"gone")
answers = [attempt(act) for act in (
    lambda: open(path, "rb").read(), write, lambda: os.truncate(path, 0), lambda: os.unlink(path), lambda: os.rename(path, "mine"),
    lambda: os.link(path, "link"), lambda: open(path + ".2", "wb"))]
answers.append(sum(row["id"] for row in rows))"""
    done, *denied, total = ask(workshop, script)
    assert (done, total) == ("done", "3")
    assert "done" not in denied
    assert hashlib.sha256(artifact.read_bytes()).hexdigest() == before


def test_a_link_leads_nowhere_else(workshop: Workshop, settings: LazySettings) -> None:
    key = settings.HOME / "canary"
    key.write_text("canary")
    (workshop.folder / "there").symlink_to(key)
    script = f"""
os.symlink({str(key)!r}, "here")
answers = [attempt(lambda: open(path).read()) for path in ("here", {str(workshop.folder / "there")!r})]"""
    assert ask(workshop, script) == [DENIED] * 2
    key.unlink()


def test_a_data_folder_gets_nothing_that_would_lead_a_file_node_out(workshop: Workshop, settings: LazySettings) -> None:
    """A file that becomes a link after a file node has judged its path would be followed by the worker, which may read everything."""
    key = settings.HOME / "canary"
    key.write_text("canary")
    script = f"""
import socket
key, data = {str(key)!r}, {str(workshop.folder)!r}
os.symlink(key, "link"); os.mkdir("folder"); os.symlink(key, "folder/link"); os.mkfifo("pipe")
answers = [attempt(act) for act in (
    lambda: os.symlink(key, f"{{data}}/a"), lambda: os.rename("link", f"{{data}}/b"), lambda: os.rename("folder", f"{{data}}/c"),
    lambda: os.link("link", f"{{data}}/d", follow_symlinks=False), lambda: os.link(key, f"{{data}}/e"), lambda: os.mkfifo(f"{{data}}/f"),
    lambda: os.rename("pipe", f"{{data}}/g"), lambda: socket.socket(socket.AF_UNIX).bind(f"{{data}}/h"))]"""
    answers = ask(workshop, script)
    key.unlink()
    assert "done" not in answers, answers
    assert not list(workshop.folder.iterdir())


def test_what_a_script_needs_is_there(workshop: Workshop) -> None:
    """Its folder, the data folders, devices, programs, shared memory, the numbers of the machine."""
    (workshop.folder / "given.txt").write_text("given")
    script = f"""
import multiprocessing, shutil, socket, ssl, subprocess, tempfile, zoneinfo
data = {str(workshop.folder)!r}
def pool():
    with multiprocessing.get_context("fork").Pool(2) as workers:
        assert workers.map(abs, [-1, -2]) == [1, 2]
def data_folder():
    assert open(f"{{data}}/given.txt").read() == "given"
    os.makedirs(f"{{data}}/a/b"); open(f"{{data}}/a/b/c", "w").write("made"); shutil.move(f"{{data}}/a/b/c", f"{{data}}/now")
    os.rename(f"{{data}}/now", f"{{data}}/moved")
    shutil.rmtree(f"{{data}}/a")
def temporary():
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile(): open(f"{{folder}}/x", "w").write("x")
answers = [attempt(act) for act in (
    pool, data_folder, temporary, os.cpu_count, lambda: socket.getaddrinfo("localhost", 80), ssl.create_default_context,
    lambda: open("/dev/null", "w").write("x"), lambda: open("/dev/urandom", "rb").read(1), lambda: zoneinfo.ZoneInfo("Europe/Berlin"),
    lambda: subprocess.run("ls / > /dev/null; echo hi > /dev/stderr; git --version || true", shell=True, capture_output=True, check=True))]"""
    assert ask(workshop, script) == ["done"] * 10
    assert (workshop.folder / "moved").read_text() == "made"


def test_the_hint(workshop: Workshop) -> None:
    with pytest.raises(NodeError, match="what an operator adds in BROKOLI_CODE_PATHS") as caught:
        workshop.run("code", Given({"script": "open('/etc/shadow')"}))
    assert "Line 1 of the script: PermissionError" in caught.value.message


def test_an_operator_adds_a_folder(workshop: Workshop, settings: LazySettings, tmp_path: Path) -> None:
    added = tmp_path / "added"
    (added / "secrets").mkdir(parents=True)
    (added / "secrets" / "key").write_text("canary")
    settings.CODE_PATHS = (added,)
    settings.SECRETS_DIR = added / "secrets"
    (added / "exchange").mkdir()
    script = f"""
added = {str(added)!r}
answers = [attempt(lambda: open(f"{{added}}/exchange/x", "w").write("x")), attempt(lambda: open(f"{{added}}/secrets/key").read())]"""
    assert ask(workshop, script) == ["done", DENIED]


def test_a_data_folder_around_the_home_opens_no_home(workshop: Workshop, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the journal of a database in a data folder is as private as the database."""
    home = workshop.folder / "home"
    home.mkdir()
    for name in ("home/key", "brokoli.sqlite3", "brokoli.sqlite3-wal", "open.txt"):
        (workshop.folder / name).write_text("canary")
    settings.HOME = home
    monkeypatch.setitem(settings.DATABASES, "default", {"ENGINE": "django.db.backends.sqlite3", "NAME": str(workshop.folder / "brokoli.sqlite3")})
    script = f"""
names = ("home/key", "brokoli.sqlite3", "brokoli.sqlite3-wal", "open.txt")
answers = [attempt(lambda: open(os.path.join({str(workshop.folder)!r}, name)).read()) for name in names]"""
    assert ask(workshop, script) == [DENIED, DENIED, DENIED, "done"]


def test_commands_are_confined_as_well(workshop: Workshop, settings: LazySettings) -> None:
    key = settings.HOME / "canary"
    key.write_text("canary")
    command = f"cat {key}; cat /proc/{os.getpid()}/environ; kill -0 {os.getpid()}; touch {workshop.folder}/made; echo end"
    outcome = workshop.run("bash", Given({"command": command}))
    assert outcome.rows == [(0, "end")]
    assert outcome.log.text.count("ermission denied") == 2
    assert "not permitted" in outcome.log.text or landlock.version() < 6
    assert (workshop.folder / "made").exists()
    key.unlink()


def test_the_rights_of_root_are_gone(workshop: Workshop) -> None:
    script = """
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
answers = [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs")]"""
    inherited, permitted, effective, ambient, privileges = ask(workshop, script)
    assert (inherited, ambient, privileges) == ("0" * 16, "0" * 16, "1")
    assert int(permitted, 16) | int(effective, 16) <= 0b11011


def test_it_can_be_turned_off(workshop: Workshop, settings: LazySettings) -> None:
    settings.CODE_SANDBOX = "off"
    assert ask(workshop, "answers = [attempt(lambda: os.listdir('/root'))]") == ["done"]


def test_a_kernel_that_cannot(workshop: Workshop, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    confinement._note_that_nothing_is_confined.cache_clear()
    assert ask(workshop, "answers = [attempt(lambda: os.listdir('/root'))]") == ["done"]
    settings.CODE_SANDBOX = "required"
    with pytest.raises(NodeError, match="BROKOLI_CODE_SANDBOX requires it"):
        ask(workshop, "answers = []")
