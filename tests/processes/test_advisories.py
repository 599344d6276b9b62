"""`make audit` with the real pip-audit and a service of the test's: what is known, what is not, and what nobody could be asked."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.advisories import CLEAN, FOUND, LENIENT, UNKNOWN, read
from tests.programs import ROOT, free_port

pytestmark = [pytest.mark.any_database]

ADVISORY = {
    "id": "PYSEC-1",
    "summary": "It falls over.",
    "aliases": [],
    "affected": [
        {"package": {"name": "frail", "ecosystem": "PyPI"}, "versions": ["1.0"], "ranges": [{"type": "ECOSYSTEM", "events": [{"fixed": "1.1"}]}]}
    ],
}


class Service(http.server.BaseHTTPRequestHandler):
    """Answers as OSV does: it knows a flaw of `frail`."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = {"vulns": [ADVISORY]} if asked["package"]["name"] == "frail" else {}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def installed(folder: Path, *names: str) -> Path:
    for name in names:
        metadata = folder / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    return folder


def audit(service: str, path: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.advisories", "-s", "osv", "--osv-url", service, "--path", str(path), *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert not ended.stderr
    return ended.returncode, ended.stdout


@pytest.mark.slow
def test_what_the_service_says(service: str, tmp_path: Path) -> None:
    status, said = audit(service, installed(tmp_path, "sound"))
    assert (status, said) == (CLEAN, "1 packages audited, no known vulnerability; 0 not audited.\n")

    for arguments in ((), (LENIENT,)):
        status, said = audit(service, tmp_path if arguments else installed(tmp_path, "frail"), *arguments)
        assert status == FOUND
        assert "VULNERABLE: frail 1.0: PYSEC-1, mended in 1.1" in said


@pytest.mark.slow
def test_a_service_that_is_not_reached_is_never_called_clean(tmp_path: Path) -> None:
    nobody, path = f"http://127.0.0.1:{free_port()}", installed(tmp_path, "sound")
    status, said = audit(nobody, path)
    assert status == UNKNOWN
    assert "NOTHING WAS AUDITED" in said
    assert audit(nobody, path, LENIENT) == (CLEAN, said)


def test_packages_that_the_service_does_not_know_are_named() -> None:
    skipped = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited: ours (1.0)"}
    sound, frail = ({"name": name, "version": "1.0", "vulns": flaws} for name, flaws in (("sound", []), ("frail", [{"id": "X", "fix_versions": []}])))

    none, some, found = (read(json.dumps({"dependencies": given}), "") for given in ([skipped], [skipped, sound], [skipped, frail]))
    assert (none.status, some.status, found.status) == (UNKNOWN, UNKNOWN, FOUND)
    assert none.lines()[-1].startswith("NOTHING WAS AUDITED")
    assert some.lines() == ["Not audited, unknown to the service: ours.", "1 packages audited, no known vulnerability; 1 not audited."]
    assert found.lines()[0] == "VULNERABLE: frail 1.0: X, mended in no version yet"


@pytest.mark.parametrize("report", ["", "{}", "[]", "null", "Traceback"])
def test_a_pip_audit_that_breaks_is_not_called_clean(report: str) -> None:
    verdict = read(report, "a warning\nConnectionError: no route\n")

    assert verdict.status == UNKNOWN
    assert verdict.lines()[0] == "pip-audit could not finish: ConnectionError: no route"
