"""Whatever a node asks, it asks through the guard: no client of ours reaches loopback, however the host is spelt, and none takes a proxy's way."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from brokoli_site.common.addresses import Allowed
from brokoli_site.common.errors import NodeError
from tests.contracts.case import Given
from tests.contracts.workshop import Workshop

pytestmark = pytest.mark.any_database

ROWS = ["SELECT 1 AS a"]
# Of a host and a port: config and inputs.
CLIENTS: dict[str, Callable[[str], tuple[dict[str, Any], list[str]]]] = {
    "source_api": lambda place: ({"url": f"http://{place}/"}, []),
    "sink_api": lambda place: ({"url": f"http://{place}/"}, ROWS),
    "notify": lambda place: ({"notify_type": "webhook", "webhook_url": f"http://{place}/"}, ROWS),
    "wait": lambda place: ({"condition": "http", "url": f"http://{place}/"}, []),
    "source_db": lambda place: ({"uri": f"postgres://ada:secret@{place}/db", "query": "SELECT 1"}, []),
    "source_db (mysql)": lambda place: ({"uri": f"mysql://ada:secret@{place}/db", "query": "SELECT 1"}, []),
    "sink_db": lambda place: ({"uri": f"postgres://ada:secret@{place}/db", "table": "t"}, ROWS),
    "sink_db (mysql)": lambda place: ({"uri": f"mysql://ada:secret@{place}/db", "table": "t"}, ROWS),
}
HOSTS = ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "0", "[::ffff:127.0.0.1]")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server on loopback that nobody may reach; it is also the proxy of the environment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        port = listener.getsockname()[1]
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        yield listener


@pytest.mark.parametrize("client", CLIENTS)
def test_no_node_reaches_what_is_not_allowed(client: str, heard: socket.socket, workshop: Workshop, settings: Any) -> None:
    settings.ALLOWED_NETWORKS = Allowed()
    for host in HOSTS:
        config, inputs = CLIENTS[client](f"{host}:{heard.getsockname()[1]}")
        with pytest.raises(NodeError, match="BROKOLI_ALLOWED_NETWORKS"):
            workshop.run(client.partition(" ")[0], Given(config, inputs))
    with pytest.raises(BlockingIOError):
        heard.accept()
