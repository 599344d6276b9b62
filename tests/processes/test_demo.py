"""`make demo` shows the product at work, says so when it does not, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from django.conf import settings
from django.core.management import call_command

from examples.local_server import port_is_free
from pipelines.models import Pipeline
from pipelines.validation import Report, validate
from runs import triggers
from tests.conftest import StartWorker
from tests.programs import ROOT, environment, free_port, wait_for

pytestmark = pytest.mark.any_database

DEMO = [sys.executable, "-m", "examples.demo"]


@pytest.fixture
def examples(transactional_db: None) -> None:
    call_command("load_examples", verbosity=0)


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = environment(COLUMNS="160")
    return subprocess.run([*DEMO, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.usefixtures("examples")
def test_the_flights_pipeline_is_run_and_shown() -> None:
    port = free_port()

    shown = demo("--exit", "--port", str(port))

    assert shown.returncode == 0, shown.stdout + shown.stderr
    for words in ("ExpressJet Airlines Inc.", "24,951 rows", "Succeeded in", f"http://localhost:{port}/api/docs"):
        assert words in shown.stdout
    assert port_is_free(port)


@pytest.mark.slow
@pytest.mark.usefixtures("examples")
def test_a_run_that_fails_is_told_and_ends_with_1() -> None:
    (settings.DATA_DIRS[0] / "examples" / "airlines.csv.gz").unlink()

    shown = demo("--exit", "--port", str(free_port()))

    assert shown.returncode == 1
    assert "The run ended as failed." in shown.stdout
    assert "airlines.csv.gz" in shown.stdout


@pytest.mark.usefixtures("transactional_db")
def test_a_taken_port_is_told_with_another_to_take() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        shown = demo("--exit", "--port", str(port))

    assert shown.returncode == 1
    assert f"make demo PORT={port + 1}" in shown.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_server_ends_with_the_demo(number: signal.Signals) -> None:
    port = free_port()
    with subprocess.Popen([*DEMO, "--port", str(port)], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("Serving on" in line for line in process.stdout)

        os.kill(process.pid, number)

        try:
            wait_for(lambda: process.poll() is not None, 60, "the demo to end")
        except AssertionError:
            process.terminate()  # it ends, and the test with it: it would be waited for
            raise
        assert port_is_free(port)


@pytest.mark.django_db
def test_loading_the_examples_again_changes_nothing() -> None:
    call_command("load_examples", verbosity=0)
    call_command("load_examples", verbosity=0)

    assert set(Pipeline.objects.values_list("version", flat=True)) == {1}
    assert Pipeline.objects.count() == len(list((ROOT / "examples").glob("*.yaml")))


@pytest.mark.slow
@pytest.mark.usefixtures("examples")
def test_every_example_is_valid_and_succeeds(start_worker: StartWorker) -> None:
    """But those that need a server of somebody's own: tests of their families run these."""
    runs = [triggers.run(pipeline) for pipeline in Pipeline.objects.exclude(pipeline_id__in=("api-report", "warehouse"))]

    start_worker("--drain").wait(60)

    for run in runs:
        run.refresh_from_db()
        assert (run.pipeline.pipeline_id, run.status, run.error) == (run.pipeline.pipeline_id, "success", "")
        assert validate(run.version.document) == Report(errors=(), warnings=())
    written = {path.name for path in (settings.DATA_DIRS[0] / "examples" / "output").iterdir()}
    assert written >= {
        "delays_by_carrier.parquet",
        "delays_by_carrier.csv",
        "busiest_routes.json",
        "disruptions.jsonl.gz",
        "unregistered_planes.csv",
        "routes.xlsx",
        "long_hauls.csv",
    }
