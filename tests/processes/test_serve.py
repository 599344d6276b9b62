"""`manage.py serve`: everything starts with one command and stops with one signal."""

import signal

import psutil
import pytest
import requests
from django.contrib.auth import get_user_model

from runs.models import Worker
from tests.conftest import StartServer, StartWorker
from tests.factories import accept_run
from tests.programs import free_port, wait_for

pytestmark = pytest.mark.any_database


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def test_one_ctrl_c_stops_everything(start_server: StartServer) -> None:
    server = start_server("--workers", "2")
    wait_for(lambda: Worker.objects.count() == 2, what="both workers to register")
    processes = children(server.pid)
    assert len(processes) == 3

    server.signal(signal.SIGINT)

    assert server.wait(20) == 0, server.output
    assert not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not Worker.objects.exists()


@pytest.mark.slow
def test_what_crashes_is_started_again(start_server: StartServer) -> None:
    server = start_server()
    wait_for(Worker.objects.exists, what="the worker to register")
    before = {process.pid for process in children(server.pid)}

    for pid in before:
        psutil.Process(pid).kill()

    server.wait_for(lambda: len({process.pid for process in children(server.pid)} - before) == 2, what="both to be started again")
    server.wait_until_ready()
    run = accept_run()
    server.wait_for(lambda: requests.get(f"{server.url}/api/runs/{run.id}", timeout=30).json()["status"] == "success", what="the run to end")
    assert "web ended (signal SIGKILL)" in server.output


@pytest.mark.slow
def test_the_supervisors_death_takes_its_children_along(start_server: StartServer) -> None:
    server = start_server()
    processes = children(server.pid)

    server.kill()

    wait_for(
        lambda: not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE],
        what="the children to end",
    )


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_server_that_others_reach_needs_a_user_and_a_key(start_program: StartWorker) -> None:
    nobody = start_program("serve", "--host", "0.0.0.0", "--port", str(free_port()), BROKOLI_SECRET_KEY="k" * 40)
    assert nobody.wait() != 0
    assert "there is no user yet" in nobody.output

    get_user_model().objects.create_superuser("root", password="a long pass phrase")
    no_key = start_program("serve", "--host", "0.0.0.0", "--port", str(free_port()))
    assert no_key.wait() != 0
    assert "set BROKOLI_SECRET_KEY" in no_key.output


@pytest.mark.slow
def test_a_taken_port_is_said_plainly(start_server: StartServer, start_program: StartWorker) -> None:
    server = start_server()

    second = start_program("serve", "--port", str(server.port))

    assert second.wait() != 0
    assert f"Cannot listen on 127.0.0.1:{server.port}" in second.output
    assert "Traceback" not in second.output
