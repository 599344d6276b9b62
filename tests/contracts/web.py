"""The server that the cases of the HTTP nodes talk to: one a test process, started with the first case that needs it.

Configs name it by `${env.BROKOLI_VAR_WEB}`, so that they can be written down before it has a port.
"""

import atexit
import functools
import json
import os
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.receivers import Reaction, Receiver
from tests.web_api import Params, Route, api, body, cursor, numbered, offset, send, stall

VARIABLE = "BROKOLI_VAR_WEB"
URL = f"${{env.{VARIABLE}}}"

served: dict[str, Path] = {}  # files by path
stored: list[bytes] = []  # the bodies that were posted to /store
_lock = threading.Lock()
_keeping = ExitStack()
# Later Python would end the block itself, and wait for ever for a thread that runs no more.
atexit.register(_keeping.close)


def _file(handler: BaseHTTPRequestHandler, params: Params) -> None:
    content = served[params["name"]].read_bytes()
    send(handler, content, "application/x-ndjson")


def _store(handler: BaseHTTPRequestHandler, params: Params) -> None:
    from_ = server().received[-1]
    with _lock:
        stored.append(from_.body)
    send(handler, {"ok": True})


def _status(handler: BaseHTTPRequestHandler, params: Params) -> None:
    send(handler, {"error": "as asked"}, status=int(params["code"]))


ROUTES: Mapping[str, Route | Reaction] = {
    "/file": _file,
    "/store": _store,
    "/status": _status,
    "/ok": body(b"{}"),
    "/records": body(json.dumps({"data": {"items": [{"id": 1, "name": "Zoë"}, {"id": 2, "name": None}]}}).encode()),
    "/empty": body(b"[]"),
    "/rows": body(b"id;day\n1;2024-01-15\n", "text/csv"),
    "/html": body(b"<html></html>", "text/html"),
    "/offset": offset(25),
    "/numbered": numbered(3, 2),
    "/cursor": cursor(3, 2),
    "/stall": stall(),
}


@functools.cache
def server() -> Receiver:
    """It ends with the process."""
    started = _keeping.enter_context(api(ROUTES))
    os.environ[VARIABLE] = started.url("")
    return started
