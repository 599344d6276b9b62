"""Settings that only meet the world when a program starts: it ends with a sentence that says which, and without a traceback."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.conf import settings

from pipelines import variables
from tests.conftest import StartWorker
from tests.programs import free_port

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
