"""The processes that execute dry runs: they end when they must, whatever they are at, and know nothing that they need not."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from brokoli_site.common.errors import OutOfTime, Unavailable
from pipelines import variables
from runs.dry_run import Draft, dry_run
from runs.dry_run_processes import DryRunProcesses
from tests.conftest import StartServer
from tests.patience import within
from tests.programs import wait_for
from tests.writes import everything_in

pytestmark = [pytest.mark.django_db, pytest.mark.any_database, pytest.mark.slow]


def sql(node_id: str, query: str) -> dict[str, Any]:
    return {"id": node_id, "type": "sql", "name": node_id.title(), "config": {"query": query}}


def draft(*nodes: dict[str, Any], edges: tuple[tuple[str, str], ...] = ()) -> Draft:
    return Draft.unsaved({"name": "Draft", "nodes": list(nodes), "edges": [{"from": source, "to": target} for source, target in edges]})


TEN = sql("ten", "SELECT 1 AS i" + " UNION ALL SELECT 1" * 9)
# Ten to the twelfth rows to count: hours.
ENDLESS = sql("endless", "SELECT sum(a.i) AS n FROM " + ", ".join(f"ten {letter}" for letter in "abcdefghijkl"))
STUCK = draft(TEN, ENDLESS, sql("after", "SELECT 1 AS x"), edges=(("ten", "endless"),))


@pytest.fixture
def pool() -> Iterator[DryRunProcesses]:
    made = DryRunProcesses(at_once=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_pool() -> Iterator[DryRunProcesses]:
    """For tests that leave it as it was; a nursery takes seconds to start."""
    made = DryRunProcesses(at_once=1)
    yield made
    made.close()


def children(pool: DryRunProcesses) -> list[psutil.Process]:
    assert pool._nursery is not None
    found = psutil.Process(pool._nursery.pid).children(recursive=True)
    return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


class Background(threading.Thread):
    """A dry run in a thread of its own, as a request is."""

    def __init__(self, pool: DryRunProcesses, tried: Draft, seconds: float) -> None:
        super().__init__()
        # The child of another test, which is just ending, is not to be taken for that of this one.
        wait_for(lambda: pool._nursery is None or not children(pool), what="earlier children to end")
        self.answer: dict[str, Any] = {}
        self.error: Exception | None = None
        self._call: Callable[[], dict[str, Any]] = lambda: dry_run(tried, seconds=seconds, pool=pool)
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._call()
        except (OutOfTime, Unavailable) as error:
            self.error = error


def executing(pool: DryRunProcesses) -> psutil.Process:
    """The child, once it is busy with its query."""
    wait_for(lambda: pool._nursery is not None and children(pool), what="a child")
    child = children(pool)[0]
    wait_for(lambda: child.cpu_times().user > 0.5, what="the query to be at work")
    return child


def test_what_takes_too_long_is_a_504_and_its_process_is_gone(shared_pool: DryRunProcesses) -> None:
    dry_run(draft(TEN), pool=shared_pool)  # a cold start may take its seconds
    began = time.monotonic()
    with pytest.raises(OutOfTime, match=r"longer than 1\.5 seconds and was ended; node 'Endless' was executing") as caught:
        dry_run(STUCK, seconds=1.5, pool=shared_pool)
    assert time.monotonic() - began < within(3)
    assert (caught.value.status, caught.value.code) == (504, "timeout")
    wait_for(lambda: not children(shared_pool), what="the child to be gone")
    assert dry_run(draft(TEN), pool=shared_pool)["ten"]["row_count"] == 10


def test_a_crash_fails_the_node_and_harms_nobody(shared_pool: DryRunProcesses) -> None:
    background = Background(shared_pool, STUCK, 30)
    executing(shared_pool).kill()
    background.join(10)
    assert {node_id: node["status"] for node_id, node in background.answer.items()} == {"ten": "success", "endless": "failed", "after": "success"}
    assert background.answer["endless"]["error"] == "The data engine ended in this node, most likely for lack of memory."
    assert dry_run(draft(TEN), pool=shared_pool)["ten"]["status"] == "success"


def test_who_finds_no_place_hears_of_it(shared_pool: DryRunProcesses) -> None:
    background = Background(shared_pool, STUCK, 4)
    executing(shared_pool)
    with pytest.raises(Unavailable, match="Other dry runs took all the time"):
        dry_run(draft(TEN), seconds=0.2, pool=shared_pool)
    background.join(10)
    assert isinstance(background.error, OutOfTime)


def test_a_process_for_dry_runs_that_was_killed_is_started_again(pool: DryRunProcesses) -> None:
    dry_run(draft(TEN), pool=pool)
    assert pool._nursery is not None
    pool._nursery.kill()
    pool._nursery.wait()
    assert dry_run(draft(TEN), pool=pool)["ten"]["status"] == "success"


def test_children_end_with_the_process_that_they_were_born_in(pool: DryRunProcesses) -> None:
    background = Background(pool, STUCK, 60)
    child = executing(pool)
    pool.close()
    background.join(10)
    # Long before its own timer would end it.
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, seconds=10, what="the child to end")


def test_memory_is_bounded(shared_pool: DryRunProcesses) -> None:
    letters = sql("letters", "SELECT string_agg(repeat('x', 100000000), '') AS t FROM ten a, ten b")
    nodes = dry_run(draft(TEN, letters, edges=(("ten", "letters"),)), pool=shared_pool)
    assert nodes["ten"]["status"] == "success"
    assert nodes["letters"]["status"] == "failed"
    assert "memory" in nodes["letters"]["error"]


def test_the_environment_holds_no_secret(pool: DryRunProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKOLI_SECRET_KEY", "canary")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:canary@host/name")
    monkeypatch.setenv("BROKOLI_VAR_COUNTRY", "DE")
    nodes = dry_run(draft(sql("a", "SELECT ${env.BROKOLI_VAR_COUNTRY} AS country")), pool=pool)
    assert nodes["a"]["rows"] == [{"country": "DE"}]
    assert pool._nursery is not None
    variables = Path(f"/proc/{pool._nursery.pid}/environ").read_bytes()
    assert b"canary" not in variables
    assert b"BROKOLI_VAR_COUNTRY=DE" in variables


def test_a_dry_run_over_http_leaves_no_file_and_ends_with_its_server(start_server: StartServer, tmp_path: Path) -> None:
    temporary, data = tmp_path / "temporary", tmp_path / "data"
    temporary.mkdir()
    data.mkdir()
    (data / "a.csv").write_text("id\n1\n")
    server = start_server("--workers", "0", TMPDIR=str(temporary), BROKOLI_DATA_DIRS=str(data))
    body = {
        "name": "Draft",
        "nodes": [
            {"id": "a", "type": "source_file", "config": {"path": "a.csv"}},
            {"id": "b", "type": "sink_file", "config": {"path": "out/b.csv.gz"}},
        ],
        "edges": [{"from": "a", "to": "b"}],
    }
    before = everything_in(temporary, data)
    answer = requests.post(f"{server.url}/api/pipelines/dry-run", json=body, timeout=40)
    assert answer.status_code == 200, answer.text
    assert {node_id: node["status"] for node_id, node in json.loads(answer.text).items()} == {"a": "success", "b": "success"}
    assert everything_in(temporary, data) == before
    (web,) = psutil.Process(server.pid).children()
    born = [process for process in web.children() if "runs.dry_run_nursery" in process.cmdline()]
    assert len(born) == 1
    os.kill(web.pid, signal.SIGKILL)  # no chance to tidy up
    wait_for(lambda: not born[0].is_running() or born[0].status() == psutil.STATUS_ZOMBIE, what="the nursery to end")


def test_what_nodes_name_reaches_them_and_is_hidden_again(shared_pool: DryRunProcesses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKOLI_CREDENTIAL_X", "canary-outside")
    variables.create("limit", {"type": "number", "value": 7})
    variables.create("token", {"type": "secret", "value": "canary-inside"})
    variables.create("far", {"type": "secret", "value": "env://BROKOLI_CREDENTIAL_X"})
    variables.create("lost", {"type": "secret", "value": "env://BROKOLI_CREDENTIAL_NONE"})
    nodes = [
        sql("plain", "SELECT ${var.limit} AS n"),
        sql("length", "SELECT length(${secret.token}) + length(${secret.far}) AS n"),
        sql("wrong", "SELECT CAST(${secret.token} AS INTEGER) AS n, ${secret.far} AS f"),
        sql("lost", "SELECT ${secret.lost} AS n"),
        sql("unknown", "SELECT ${var.nobody} AS n"),
    ]

    found = dry_run(draft(*nodes), pool=shared_pool)

    assert found["plain"]["rows"] == [{"n": 7}]
    assert found["length"]["rows"] == [{"n": 27}]
    assert "***" in found["wrong"]["error"]
    assert "no such variable" in found["lost"]["error"]
    assert "no variable 'nobody'" in found["unknown"]["error"]
    assert "canary" not in json.dumps(found)
    assert shared_pool._nursery is not None
    for process in (psutil.Process(shared_pool._nursery.pid), *children(shared_pool)):
        assert "canary" not in " ".join([*process.cmdline(), *process.environ().values()])
