"""Brokoli on this machine as a child process, and its API: what the demo and the benchmarks share. Standard library only."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
# Longer than a worker is given to finish its nodes when it is told to stop (BROKOLI_DRAIN_SECONDS).
_STOP_SECONDS = 40.0


class ServerError(Exception):
    """The server does not do what it should; the message says what, for people."""


def manage(*arguments: str, env: Mapping[str, str] | None = None) -> None:
    """Run `manage.py COMMAND` to its end. Errors: `ServerError` with what it printed."""
    ended = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=dict(env or os.environ),
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if ended.returncode != 0:
        raise ServerError(f"`manage.py {' '.join(arguments)}` failed:\n{ended.stdout}")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Api:
    """The REST API over one connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("localhost", port, timeout=60)

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: object | None = None) -> Any:
        """What the server answers, as JSON gives it. Errors: `ServerError` for a status of 400 or more, `OSError` without an answer."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next call connects anew
            raise ConnectionError(f"{method} {path}: no answer ({error})") from error
        if response.status >= 400:
            raise ServerError(f"{method} {path} answered {response.status}: {text.decode(errors='replace')[:2000]}")
        return json.loads(text) if text else None

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def post(self, path: str, body: object | None = None) -> Any:
        return self.call("POST", path, {} if body is None else body)


class LocalServer:
    """`manage.py serve` in the background, as a context manager: ready inside the block, gone after it in every case."""

    def __init__(self, port: int, log: Path, env: Mapping[str, str] | None = None, workers: int = 1) -> None:
        self.port = port
        self.url = f"http://localhost:{port}"
        self.log = log
        self._env = dict(env or os.environ)
        self._workers = workers
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            # In a session of its own, so that Ctrl-C reaches us first and the server is told once, in order.
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--port", str(self.port), "--workers", str(self._workers)],
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    def _wait_until_ready(self, seconds: float = 60.0) -> None:
        api = Api(self.port)
        deadline = time.monotonic() + seconds
        while True:
            try:
                api.get("/api/pipelines")
            except ConnectionError:
                if not self.alive or time.monotonic() > deadline:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise ServerError(f"The server did not start on port {self.port}. It said:\n{tail}") from None
                time.sleep(0.05)
            else:
                api.close()
                return

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait(self) -> None:
        """Until the server ends by itself."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """Tell it to end, and see that it and its children have."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=10)
