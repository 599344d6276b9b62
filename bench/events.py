"""The event stream under load: 100 clients, 2,000 events a second, and one client that stops reading.

    python -m bench.events write RATE SECONDS       entries into the log of BROKOLI_HOME or DATABASE_URL, at that rate
    python -m bench.events watch PORT CLIENTS       clients that see that each gets the same bytes, and when; ends with the last event
    python -m bench.events broadcast PORT           the baseline: a bare server of the `websockets` library, fed with the same events

Each entry tells the time just before it was committed, so the delays hold the commit too. All processes share the machine.
"""

import asyncio
import base64
import datetime as dt
import itertools
import json
import os
import selectors
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
from websockets.asyncio.server import ServerConnection, broadcast, serve

from examples.local_server import Api, ServerError, free_port, manage

_LAST = "the last"
_PAYLOAD = "x" * 40  # with it an event has some 250 bytes, as a usual line of a log


# --- clients ------------------------------------------------------------------------------------------------------


@dataclass
class Client:
    """One connection: how many bytes of the stream it has, and when it had them."""

    socket: socket.socket
    reads: bool = True
    length: int = 0
    arrivals: list[tuple[int, int]] = field(default_factory=list)  # (length, time in ns)


@dataclass
class Frame:
    seq: int
    sent: int  # time in ns
    last: bool
    end: int


def connect(port: int, path: str = "/api/ws") -> tuple[socket.socket, bytes]:
    """A socket after the handshake, and what came with its answer."""
    found = socket.create_connection(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    found.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = found.recv(4096)
        if not piece:
            break
        answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b" 101 " not in head.split(b"\r\n", 1)[0]:
        raise SystemExit(f"no handshake: {answer[:500]!r}")
    return found, rest


def frames(stream: bytes, start: int = 0) -> list[Frame]:
    """The events of a stream; other frames (pings) are not expected."""
    found, at = [], start
    while at + 2 <= len(stream):
        length, body = stream[at + 1], at + 2
        if length == 126:
            length, body = int.from_bytes(stream[at + 2 : at + 4]), at + 4
        elif length == 127:
            length, body = int.from_bytes(stream[at + 2 : at + 10]), at + 10
        if body + length > len(stream):
            break
        event = json.loads(stream[body : body + length])
        sent, _, text = event["message"].partition(" ")
        found.append(Frame(event["seq"], int(sent), text == _LAST, body + length))
        at = body + length
    return found


class Audience:
    """All clients get the same bytes: each is compared with the longest so far. (To parse every frame of every client would cost more
    than to serve it.)"""

    def __init__(self, port: int, clients: int, stalled: int) -> None:
        self.stream = bytearray()
        self.clients = []
        self._selector = selectors.DefaultSelector()
        for number in range(clients + stalled):
            connection, rest = connect(port)
            client = Client(connection, reads=number < clients)
            self.clients.append(client)
            if client.reads:
                self._take(client, rest)
                connection.settimeout(0)
                self._selector.register(connection, selectors.EVENT_READ, client)

    def watch(self, silence: float) -> None:
        """Until every client that reads has the last event, or nothing comes for so many seconds."""
        mark = f" {_LAST}".encode()
        readers = [client for client in self.clients if client.reads]
        while True:
            ready = self._selector.select(silence)
            if not ready:
                raise SystemExit(f"nothing came for {silence} s; {min(c.length for c in readers)} of {len(self.stream)} bytes everywhere")
            now = time.time_ns()
            for key, _ in ready:
                piece = key.data.socket.recv(1 << 20)
                if not piece:
                    raise SystemExit("a client was disconnected")
                self._take(key.data, piece, now)
            if mark in self.stream[-400:] and all(client.length == len(self.stream) for client in readers):
                return

    def _take(self, client: Client, piece: bytes, now: int = 0) -> None:
        known = len(self.stream) - client.length
        if self.stream[client.length : client.length + len(piece)] != piece[: max(0, known)]:
            raise SystemExit("a client got other bytes than the others")
        self.stream += piece[max(0, known) :]
        client.length += len(piece)
        client.arrivals.append((client.length, now))


def report(audience: Audience) -> dict[str, Any]:
    """Delays in ms over all clients that read, and whether the events follow one another."""
    events = frames(bytes(audience.stream))
    seqs = [event.seq for event in events]
    delays = []
    for client in audience.clients:
        if not client.reads:
            continue
        arrivals = iter(client.arrivals)
        length, moment = next(arrivals)
        for event in events:
            while length < event.end:
                length, moment = next(arrivals)
            delays.append((moment - event.sent) / 1e6)
    delays.sort()
    return {
        "events": len(events),
        "in_order": all(after > before for before, after in itertools.pairwise(seqs)),
        "median": delays[len(delays) // 2],
        "p99": delays[int(len(delays) * 0.99)],
        "most": delays[-1],
    }


def watch(port: int, clients: int, stalled: int) -> None:
    audience = Audience(port, clients, stalled)
    print("connected", flush=True)
    audience.watch(30)
    print(json.dumps(report(audience)), flush=True)


@dataclass(frozen=True)
class Load:
    clients: int
    rate: int  # events a second
    seconds: int
    each: int  # events a transaction


# --- the writer ---------------------------------------------------------------------------------------------------


def write(rate: int, seconds: float, each: int) -> None:
    """`rate` entries a second, `each` a transaction; then the last."""
    append = _appender()
    start, written = time.monotonic(), 0
    while written < rate * seconds:
        time.sleep(max(0.0, start + written / rate - time.monotonic()))
        append(_PAYLOAD, each)
        written += each
    took = time.monotonic() - start
    append(_LAST, 1)
    print(json.dumps({"written": written, "rate": written / took}))


def _appender() -> Callable[[str, int], None]:
    """Writes so many entries in one transaction, as the log does, without waiting for Django to start."""
    url = os.environ.get("DATABASE_URL", "")
    if url:
        postgres = psycopg.connect(url, autocommit=True)
        run = postgres.execute("SELECT id FROM runs_run LIMIT 1").fetchone()
    else:
        sqlite = sqlite3.connect(Path(os.environ["BROKOLI_HOME"]) / "brokoli.sqlite3", timeout=20, isolation_level=None)
        sqlite.execute("PRAGMA synchronous=FULL")
        run = sqlite.execute("SELECT id FROM runs_run LIMIT 1").fetchone()
    assert run is not None

    def append(text: str, count: int) -> None:
        rows = [(run[0], "", "log", "info", f"{time.time_ns()} {text}", dt.datetime.now(dt.UTC)) for _ in range(count)]
        columns = "INSERT INTO runs_logentry (run_id, node_id, kind, level, message, timestamp) VALUES "
        values = [value for row in rows for value in row]
        if url:
            postgres.execute((columns + ", ".join(["(%s, %s, %s, %s, %s, %s)"] * count)).encode(), values)
        else:
            values = [value.strftime("%Y-%m-%d %H:%M:%S.%f") if isinstance(value, dt.datetime) else value for value in values]
            sqlite.execute("BEGIN IMMEDIATE")
            sqlite.execute(columns + ", ".join(["(?, ?, ?, ?, ?, ?)"] * count), values)
            sqlite.execute("COMMIT")

    return append


# --- the baseline -------------------------------------------------------------------------------------------------


def bare(port: int, rate: int, seconds: float, clients: int) -> None:
    asyncio.run(_broadcast(port, rate, seconds, clients))


async def _broadcast(port: int, rate: int, seconds: float, clients: int) -> None:
    audience: set[ServerConnection] = set()
    full = asyncio.Event()

    async def welcome(connection: ServerConnection) -> None:
        audience.add(connection)
        if len(audience) == clients:
            full.set()
        await connection.wait_closed()

    def event(seq: int, text: str) -> str:
        document = {"seq": seq, "type": "log", "run_id": "0" * 36, "pipeline_id": "0" * 36, "level": "info"}
        return json.dumps(document | {"message": f"{time.time_ns()} {text}", "timestamp": "2024-01-15T06:00:00.123Z"}, separators=(",", ":"))

    async with serve(welcome, "127.0.0.1", port, compression=None, ping_interval=None):
        print("listening", flush=True)
        await full.wait()
        await asyncio.sleep(0.5)
        start, used, seq = time.monotonic(), time.process_time(), 0
        while seq < rate * seconds:
            await asyncio.sleep(max(0.0, start + seq / rate - time.monotonic()))
            for _ in range(20):
                seq += 1
                broadcast(audience, event(seq, _PAYLOAD))
        print(json.dumps({"cpu": time.process_time() - used, "rate": seq / (time.monotonic() - start)}), flush=True)
        broadcast(audience, event(seq + 1, _LAST))
        await asyncio.gather(*(connection.wait_closed() for connection in audience))


# --- the measurement ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """Of one round: delays in ms over all clients and events, and what the server took."""

    events: int
    in_order: bool
    median: float
    p99: float
    most: float
    rate: float  # events that the writer wrote, a second
    cpu: float  # seconds of the server's processor time
    memory: float  # MiB that the server has afterwards


@dataclass(frozen=True)
class Measured:
    alone: list[Round]  # one client, few events
    many: list[Round]
    stalled: list[Round]  # as many, and one more that reads nothing
    bare: list[Round]  # the baseline of `many`


def python(*arguments: object, env: Mapping[str, str], **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-m", *map(str, arguments)], env=dict(env), stdout=subprocess.PIPE, text=True, **options)


def line(process: "subprocess.Popen[str]") -> str:
    """The next line of a program. Errors: `ServerError` when there is none."""
    assert process.stdout is not None
    found = process.stdout.readline()
    if not found:
        raise ServerError(f"{process.args!r} ended with {process.wait()}")
    return found


@contextmanager
def web_server(port: int, env: Mapping[str, str]) -> Iterator[psutil.Process]:
    """The web server alone, with a run in its database; without pings, which not every client gets at the same place."""
    manage("migrate", "--verbosity", "0", env=env)
    arguments = ["--bind", "127.0.0.1", "--port", port, "--ping-interval", 3600, "--verbosity", 0, "brokoli_site.asgi:application"]
    process = python("brokoli_site.web", *arguments, env={**env, "BROKOLI_LOG_LEVEL": "WARNING"})
    try:
        api = Api(port)
        deadline = time.monotonic() + 60
        while True:
            try:
                node = {"id": "one", "type": "sql", "name": "One", "config": {"query": "SELECT 1 AS x"}}
                saved = api.post("/api/pipelines", {"name": "Bench: events", "nodes": [node], "edges": []})
                break
            except ConnectionError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        api.post(f"/api/pipelines/{saved['id']}/run")
        api.close()
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=20)


def measure_round(server: psutil.Process, port: int, env: Mapping[str, str], load: Load, stalled: int = 0) -> Round:
    watching = python("bench.events", "watch", port, load.clients, stalled, env=env)
    line(watching)
    before = server.cpu_times()
    written = json.loads(line(python("bench.events", "write", load.rate, load.seconds, load.each, env=env)))
    found = json.loads(line(watching))
    after = server.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    return Round(**found, rate=written["rate"], cpu=cpu, memory=server.memory_info().rss / 1024**2)


def measure_bare(port: int, env: Mapping[str, str], load: Load) -> Round:
    serving = python("bench.events", "broadcast", port, load.rate, load.seconds, load.clients, env=env)
    line(serving)
    watching = python("bench.events", "watch", port, load.clients, 0, env=env)
    line(watching)
    server = psutil.Process(serving.pid)
    told = json.loads(line(serving))
    found = json.loads(line(watching))
    memory = server.memory_info().rss / 1024**2
    serving.wait(timeout=20)
    return Round(**found, rate=told["rate"], cpu=told["cpu"], memory=memory)


def measure(env: Mapping[str, str], rounds: int, seconds: int) -> Measured:
    """In turn, so that a busy moment of the machine hits all. Errors: `ServerError` when an event was lost."""
    few, many = Load(1, 50, seconds, 1), Load(100, 2000, seconds, 20)
    found = Measured([], [], [], [])
    with web_server(port := free_port(), env) as server:
        if rounds > 1:
            measure_round(server, port, env, many)  # fills what the server keeps of events
        for _ in range(rounds):
            found.alone.append(measure_round(server, port, env, few))
            found.many.append(measure_round(server, port, env, many))
            found.stalled.append(measure_round(server, port, env, many, stalled=1))
            found.bare.append(measure_bare(free_port(), env, many))
    for load, one in [*((few, one) for one in found.alone), *((many, one) for one in found.many + found.stalled)]:
        if one.events != load.rate * load.seconds + 1 or not one.in_order:
            raise ServerError(f"{load.rate * load.seconds + 1} events were written, {one.events} came, in order: {one.in_order}")
    return found


if __name__ == "__main__":
    word, *numbers = sys.argv[1:]
    commands: dict[str, Callable[..., None]] = {"write": write, "watch": watch, "broadcast": bare}
    commands[word](*(int(number) for number in numbers))
