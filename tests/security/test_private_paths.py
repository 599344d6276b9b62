"""A data folder around what is the server's own opens none of it: to no worker, no dry run and no try of a connection."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from brokoli_site.common.errors import NodeError
from brokoli_site.common.private_paths import private_paths
from runs.management.commands import runworker

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


@pytest.fixture
def api() -> Client:
    return Client(headers={"host": "localhost:8080"})


@pytest.fixture
def data(tmp_path: Path, settings: Any) -> Path:
    """A data folder that holds the folder of secrets, and another file."""
    secrets = tmp_path / "keys"
    secrets.mkdir()
    (secrets / "token.csv").write_text("token\ncanary\n")
    with contextlib.closing(sqlite3.connect(secrets / "token.db")) as database:
        database.execute("CREATE TABLE t (x)")
    (tmp_path / "open.csv").write_text("x\n1\n")
    settings.DATA_DIRS, settings.SECRETS_DIR = (tmp_path,), secrets
    return tmp_path


def test_a_worker_reads_no_file_of_a_secret(data: Path) -> None:
    resources = runworker._resources(1)
    try:
        folders = resources.engine.folders
        assert folders.resolve_read("open.csv") == [data / "open.csv"]
        for path in ("keys/token.csv", "keys/*.csv", "keys/new.csv"):
            with pytest.raises(NodeError):
                folders.resolve_read(path)
            with pytest.raises(NodeError):
                folders.resolve_write(path)
    finally:
        resources.pool.shutdown()
        resources.engine.close()


def test_a_dry_run_reads_no_file_of_a_secret(api: Client, data: Path) -> None:
    nodes = [{"id": name, "type": "source_file", "config": {"path": path}} for name, path in (("a", "open.csv"), ("b", "keys/token.csv"))]
    response = api.post("/api/pipelines/dry-run", {"name": "Draft", "nodes": nodes, "edges": []}, content_type="application/json")
    assert "canary" not in response.content.decode()
    assert {node_id: node["status"] for node_id, node in response.json().items()} == {"a": "success", "b": "failed"}


def test_a_try_of_a_connection_opens_no_file_of_a_secret(api: Client, data: Path) -> None:
    body = {"type": "sqlite", "host": "keys/token.db"}
    found = api.post("/api/connections/test", body, content_type="application/json").json()
    assert found["ok"] is False


def test_what_is_private(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "brokoli.sqlite3")}
    monkeypatch.setitem(settings.DATABASES, "default", database)
    expected = {settings.HOME, settings.ARTIFACTS, settings.SECRETS_DIR, tmp_path / "brokoli.sqlite3"}
    assert set(private_paths()) == expected
    monkeypatch.setitem(settings.DATABASES, "default", {"ENGINE": "django.db.backends.postgresql", "NAME": "brokoli"})
    assert set(private_paths()) == expected - {tmp_path / "brokoli.sqlite3"}
