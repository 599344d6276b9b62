"""File servers and stores of secrets as attackers make them, or as they break: listings without end, patterns that stall, other hosts."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import EntryPoint
from typing import Any

import paramiko
import pytest
from django.conf import settings as django_settings

from brokoli_site.common.errors import NodeError
from pipelines import connection_types, secret_stores
from pipelines.connection_types import Values, region_of
from pipelines.remote_files import s3, sftp
from pipelines.remote_files.folder import matches
from pipelines.vault import ConnectionDetails, StoredConnection, Vault
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop

pytestmark = pytest.mark.any_database


# --- listings -------------------------------------------------------------------------------------------------------


def test_a_pattern_of_many_folders_is_matched_quickly() -> None:
    names, pattern = ["a"] * 500, ["**", "a"] * 100 + ["b"]
    started = time.process_time()
    assert not matches(names, pattern)
    assert time.process_time() - started < 2
    assert matches(["x", "y", "z.csv"], ["**", "*.csv"]) and matches(["z.csv"], ["**"]) and not matches([], ["**"])
    assert matches(["x", "y"], ["**", "**", "y"]) and not matches(["x", "y"], ["x"]) and not matches(["x"], ["x", "**"])


class _EmptyPages(BaseHTTPRequestHandler):
    """A store whose listing always goes on, and never names anything."""

    asked = itertools.count(1)

    def do_GET(self) -> None:
        body = f"<R><IsTruncated>true</IsTruncated><NextContinuationToken>{next(self.asked)}</NextContinuationToken></R>".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_listing_of_empty_pages_ends(workshop: Workshop, loopback_allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_MOST_PAGES", 20)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _EmptyPages)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        stored = StoredConnection("files", "s3", host=f"http://127.0.0.1:{server.server_port}", schema="bucket")
        given = Given({"path": "*.csv", "conn_id": "files"}, vault=Vault(connections={"files": stored}))
        with pytest.raises(NodeError, match="narrow the pattern"):
            workshop.run("source_file", given)
        assert next(_EmptyPages.asked) == 21
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _EndlessClient:
    def listdir_iter(self, path: str) -> Iterator[paramiko.SFTPAttributes]:
        for number in itertools.count():
            found = paramiko.SFTPAttributes()
            found.filename, found.st_mode = f"{number}.txt", 0o100644
            yield found


def test_a_folder_whose_listing_has_no_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sftp, "MOST_ENTRIES", 1000)
    with pytest.raises(NodeError, match="narrow the pattern"):
        sftp.SftpFolder(_EndlessClient(), "files.example.org", ".").find("*.csv")


# --- where a store is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["evil.example.org/", "x.evil.example.org#", "a@evil.example.org", "eu-1.evil", "a\\b", "eu 1", "a" * 61])
def test_a_region_leads_to_no_other_host(region: str) -> None:
    """Its requests carry the session token."""
    extra = {"region": region, "session_token": "canary"}
    assert [pointer for pointer, _ in connection_types.faults(Values("s3", schema="bucket", extra=extra))] == ["/extra/region"]
    with pytest.raises(NodeError, match="region"):
        region_of(ConnectionDetails("files", "s3", schema="bucket", extra=extra))
    assert region_of(ConnectionDetails("files", "s3", schema="bucket")) == "us-east-1"


# --- stores of third parties ----------------------------------------------------------------------------------------


class Leaking:
    scheme = "leaking"

    def read(self, name: str) -> Any:
        if name == "number":
            return 5
        raise RuntimeError(f"could not parse 'canary-of-{name}'")


def _raises() -> None:
    raise RuntimeError("no licence")


@pytest.fixture
def third_parties(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    names = {"leaking": "Leaking", "broken": "_raises", "absent": "Absent"}
    found = [EntryPoint(name, f"{__name__}:{value}", secret_stores.ENTRY_POINT_GROUP) for name, value in names.items()]
    monkeypatch.setattr(secret_stores, "entry_points", lambda group: found)
    secret_stores._stores.cache_clear()
    yield
    secret_stores._stores.cache_clear()


@pytest.mark.usefixtures("third_parties")
def test_a_broken_store_breaks_nothing_but_its_own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKOLI_CREDENTIAL_X", "fine")
    assert secret_stores.fetch("env://BROKOLI_CREDENTIAL_X") == "fine"
    for reference in ("broken://x", "absent://x"):
        assert secret_stores.is_reference(reference)
        with pytest.raises(NodeError, match="cannot be loaded"):
            secret_stores.fetch(reference)


@pytest.mark.usefixtures("third_parties")
@pytest.mark.parametrize("name", ["x", "number"])
def test_what_a_store_raises_is_not_told(name: str) -> None:
    identity = "connection:c"
    sealed = django_settings.KEYRING.seal(json.dumps({"password": f"leaking://{name}", "extra": {}}), identity)
    vault = Vault(connections={"c": StoredConnection("c", "http", secrets=sealed, identity=identity)})
    with pytest.raises(NodeError) as caught:
        vault.connection("c")
    assert "canary" not in caught.value.message and caught.value.__cause__ is None and caught.value.__context__ is None
