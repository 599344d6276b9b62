"""Tries a connection for real: reaches its server, logs in, and tells what it found in words for people.

Each try has a thread of its own, so that no caller waits longer than `SECONDS`, whatever a driver does. What is left behind ends by the
time limits of the drivers; so many may be under way at the same time, and no more.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from brokoli_site.common.errors import BrokoliError, Unavailable
from pipelines import probes
from pipelines.probes.found import Found
from pipelines.vault import ConnectionDetails, Vault

SECONDS = 10.0
AT_ONCE = 8
_LONGEST_MESSAGE = 1000
_places = threading.BoundedSemaphore(AT_ONCE)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Failed:
    message: str


def outcome(kind: str, open_it: Callable[[], ConnectionDetails], vault: Vault) -> dict[str, Any]:
    """What becomes of a try: `{ok, message, latency_ms, server}`. `vault` knows the secrets that `open_it` brings to light.

    Errors: `Unavailable` when too many others are under way.
    """
    probe = probes.probe_of(kind)  # drivers are imported before the time runs
    places = _places  # what is taken is given back, however late, to where it was taken
    if not places.acquire(blocking=False):
        raise Unavailable("Too many connections are being tested already; try again in a moment.")
    started = time.monotonic()
    answers: queue.SimpleQueue[Found | _Failed] = queue.SimpleQueue()

    def attempt() -> None:
        try:
            answers.put(_tried(lambda: probe(open_it(), started + SECONDS)))
        finally:
            places.release()

    threading.Thread(target=attempt, name="connection test", daemon=True).start()
    try:
        found = answers.get(timeout=SECONDS)
    except queue.Empty:
        found = _Failed(f"The server did not answer within {SECONDS:g} seconds.")
    return {
        "ok": isinstance(found, Found),
        "message": vault.redact(found.message)[:_LONGEST_MESSAGE],
        "latency_ms": round((time.monotonic() - started) * 1000),
        "server": vault.redact(found.server).strip()[:200] or None if isinstance(found, Found) else None,
    }


def _tried(attempt: Callable[[], Found]) -> Found | _Failed:
    try:
        return attempt()
    except BrokoliError as error:
        return _Failed(error.message)
    except Exception as error:
        # What a driver raises that nobody foresaw. Its own words may hold a secret: people and the log get its kind.
        _log.warning("connection test failed unexpectedly", kind=type(error).__name__)
        return _Failed(f"The connection could not be tested ({type(error).__name__}).")
