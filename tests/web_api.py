"""A small API on loopback: pages of every kind, answers of every format, and faults. Its state is what it received."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

from tests.receivers import Reaction, Receiver, answer, receiver

Params = dict[str, str]
Route = Callable[[BaseHTTPRequestHandler, Params], None]


def record(number: int) -> dict[str, object]:
    return {"id": number, "name": f"name {number}", "amount": number / 2}


def send(handler: BaseHTTPRequestHandler, body: bytes | object, media_type: str = "application/json", *, status: int = 200, **headers: str) -> None:
    """Answer with bytes, or with anything else as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer(status, content, Content_Type=media_type, **headers)(handler)


def offset(total: int, flag: bool = False, cap: int = 10**9) -> Route:
    """`?offset=&limit=`, the records at `results`."""

    def react(handler: BaseHTTPRequestHandler, params: Params) -> None:
        start, size = int(params["offset"]), min(int(params["limit"]), cap)
        found = [record(number) for number in range(start, min(start + size, total))]
        send(handler, {"total": total, "results": found, **({"end": start + size >= total} if flag else {})})

    return react


def numbered(pages: int, size: int, first: int = 1) -> Route:
    def react(handler: BaseHTTPRequestHandler, params: Params) -> None:
        page = int(params["page"]) - first
        found = [record(page * size + number) for number in range(size)] if page < pages else []
        send(handler, {"meta": {"pages": pages}, "data": {"items": found}})

    return react


def cursor(pages: int, size: int) -> Route:
    """The last page's cursor is null."""

    def react(handler: BaseHTTPRequestHandler, params: Params) -> None:
        page = int(params.get("after", "0"))
        found = [record(page * size + number) for number in range(size)]
        send(handler, {"items": found, "next": {"after": page + 1 if page + 1 < pages else None}})

    return react


@contextmanager
def api(routes: Mapping[str, Route | Reaction]) -> Iterator[Receiver]:
    """A server with these routes by path; any other is 404. A route takes the handler, or the handler and its params."""

    def react(handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        route = routes.get(parts.path)
        if route is None:
            send(handler, {"error": f"no {handler.path}"}, status=404)
            return
        params = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if route.__code__.co_argcount == 2:
            route(handler, params)  # type: ignore[call-arg]
        else:
            route(handler)  # type: ignore[call-arg]

    with receiver(react) as server:
        yield server


def body(content: bytes, media_type: str = "application/json", **headers: str) -> Route:
    def react(handler: BaseHTTPRequestHandler, params: Params) -> None:
        answer(200, content, Content_Type=media_type, **headers)(handler)

    return react


def gzipped(content: bytes, media_type: str = "application/json") -> Route:
    """Compressed as HTTP does it."""
    return body(gzip.compress(content), media_type, Content_Encoding="gzip")


def stall(seconds: float = 30) -> Reaction:
    """Says nothing until the client is gone."""
    ended = threading.Event()

    def react(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.settimeout(seconds)
        while not ended.is_set() and handler.connection.recv(1):
            pass
        handler.close_connection = True

    return react


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Records for ever."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/x-ndjson")
    handler.end_headers()
    while True:
        handler.wfile.write(b'{"id": 1}\n' * 1000)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A byte every 20 ms."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    for _ in range(1500):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def failing_first(times: int, then: Route, status: int = 500, **headers: str) -> Route:
    """An error so many times for each address, and then the answer."""
    seen: dict[str, int] = {}
    lock = threading.Lock()

    def react(handler: BaseHTTPRequestHandler, params: Params) -> None:
        with lock:
            seen[handler.path] = seen.get(handler.path, 0) + 1
            fails = seen[handler.path] <= times
        if fails:
            send(handler, {"error": "busy"}, status=status, **headers)
        else:
            then(handler, params)

    return react
