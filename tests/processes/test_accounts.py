"""The page about accounts does what it says; and no way of starting a server gets around what `serve` refuses."""

import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from tests.conftest import StartServer
from tests.curl import STAND_IN
from tests.processes.test_documented_commands import blocks, run_blocks
from tests.programs import ROOT, environment, free_port

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
PAGE = (ROOT / "docs" / "accounts.md").read_text()


@pytest.mark.any_database
def test_the_commands_of_the_page(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--workers", "0")
    (tmp_path / "curl").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    printed = run_blocks([block.replace("http://localhost:8080", server.url) for block in blocks(PAGE)], tmp_path, first_on_path=str(tmp_path))
    assert printed.count('"token":"brk_') == 2
    assert '"role":"admin"' in printed and '"scopes":["pipelines.run","runs.view"]' in printed
    assert "problem" not in printed
    assert User.objects.get().username == "ada"


@pytest.mark.any_database
@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "brokoli_site.web", "--bind", "0.0.0.0", "--port", "PORT", "brokoli_site.asgi:application"],
        ["-m", "brokoli_site.web", "-u", "FOLDER/socket", "brokoli_site.asgi:application"],
        ["-m", "brokoli_site.web", "-e", "tcp:port=PORT:interface=0.0.0.0", "brokoli_site.asgi:application"],
        ["manage.py", "runserver", "0.0.0.0:PORT", "--noreload"],
    ],
    ids=["bind", "unix", "endpoint", "runserver"],
)
def test_no_other_way_of_starting_gets_around_it(arguments: list[str], tmp_path: Path) -> None:
    filled = [argument.replace("PORT", str(free_port())).replace("FOLDER", str(tmp_path)) for argument in arguments]
    env = environment(BROKOLI_SECRET_KEY="k" * 40, BROKOLI_BIND="127.0.0.1")
    ended = subprocess.run([sys.executable, *filled], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode != 0
    assert "there is no user yet" in ended.stderr + ended.stdout
