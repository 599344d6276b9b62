"""The web server's connections to the database end with their requests."""

import itertools

import psutil
import pytest
import requests

from tests.conftest import StartServer
from tests.programs import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.any_database]

PATHS = ("/api/runs", "/api/runs/nope", "/admin/runs/run/")


def test_requests_leave_no_connection_behind(start_server: StartServer) -> None:
    server = start_server("--workers", "0")
    (web,) = (process for process in server.processes() if "brokoli_site.web" in process.cmdline())
    with requests.Session() as session:
        for path in PATHS:
            session.get(server.url + path, timeout=10)
        before = open_descriptors(web)
        for path in itertools.islice(itertools.cycle(PATHS), 80):
            session.get(server.url + path, timeout=10)
        # One connection may be on its way out, with its files.
        wait_for(lambda: open_descriptors(web) <= before + 4, what=f"no more descriptors than the {before} of before")


def open_descriptors(process: psutil.Process) -> int:
    """Files and sockets: each connection to the database holds one or more."""
    return process.num_fds()
