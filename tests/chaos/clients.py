"""Clients that trigger, cancel and resume runs over HTTP, and note what they are told."""

import heapq
import itertools
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from tests.chaos import probe
from tests.chaos.mix import MIX, Ingredient

_TIMEOUT_SECONDS = 30.0
_PATIENCE_SECONDS = 90.0  # for one wish, with all its repetitions


class GaveUp(Exception):
    """A wish that was not answered for too long."""


class Clients:
    """Threads that post runs until `wanted` are accepted, never more than `most_open` at a time beyond those that ended."""

    def __init__(self, url: str, wanted: int, most_open: int, ledger: Path, chance: random.Random, threads: int = 6) -> None:
        self.accepted: dict[str, Ingredient] = {}  # by run, as told by a 202
        self.cancelled: set[str] = set()
        self.resumed: set[str] = set()  # failed runs for which another was accepted
        self.errors: Counter[str] = Counter()
        self.told_to_wait = 0  # 503 with Retry-After
        self.ended = 0  # set from outside
        self._url = url
        self._wanted = wanted
        self._most_open = most_open
        self._ledger = ledger
        self._chance = chance
        self._lock = threading.Lock()
        self._later: list[tuple[float, int, Callable[[requests.Session], None]]] = []
        self._number = itertools.count()
        self._begun = 0
        self._busy = 0
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"client {number}", daemon=True) for number in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)

    def accept_no_more(self) -> None:
        """Begin no new runs; cancels and resumes that are due still happen."""
        with self._lock:
            self._wanted = self._begun

    @property
    def done(self) -> bool:
        """Whether everything that was to be done was answered."""
        with self._lock:
            return self._begun >= self._wanted and not self._later and not self._busy

    # --- one thread ---

    def _work(self) -> None:
        with requests.Session() as session:
            while not self._stopped.is_set():
                wish = self._next()
                if wish is None:
                    time.sleep(0.02)
                    continue
                try:
                    wish(session)
                except GaveUp:
                    self._note("gave up")
                finally:
                    with self._lock:
                        self._busy -= 1

    def _next(self) -> Callable[[requests.Session], None] | None:
        with self._lock:
            if self._later and self._later[0][0] <= time.monotonic():
                self._busy += 1
                return heapq.heappop(self._later)[2]
            if self._begun < self._wanted and self._begun - self.ended < self._most_open:
                self._begun += 1
                self._busy += 1
                return self._trigger
            return None

    def _after(self, seconds: float, wish: Callable[[requests.Session], None]) -> None:
        with self._lock:
            heapq.heappush(self._later, (time.monotonic() + seconds, next(self._number), wish))

    def _trigger(self, session: requests.Session) -> None:
        with self._lock:
            ingredient = self._chance.choices(MIX, [each.weight for each in MIX])[0]
            moment, force = self._chance.uniform(0, 3), self._chance.random() < 0.5
        token = uuid.uuid4().hex
        params = {"token": token} if ingredient.kind == "mended" else {}
        run_id = str(self._call(session, f"/api/pipelines/{ingredient.name}/run", {"params": params}, {202}).json()["id"])
        with self._lock:
            self.accepted[run_id] = ingredient
        if ingredient.kind == "cancelled":
            self._after(moment, lambda session: self._cancel(session, run_id, force=force))
        elif ingredient.kind == "mended":
            self._after(0.5, lambda session: self._mend(session, run_id, token))

    def _cancel(self, session: requests.Session, run_id: str, *, force: bool) -> None:
        if self._call(session, f"/api/runs/{run_id}/cancel", {"force": force}, {200, 202, 409}).status_code != 409:
            with self._lock:
                self.cancelled.add(run_id)

    def _mend(self, session: requests.Session, run_id: str, token: str) -> None:
        if self._call(session, f"/api/runs/{run_id}", None, {200}).json()["status"] != "failed":
            self._after(0.5, lambda session: self._mend(session, run_id, token))
            return
        probe.mark(self._ledger, token).touch()
        answer = self._call(session, f"/api/runs/{run_id}/resume", {}, {202, 409})
        with self._lock:
            self.resumed.add(run_id)
            if answer.status_code == 202:
                self.accepted[str(answer.json()["id"])] = next(each for each in MIX if each.kind == "plain")

    def _call(self, session: requests.Session, path: str, body: Any, expected: set[int]) -> requests.Response:
        """The answer that counts; the same wish, with the same key, again while the server cannot say. Errors: `GaveUp`."""
        headers = {"Idempotency-Key": uuid.uuid4().hex} if path.endswith(("/run", "/resume")) else {}
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            wait = 0.5
            try:
                method = "GET" if body is None else "POST"
                answer = session.request(method, self._url + path, json=body, headers=headers, timeout=_TIMEOUT_SECONDS)
            except requests.Timeout:
                self._note("timeout")
            except requests.RequestException as error:
                self._note(f"no answer ({type(error).__name__})")
            else:
                if answer.status_code in expected:
                    return answer
                if "locked" in answer.text:
                    self._note("locked")
                if answer.status_code == 503 and "Retry-After" in answer.headers:
                    with self._lock:
                        self.told_to_wait += 1
                    wait = float(answer.headers["Retry-After"])
                else:
                    self._note(f"{answer.status_code}: {answer.text[:200]}")
                    if answer.status_code < 500:
                        raise GaveUp
            time.sleep(wait)
        raise GaveUp

    def _note(self, kind: str) -> None:
        with self._lock:
            self.errors[kind] += 1
