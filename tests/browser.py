"""A real browser for tests: Debian's chromium without a window, driven over its own debugging protocol.

Errors of a page are what the browser says of it by itself: what a Content-Security-Policy kept from running, scripts that failed, missing files.
"""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.programs import wait_for

# Without these the browser speaks to its maker, and asks for what machines of tests do not have.
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions", "--mute-audio", "--remote-debugging-port=0"),
)
_PATIENCE_SECONDS = 20


def require_chromium() -> str:
    """Where it is. Skips the test on a machine without one, but where it is required."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None and os.environ.get("BROKOLI_TESTS_REQUIRE_CHROMIUM") != "1":
        pytest.skip("chromium is not installed here (Debian's package chromium)")
    assert found
    return found


class Page:
    """One tab. `errors`: what the browser complained about since the last `open`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        self._loaded = False
        for domain in ("Page", "Log", "Runtime", "Audits", "Network"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Load a page, and wait until nothing of it is under way."""
        self._call("Page.navigate", url="about:blank")
        self.errors, self._loaded = [], False
        failed = self._call("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self._loaded:
            assert time.monotonic() < deadline, f"{url} does not load; {self.errors}"
            self._hear(1)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)["result"].get("value")

    def settle(self) -> list[str]:
        """All complaints until now: what the browser was asked last is answered after what it had to say before."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
        return self.errors

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = self._hear(_PATIENCE_SECONDS)
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result

    def _hear(self, seconds: float) -> dict[str, Any]:
        try:
            message: dict[str, Any] = json.loads(self._connection.recv(timeout=seconds))
        except TimeoutError:
            return {}
        parameters = message.get("params", {})
        match message.get("method"):
            case "Page.lifecycleEvent" | "Page.loadEventFired":
                self._loaded = self._loaded or message["method"] == "Page.loadEventFired"
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                self.errors.append(f"{parameters['entry']['text']} ({parameters['entry'].get('url', '')})")
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.errors.append(str(details.get("exception", {}).get("description", details["text"])))
            case "Audits.issueAdded" if parameters["issue"]["code"] == "ContentSecurityPolicyIssue":
                self.errors.append(f"policy: {json.dumps(parameters['issue']['details']['contentSecurityPolicyIssueDetails'])}")
        return message


@contextmanager
def browsing() -> Iterator[Page]:
    """A browser with one tab, and with a profile of its own."""
    with tempfile.TemporaryDirectory(prefix="brokoli-browser-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [require_chromium(), *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": profile},
        )
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            wait_for(lambda: port_file.exists() and len(port_file.read_text().splitlines()) == 2, what="the browser to start")
            port, address = port_file.read_text().splitlines()
            yield from _tab(int(port), address)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _tab(port: int, address: str) -> Iterator[Page]:
    with connect(f"ws://127.0.0.1:{port}{address}", max_size=None) as browser:
        browser.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        target = json.loads(browser.recv(timeout=_PATIENCE_SECONDS))["result"]["targetId"]
        with connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", max_size=None) as tab:
            yield Page(tab)
