"""Files behind connections, read and written for real: an SFTP server, an S3 store and a web server on loopback."""

import datetime as dt
import gzip
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests_aws4auth import AWS4Auth

from brokoli_site.common.addresses import Allowed
from brokoli_site.common.errors import NodeCancelled, NodeError, TransientNodeError
from pipelines.nodes import remote
from pipelines.nodes.base import Stop
from pipelines.remote_files import s3
from pipelines.vault import Vault
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop
from tests.file_servers import Sftp, Store, s3_store, sftp_server, vault_of
from tests.patience import within

ROWS = "SELECT i AS id, 'name ' || i AS name FROM range(3) t(i)"
CSV = b"id,name\n0,name 0\n1,name 1\n2,name 2\n"
READ = [(0, "name 0"), (1, "name 1"), (2, "name 2")]


@pytest.fixture
def workshop(workshop: Workshop, settings: Any) -> Workshop:
    settings.ALLOWED_NETWORKS = Allowed.read("127.0.0.0/8")
    return workshop


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[Sftp]:
    (tmp_path / "sftp").mkdir()
    with sftp_server(tmp_path / "sftp") as server:
        yield server


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with s3_store() as made:
        yield made


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server over a folder, which wants a token."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self) -> None:
            if self.headers.get("Authorization") != "Bearer web-canary-token":
                self.send_error(401)
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/base", folder
    server.shutdown()
    server.server_close()
    thread.join()


def read(path: str, vault: Vault, **config: Any) -> Given:
    return Given({"path": path, "conn_id": "files", **config}, vault=vault)


def write(path: str, vault: Vault, **config: Any) -> Given:
    return Given({"path": path, "conn_id": "files", **config}, [ROWS], vault=vault)


# --- both ways ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out/day 1/a.csv", "ä.csv.gz", "a.parquet", "a.jsonl", "a.xlsx"])
@pytest.mark.parametrize("kind", ["sftp", "s3"])
def test_what_is_written_behind_a_connection_is_read_from_there(workshop: Workshop, sftp: Sftp, store: Store, kind: str, name: str) -> None:
    vault = sftp.vault() if kind == "sftp" else store.vault(schema="flights/below here")
    outcome = workshop.run("sink_file", write(name, vault))
    assert outcome.result.row_count == 3
    assert workshop.run("source_file", read(f"/{name}", vault)).rows == READ
    assert workshop.files() == {}, "something was written into the data folders"
    if kind == "sftp":
        assert [path.name for path in sftp.folder.rglob("*") if path.is_file()] == [Path(name).name]
    else:
        assert f"below here/{name}" in store.listed()


@pytest.mark.parametrize("kind", ["sftp", "s3"])
def test_a_pattern_reads_all_that_it_means(workshop: Workshop, sftp: Sftp, store: Store, kind: str) -> None:
    names = ["in/2024/a.csv", "in/2024/b.csv", "in/2025/c.csv", "in/.hidden/d.csv", "in/2024/e.txt"]
    for number, name in enumerate(names):
        content = f"id\n{number}\n".encode()
        (sftp.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (sftp.folder / name).write_bytes(content)
        store.put(f"globs/{name}", content)
    vault = sftp.vault() if kind == "sftp" else store.vault(schema="flights/globs")
    assert workshop.run("source_file", read("in/*/*.csv", vault)).rows == [(0,), (1,), (2,)]
    assert workshop.run("source_file", read("in/**/[ac].csv", vault)).rows == [(0,), (2,)]
    with pytest.raises(NodeError, match=r"No file matches 'in/\*\.csv'\."):
        workshop.run("source_file", read("in/*.csv", vault))
    with pytest.raises(NodeError, match=r"There is no file 'in/none\.csv'\."):
        workshop.run("source_file", read("in/none.csv", vault))


def test_a_web_server_is_read(workshop: Workshop, web: tuple[str, Path]) -> None:
    address, folder = web
    (folder / "base").mkdir()
    (folder / "base" / "a b.csv.gz").write_bytes(gzip.compress(CSV))
    vault = vault_of("http", host=address, extra={"token": "web-canary-token"})
    assert workshop.run("source_file", read("a b.csv.gz", vault)).rows == READ
    for path, words in {"no.csv": "There is no file 'no.csv'", "*.csv": "a web server does not list its files"}.items():
        with pytest.raises(NodeError, match=words.replace("*", r"\*")):
            workshop.run("source_file", read(path, vault))
    with pytest.raises(NodeError, match=r"'a b\.csv\.gz': the server answers 401"):
        workshop.run("source_file", read("a b.csv.gz", vault_of("http", host=address, extra={"token": "wrong-canary"})))
    with pytest.raises(NodeError, match="is of type 'http'; this node takes s3, sftp"):
        workshop.run("sink_file", write("a.csv", vault))


def test_a_dry_run_reads_and_asks_nothing_of_a_sink(workshop: Workshop, sftp: Sftp) -> None:
    (sftp.folder / "a.csv").write_bytes(CSV)
    assert [tuple(row.values()) for row in workshop.dry_run("source_file", read("a.csv", sftp.vault()))["rows"]] == READ
    sftp.asked.clear()
    assert workshop.dry_run("sink_file", write("b.csv", sftp.vault()))["would_write"]["target"] == "b.csv (files)"
    assert sftp.asked == []
    assert [path.name for path in sftp.folder.iterdir()] == ["a.csv"]


# --- whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("posix_rename", [True, False], ids=["replaced at once", "a server that only renames"])
def test_an_sftp_file_is_replaced_by_a_rename(workshop: Workshop, sftp: Sftp, posix_rename: bool) -> None:
    sftp.posix_rename = posix_rename
    (sftp.folder / "a.csv").write_text("old")
    workshop.run("sink_file", write("a.csv", sftp.vault()))
    assert {path.name: path.read_bytes() for path in sftp.folder.iterdir()} == {"a.csv": CSV}
    (draft,) = [one for one in sftp.asked if one.startswith("open")]
    assert draft.endswith(".part")


def test_an_sftp_server_that_fails_half_way_keeps_the_old_file(workshop: Workshop, sftp: Sftp) -> None:
    sftp.fail_after = 1_000_000
    (sftp.folder / "a.csv").write_text("old")
    given = Given({"path": "a.csv", "conn_id": "files"}, ["SELECT i, md5(i::VARCHAR) AS m FROM range(100_000) t(i)"], vault=sftp.vault())
    with pytest.raises(TransientNodeError, match=r"127\.0\.0\.1 refused 'a\.csv'"):
        workshop.run("sink_file", given)
    assert {path.name: path.read_text() for path in sftp.folder.iterdir()} == {"a.csv": "old"}


@pytest.mark.parametrize("rows", [10, 900_000], ids=["one request", "in parts"])
def test_an_s3_file_is_seen_whole_or_not_at_all(workshop: Workshop, store: Store, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("half.csv", b"old")
    sql = f"SELECT i AS id, md5(i::VARCHAR) AS m FROM range({rows}) t(i)"
    given = Given({"path": "half.csv", "conn_id": "files"}, [sql], vault=store.vault())
    done = s3.Bucket._done

    def failing(self: s3.Bucket, method: str, key: str, query: Any, shown: str, body: bytes | None = None) -> Any:
        if method == "PUT" and query.get("partNumber") in (None, "2"):
            raise TransientNodeError("broken off")
        return done(self, method, key, query, shown, body)

    with monkeypatch.context() as patched:
        patched.setattr(s3.Bucket, "_done", failing)
        with pytest.raises(TransientNodeError, match="broken off"):
            workshop.run("sink_file", given)
    assert store.get("half.csv") == b"old"
    assert "Uploads" not in store.boto.list_multipart_uploads(Bucket=store.bucket)
    workshop.run("sink_file", given)
    assert store.get("half.csv").count(b"\n") == rows + 1


def test_a_node_that_lost_its_run_shows_nothing(workshop: Workshop, sftp: Sftp) -> None:
    stop = Stop(lease_is_held=lambda: not any(one.endswith(".part") for one in sftp.asked))
    with pytest.raises(NodeCancelled):
        workshop.run("sink_file", write("a.csv", sftp.vault()), stop=stop)
    assert list(sftp.folder.iterdir()) == []


# --- guards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../a.csv", "in/../../a.csv", "a\0.csv", "in/"])
@pytest.mark.parametrize("kind", ["sftp", "s3"])
def test_no_path_leads_out_of_the_base(workshop: Workshop, sftp: Sftp, store: Store, kind: str, path: str) -> None:
    vault = sftp.vault() if kind == "sftp" else store.vault()
    with pytest.raises(NodeError):
        workshop.run("source_file", read(path, vault, format="csv"))
    with pytest.raises(NodeError):
        workshop.run("sink_file", write(path, vault, format="csv"))


@pytest.mark.parametrize("kind", ["sftp", "s3", "http"])
def test_a_private_address_is_not_reached_unless_it_is_allowed(workshop: Workshop, sftp: Sftp, store: Store, kind: str, settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed()
    vault = {"sftp": sftp.vault(), "s3": store.vault(), "http": vault_of("http", host=store.endpoint)}[kind]
    with pytest.raises(NodeError, match="BROKOLI_ALLOWED_NETWORKS"):
        workshop.run("source_file", read("a.csv", vault))
    assert sftp.asked == []


def test_an_sftp_server_with_another_key_is_not_talked_to(workshop: Workshop, sftp: Sftp) -> None:
    other = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTY="
    with pytest.raises(NodeError, match="another key"):
        workshop.run("source_file", read("a.csv", sftp.vault(extra={"host_key": other})))
    with pytest.raises(NodeError, match="is not known"):
        workshop.run("source_file", read("a.csv", sftp.vault(extra={"host_key": ""})))


@pytest.mark.parametrize("kind", ["sftp", "s3"])
def test_a_file_is_fetched_up_to_a_limit(workshop: Workshop, sftp: Sftp, store: Store, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 1000)
    (sftp.folder / "large.csv").write_bytes(b"0\n" * 1000)
    store.put("large.csv", b"0\n" * 1000)
    with pytest.raises(NodeError, match=r"larger than|longer than"):
        workshop.run("source_file", read("large.csv", sftp.vault() if kind == "sftp" else store.vault()))


def test_secrets_are_in_no_sentence(workshop: Workshop, sftp: Sftp, store: Store) -> None:
    for vault in (sftp.vault(password="wrong-canary"), store.vault(schema="nowhere")):
        with pytest.raises(NodeError) as caught:
            workshop.run("source_file", read("a.csv", vault))
        assert "canary" not in caught.value.message


def test_a_cancelled_node_breaks_off(workshop: Workshop, sftp: Sftp) -> None:
    (sftp.folder / "a.csv").write_bytes(b"0,1,2,3\n" * 4_000_000)
    given, stop = read("a.csv", sftp.vault()), Stop()
    with workshop.running("source_file", given, stop) as running:
        while not any(one.endswith("a.csv") for one in sftp.asked) and running.thread.is_alive():
            running.thread.join(0.01)
        asked = time.monotonic()
        stop.stop(NodeCancelled("The run was cancelled."))
        running.thread.join(within(5))
        assert time.monotonic() - asked < within(1)
    assert [type(error) for error in running.errors] == [NodeCancelled]


@pytest.mark.parametrize("key", ["a.csv", "in/day 1/ä+b=c&d.csv", "%41/~x_-.csv"])
@pytest.mark.parametrize("query", ["", "?list-type=2&prefix=a%20b%2F&continuation-token=1%2B2%3D"])
def test_requests_are_signed_as_the_vendor_signs_them(key: str, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://store.example.org/flights/" + quote(key, safe="/~") + query
    ours = AWS4Auth("AKIAEXAMPLE", "secret", "eu-west-1", "s3")(requests.Request("PUT", address, data=b"body").prepare())
    theirs = AWSRequest("PUT", address, data=b"body", headers={"x-amz-content-sha256": ours.headers["x-amz-content-sha256"]})
    moment = dt.datetime.strptime(ours.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: moment)
    S3SigV4Auth(Credentials("AKIAEXAMPLE", "secret"), "s3", "eu-west-1").add_auth(theirs)
    assert ours.headers["Authorization"].rpartition("Signature=")[2] == theirs.headers["Authorization"].rpartition("Signature=")[2]
