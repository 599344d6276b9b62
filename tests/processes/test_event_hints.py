"""A Redis that tells web servers of the log: nothing is lost without it, and nothing waits for it."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.models import Pipeline
from tests.conftest import StartServer
from tests.event_clients import EventClient
from tests.factories import accept_run, make_pipeline
from tests.patience import within
from tests.programs import free_port

pytestmark = [pytest.mark.slow, pytest.mark.any_database]


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed here (Debian's package redis-server)")
    port = free_port()
    command = [program, "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(os.environ))
    yield port
    if process.poll() is None:
        process.kill()
    process.wait(timeout=10)


def run_to_its_end(client: EventClient, pipeline: Pipeline) -> float:
    """Seconds from the trigger to the frame of its creation; all frames of the run are awaited."""
    begun = time.monotonic()
    accept_run(pipeline)
    assert client.next()["type"] == "run.created"
    took = time.monotonic() - begun
    while client.next()["type"] != "run.completed":
        pass
    return took


def test_with_redis_and_after_it_has_died(start_server: StartServer, redis_port: int) -> None:
    server = start_server(BROKOLI_REDIS_URL=f"redis://127.0.0.1:{redis_port}/0")
    pipeline = make_pipeline()
    with EventClient(server.port) as client:
        run_to_its_end(client, pipeline)
        subprocess.run(["redis-cli", "-p", str(redis_port), "shutdown", "nosave"], check=True, capture_output=True)
        run_to_its_end(client, pipeline)
        run_to_its_end(client, pipeline)
    assert "Traceback" not in server.output


def test_a_redis_that_is_not_there(start_server: StartServer) -> None:
    server = start_server(BROKOLI_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    pipeline = make_pipeline()
    with EventClient(server.port) as client:
        assert run_to_its_end(client, pipeline) < within(5)
    assert "Traceback" not in server.output
