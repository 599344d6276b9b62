"""Every command that the README and the deployment page show does what they say, as written but for the port."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from django.conf import settings

from runs.models import Worker
from tests.conftest import StartServer, StartWorker
from tests.curl import STAND_IN
from tests.programs import ROOT, environment, free_port

pytestmark = pytest.mark.any_database

README = (ROOT / "README.md").read_text()
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text()
# What a page's own text says of a server that others reach.
PRODUCTION = {
    "BROKOLI_SECRET_KEY": "a key that is only good enough for tests, but long",
    "BROKOLI_ALLOWED_HOSTS": "brokoli.example.org",
    "BROKOLI_HTTPS": "true",
    "BROKOLI_TRUSTED_PROXIES": "127.0.0.1",
    "DJANGO_SUPERUSER_PASSWORD": "correct horse battery staple",
}
PROXIED = {"Host": "brokoli.example.org", "X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}


def blocks(page: str) -> list[str]:
    """The commands to type, in order, one text for each block."""
    return re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def services(page: str) -> list[list[str]]:
    """Arguments for manage.py of what systemd and containers are told to start."""
    units = [shlex.split(line) for line in re.findall(r"^ExecStart=(.*)$", page, re.MULTILINE)]
    units += [json.loads(line) for line in re.findall(r"^CMD (\[.*\])$", page, re.MULTILINE)]
    return [unit[unit.index("manage.py") + 1 :] for unit in units]


def is_service(command: str) -> bool:
    return re.match(r"python manage\.py (serve|runworker)\b", command) is not None and "--drain" not in command


@pytest.fixture
def shell(transactional_db: None, tmp_path: Path) -> Path:
    """A folder as the pages assume it: a checkout with its `var`, which here is the home of the tests."""
    (tmp_path / "manage.py").symlink_to(ROOT / "manage.py")
    (tmp_path / "var").symlink_to(settings.HOME)
    return tmp_path


@pytest.fixture(params=["curl of the machine", pytest.param("curl of ours", marks=pytest.mark.slow)])
def curl(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The folder to find curl in: the machine's, where it has one, and the stand-in, so that neither is left untested."""
    found = shutil.which("curl")
    if request.param == "curl of the machine" and found:
        return str(Path(found).parent)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "curl").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    (folder / "curl").chmod(0o755)
    return str(folder)


def run_blocks(texts: list[str], folder: Path, first_on_path: str = "", **variables: str) -> str:
    """Run the blocks one after the other in one shell that stops at the first failure; what they printed."""
    path = os.pathsep.join(filter(None, (str(Path(sys.executable).parent), first_on_path, os.environ["PATH"])))
    script = "set -euo pipefail\n" + "\n".join(texts)
    env = environment(PATH=path, PYTHONPATH=str(ROOT), **variables)
    ended = subprocess.run(["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def test_the_first_pipeline_by_hand(shell: Path, curl: str, start_server: StartServer) -> None:
    server = start_server()

    printed = run_blocks([block.replace("http://localhost:8080", server.url) for block in blocks(README)], shell, first_on_path=curl)

    assert '"valid":true' in printed.replace(" ", "")
    assert '"status":"success"' in printed.replace(" ", "")
    assert "Node completed: 2 rows" in printed
    assert sorted(printed.splitlines()[-3:]) == ["DE,24.75", "US,7.25", "country,revenue"]


def test_the_two_commands_are_what_continuous_integration_runs() -> None:
    commands = re.findall(r"^```\n(make \w+)\n```$", README, re.MULTILINE)

    assert commands == ["make demo", "make test"]
    assert all(command in (ROOT / ".ci" / "run").read_text() for command in commands)


@pytest.mark.slow
def test_setting_up_for_others(shell: Path) -> None:
    (settings.HOME / "brokoli.sqlite3").unlink(missing_ok=True)
    with sqlite3.connect(settings.HOME / "brokoli.sqlite3") as database:
        database.execute("create table kept (id integer)")
    database.close()
    commands = [line for block in blocks(DEPLOYMENT) for line in block.splitlines()]

    run_blocks([command for command in commands if not is_service(command)], shell, **PRODUCTION)

    with sqlite3.connect(shell / "backup.sqlite3") as backup:
        assert backup.execute("select name from sqlite_master").fetchall() == [("kept",)]
    backup.close()


@pytest.mark.slow
def test_serving_others(shell: Path, start_program: StartWorker) -> None:
    run_blocks(["python manage.py createsuperuser --noinput --username admin --email admin@example.org"], shell, **PRODUCTION)
    shown = [shlex.split(line)[2:] for block in blocks(DEPLOYMENT) for line in block.splitlines() if is_service(line)] + services(DEPLOYMENT)
    assert len(shown) == 5

    for arguments in shown:
        port = str(free_port())
        program = start_program(*(port if argument == "8080" else argument for argument in arguments), **PRODUCTION)
        if arguments[0] == "serve":
            program.wait_for(lambda port=port: refuses_strangers(f"http://127.0.0.1:{port}"), what="the web server to answer")  # type: ignore[misc]
        else:
            program.wait_for(lambda program=program: Worker.objects.filter(pid=program.pid).exists(), what="the worker to register")  # type: ignore[misc]
        program.clean_up()


def refuses_strangers(url: str) -> bool:
    try:
        answer = requests.get(f"{url}/api/pipelines", headers=PROXIED, timeout=5)
    except (requests.ConnectionError, requests.Timeout):
        return False
    assert answer.status_code == 401
    return True
