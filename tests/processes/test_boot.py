"""Settings that only meet the world when a program starts: it ends with a sentence that says which, and without a traceback."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings

from brokoli_site.asgi import application
from brokoli_site.common.secrets import Keyring
from pipelines import variables
from tests.conftest import StartWorker
from tests.programs import ROOT, environment, free_port

pytestmark = [pytest.mark.any_database, pytest.mark.slow]


def _file(folder: Path) -> Path:
    path = folder / "file"
    path.write_text("")
    return path


CASES: dict[str, Callable[[Path], dict[str, str]]] = {
    "BROKOLI_HOME": lambda folder: {"BROKOLI_HOME": str(_file(folder))},
    "BROKOLI_HOME:": lambda folder: {"BROKOLI_HOME": str(_file(folder)), "BROKOLI_SECRET_KEY": "k" * 40},
    "BROKOLI_ARTIFACTS": lambda folder: {"BROKOLI_ARTIFACTS": str(_file(folder))},
    "DATABASE_URL": lambda folder: {"DATABASE_URL": f"sqlite:///{folder}/no/such/folder/brokoli.sqlite3"},
    "(DATABASE_URL)": lambda folder: {"DATABASE_URL": f"postgres://user:hunter2@127.0.0.1:{free_port()}/name"},
}


@pytest.mark.parametrize("command", ["runworker", "serve"])
@pytest.mark.parametrize("named", CASES)
def test_the_boot_stops_with_a_sentence(start_program: StartWorker, tmp_path: Path, command: str, named: str) -> None:
    program = start_program(command, **CASES[named](tmp_path))

    assert program.wait(60) == 2
    assert program.output.startswith("brokoli: ")
    assert named in program.output
    assert "Traceback" not in program.output
    assert "hunter2" not in program.output


def test_a_home_that_is_new_is_made(start_program: StartWorker, tmp_path: Path) -> None:
    program = start_program("migrate", "--verbosity", "0", BROKOLI_HOME=str(tmp_path / "new"), BROKOLI_SECRET_KEY="k" * 40, DATABASE_URL="")

    assert program.wait(60) == 0, program.output
    assert (tmp_path / "new" / "brokoli.sqlite3").exists()


@pytest.mark.parametrize("command", ["runworker", "serve"])
def test_the_boot_stops_when_no_key_opens_what_is_stored(start_program: StartWorker, command: str) -> None:
    variables.create("token", {"type": "secret", "value": "hunter2"})
    program = start_program(command, BROKOLI_ENCRYPTION_KEYS=Fernet.generate_key().decode())

    assert program.wait(60) in (1, 2)
    assert f"'{settings.KEYRING.ids[0]}', which BROKOLI_ENCRYPTION_KEYS lacks" in program.output
    assert "Traceback" not in program.output
    assert "hunter2" not in program.output


def test_whatever_serves_refuses_a_wrong_a_new_and_a_damaged_key(tmp_path: Path, transactional_db: None) -> None:
    """Not only `serve`: the web server by itself, and other servers, which ask by ASGI's lifespan."""
    variables.create("token", {"type": "secret", "value": "hunter2"})
    missing, other = settings.KEYRING.ids[0], tmp_path / "other"
    (other / "keys").mkdir(parents=True)
    wrong = {"BROKOLI_ENCRYPTION_KEYS": Fernet.generate_key().decode()}
    for changes in (wrong, {"BROKOLI_HOME": str(tmp_path / "new"), "BROKOLI_ARTIFACTS": str(tmp_path / "new" / "artifacts")}):
        code, told = web(**changes)
        assert (
            code == 1
            and told.count("\n") == 1
            and f"brokoli: The stored secrets cannot all be read: some variables were sealed with the key '{missing}'" in told
        )
    for content in ("", Fernet.generate_key().decode()[:20], "\0" * 44):
        (other / "keys" / "encryption_keys").write_text(content)
        code, told = web(BROKOLI_HOME=str(other), BROKOLI_SECRET_KEY="k" * 40)
        assert code != 0 and "holds no usable key; restore it" in told, told
    before = settings.KEYRING
    try:
        assert asyncio.run(started()) == {"type": "lifespan.startup.complete"}
        settings.KEYRING = Keyring.read(wrong["BROKOLI_ENCRYPTION_KEYS"])
        answer = asyncio.run(started())
    finally:
        settings.KEYRING = before
    assert answer["type"] == "lifespan.startup.failed" and f"'{missing}'" in answer["message"] and "hunter2" not in answer["message"]


def web(**changes: str) -> tuple[int, str]:
    """The status with which the web server ends that is started alone, and what it says."""
    command = [sys.executable, "-m", "brokoli_site.web", "--port", str(free_port()), "brokoli_site.asgi:application"]
    done = subprocess.run(command, env=environment(**changes), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


async def started() -> Any:
    """What the application answers to a server that begins."""
    sent: list[Any] = []
    messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    await application({"type": "lifespan"}, receive, send)
    return sent[0]
