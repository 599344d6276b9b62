"""The event stream of a real server: runs as they happen, connections that die, clients that do not read, frames that are none."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from django.db import connection
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from runs import log
from runs.models import LogEntry, Run
from runs.states import EntryKind
from tests.conftest import StartServer
from tests.event_clients import BINARY, PING, TEXT, Closed, EventClient
from tests.factories import accept_run, make_pipeline
from tests.patience import within
from tests.programs import Server

pytestmark = pytest.mark.slow


def write(run: Run, count: int, text: str = "line") -> None:
    log.append([log.entry(run.id, EntryKind.LOG, f"{text} {number}") for number in range(count)])


def stored(since: int = 0, **wanted: Any) -> list[int]:
    return list(LogEntry.objects.filter(seq__gt=since, **wanted).order_by("seq").values_list("seq", flat=True))


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Do this in a thread and connection of its own; it has ended after the block."""

    def act() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=act)
    thread.start()
    yield thread
    thread.join(timeout=60)
    assert not thread.is_alive()


def web_process(server: Server) -> psutil.Process:
    (found,) = (process for process in server.processes() if "brokoli_site.web" in process.cmdline())
    return found


def test_runs_as_they_happen_in_another_process(start_server: StartServer) -> None:
    server = start_server()
    elsewhere = start_server("--workers", "0")
    pipeline = make_pipeline()
    urls = [f"ws://localhost:{one.port}/api/ws" for one in (server, elsewhere)]
    with connect(urls[0]) as here, connect(urls[1]) as there, EventClient(server.port, "?types=run.completed,run.failed") as ends:
        run = accept_run(pipeline)
        events: list[dict[str, Any]] = []
        last = ends.next()
        while not events or events[-1]["seq"] < last["seq"]:
            events.append(json.loads(here.recv(timeout=20)))
        same = [json.loads(there.recv(timeout=20)) for _ in events]

    assert same == events
    assert [event["seq"] for event in events] == stored()
    types = [event["type"] for event in events]
    assert (types[0], types[1], types[-1]) == ("run.created", "run.started", "run.completed")
    assert types.count("node.started") == types.count("node.completed") == 2
    assert {(event["run_id"], event["pipeline_id"]) for event in events} == {(str(run.id), str(pipeline.id))}
    completed = next(event for event in events if event["type"] == "node.completed")
    assert (completed["node_id"], completed["status"], completed["row_count"]) == ("first", "success", 1)
    assert last == events[-1]


def bad_frames() -> list[tuple[Callable[[EventClient], None], int]]:
    """What a client may send that nobody should, and the code that it is closed with."""
    return [
        (lambda client: client.send(BINARY, b"x"), 1003),
        (lambda client: client.send(TEXT, b"{"), 1008),
        (lambda client: client.send(TEXT, b"", length=1 << 40), 1009),
        (lambda client: client.send(TEXT, b"x" * (64 * 1024 + 1)), 1009),
        (lambda client: client.send(TEXT, b"\xff\xff"), 1007),
        (lambda client: client.raw(b"\x81\x02{}"), 1002),  # not masked
        (lambda client: client.raw(b"\xf1\x80\0\0\0\0"), 1002),  # reserved bits
        (lambda client: client.send(3, b"x"), 1002),  # an opcode that is none
        (lambda client: client.send(PING, b"x" * 126), 1002),
    ]


@pytest.mark.any_database
def test_frames_that_are_none_close_their_socket_alone(start_server: StartServer) -> None:
    server = start_server("--workers", "0")
    run = accept_run()
    with EventClient(server.port) as witness:
        for frame, code in bad_frames():
            with EventClient(server.port) as client:
                frame(client)
                assert client.closed().code == code
        with EventClient(server.port) as client:
            client.send(TEXT, b'{"subscribe": {"types": ["run.failed"]}}')
            assert client.next() == {"type": "subscribed", "types": ["run.failed"], "since": stored()[-1]}
            client.say({"subscribe": {"run_id": str(run.id), "since": 0}})
            assert client.next()["since"] == 0
            assert [client.next()["seq"] for _ in stored()] == stored()

        write(run, 1, "naïve 数据 🥦" * 500)
        assert witness.next()["message"] == "naïve 数据 🥦" * 500 + " 0"
    assert "Traceback" not in server.output


def test_fifty_deaths_lose_nothing_and_bring_nothing_twice(start_server: StartServer) -> None:
    """20,000 events, written by two transactions at a time; a client that is killed 50 times and goes on where it was."""
    server = start_server("--workers", "0")
    run = accept_run()
    total, deaths = 20_000, 50
    start = stored()[-1]
    chance = random.Random(50)

    def keep_writing() -> None:
        for _ in range(total // 2 // 40):
            write(run, 40)
            time.sleep(0.01)  # so that it lasts for as long as the deaths do

    found: list[int] = []
    client = EventClient(server.port)
    client.kill()
    with meanwhile(keep_writing), meanwhile(keep_writing):
        for death in range(deaths + 1):
            client = EventClient(server.port, f"?since={found[-1] if found else start}")
            stop_at = len(found) + chance.randint(1, 2 * total // deaths - 1) if death < deaths else start + total
            for message in client.messages():
                assert message["type"] == "log"
                found.append(message["seq"])
                if len(found) >= min(stop_at, total):
                    break
            client.kill()

    assert found == stored(start)
    assert len(found) == total


@pytest.mark.any_database
def test_a_client_that_stops_reading_costs_little_and_is_told(start_server: StartServer) -> None:
    server = start_server("--workers", "0")
    run = accept_run()
    web = web_process(server)
    with EventClient(server.port) as reader, EventClient(server.port, receive_buffer=4096) as stalled:
        write(run, 2_000)
        for _ in range(2_000):
            reader.next()
        before = web.memory_info().rss
        start = reader_seq = stored()[-1]

        def keep_writing() -> None:
            for _ in range(120):
                write(run, 200, "x" * 500)

        with meanwhile(keep_writing):
            for _ in range(120 * 200):
                message = reader.next()
                assert message["seq"] > reader_seq
                reader_seq = message["seq"]
        assert reader_seq == stored()[-1]
        assert web.memory_info().rss - before <= 16 * 1024**2

        got: list[dict[str, Any]] = []
        with pytest.raises(Closed) as ended:
            got.extend(stalled.messages())
        assert ended.value.code == 1013
        assert got[-1] == {"type": "gap", "since": got[-2]["seq"]}
        seqs = [message["seq"] for message in got[:-1]]
        assert seqs == stored()[1 : len(seqs) + 1]
        assert seqs[-1] < start + 120 * 200
        with EventClient(server.port, f"?since={got[-1]['since']}") as again:
            assert again.next()["seq"] == seqs[-1] + 1


@pytest.mark.any_database
def test_a_server_that_stops_says_so_and_waits_for_nobody(start_server: StartServer) -> None:
    server = start_server("--workers", "0")
    run = accept_run()
    with EventClient(server.port, receive_buffer=4096), connect(f"ws://localhost:{server.port}/api/ws") as client:
        write(run, 2_000, "x" * 500)
        begun = time.monotonic()
        server.process.terminate()
        with pytest.raises(ConnectionClosed) as ended:
            while True:
                client.recv(timeout=20)
    assert server.wait(20) == 0
    assert time.monotonic() - begun < within(8)
    assert ended.value.rcvd is not None
    assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (1001, "the server stops")
