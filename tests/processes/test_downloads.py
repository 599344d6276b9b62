"""Downloads through the real web server: they start at once, wait for a slow client, and end with one that leaves."""

import json
import socket
import time

import psutil
import pytest
import requests

from runs.models import Run
from tests.conftest import StartServer
from tests.history import lines, past_pipeline, produce, saved_run
from tests.programs import Server

pytestmark = [pytest.mark.slow, pytest.mark.any_database]

MEGABYTE = 1024**2


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server("--workers", "0")


@pytest.fixture
def run(transactional_db: None) -> Run:
    return saved_run(past_pipeline())


def web(server: Server) -> psutil.Process:
    (process,) = (process for process in server.processes() if "brokoli_site.web" in process.cmdline())
    return process


def test_every_download_arrives_whole(server: Server, run: Run) -> None:
    lines(run, 5000)
    produce(run, "SELECT range AS x FROM range(300000)")
    url = f"{server.url}/api/runs/{run.id}"
    assert len(requests.get(f"{url}/logs/export", timeout=60).text.splitlines()) == 5000
    exported = requests.get(f"{url}/logs/export?format=jsonl", timeout=60).text.splitlines()
    assert [json.loads(line)["message"] for line in exported] == [f"Line {n}" for n in range(5000)]
    assert requests.get(f"{url}/nodes/first/output?format=csv", timeout=60).text.split("\n") == ['"x"', *map(str, range(300000)), ""]
    parquet = requests.get(f"{url}/nodes/first/output", timeout=60)
    assert (len(parquet.content), parquet.content[:4], parquet.content[-4:]) == (int(parquet.headers["Content-Length"]), b"PAR1", b"PAR1")
    head = requests.head(f"{url}/nodes/first/output", timeout=60)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", parquet.headers["Content-Length"])


def rests(process: psutil.Process) -> bool:
    """Whether the process did next to nothing for a tenth of a second."""
    before = sum(process.cpu_times()[:2])
    time.sleep(0.1)
    return sum(process.cpu_times()[:2]) - before < 0.02


def test_a_client_that_reads_nothing_costs_no_memory_and_holds_up_nobody(server: Server, run: Run) -> None:
    produce(run, "SELECT repeat('x', 1000) || range AS t FROM range(200000)")  # 200 MB as CSV
    path = f"/api/runs/{run.id}/nodes/first/output?format=csv"
    with requests.get(server.url + path, stream=True, timeout=60) as warm:  # what the first download loads is no part of the measure
        next(warm.iter_content(MEGABYTE))
    process = web(server)
    server.wait_for(lambda: rests(process), what="the server to notice that the first client left")
    before = process.memory_full_info().uss
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{server.port}\r\n\r\n".encode())
        assert client.recv(12) == b"HTTP/1.1 200"
        server.wait_for(lambda: rests(process), what="the server to wait for its client")
        assert process.memory_full_info().uss - before < 60 * MEGABYTE
        assert requests.get(f"{server.url}/api/runs/{run.id}", timeout=10).status_code == 200
        received = 0
        while received < 20 * MEGABYTE:  # it goes on as soon as the client does
            received += len(client.recv(MEGABYTE))
    server.wait_for(lambda: rests(process) and not process_files(process), what="the server to let go of what nobody reads")


def process_files(process: psutil.Process) -> list[str]:
    """Artifacts that it holds open."""
    return [file.path for file in process.open_files() if file.path.endswith(".parquet")]
