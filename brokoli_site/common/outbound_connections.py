"""Connections of `requests` that go where the guard says, and are watched by the deadline of whoever uses them."""

import socket
import threading
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection

from brokoli_site.common.addresses import Allowed, resolve
from brokoli_site.common.outbound_deadlines import Deadline

_HOSTS = 4  # whose connections are kept


class GuardedAdapter(HTTPAdapter):
    """Keeps up to so many connections a host. Thread-safe: each thread makes its requests under a deadline of its own."""

    def __init__(self, allowed: Allowed, connections: int) -> None:
        self._allowed = allowed
        self._current = threading.local()
        super().__init__(max_retries=Retry(0, read=False), pool_connections=_HOSTS, pool_maxsize=connections)

    @property
    def deadline(self) -> Deadline:
        """Of the request that this thread is making."""
        found: Deadline = self._current.deadline
        return found

    @deadline.setter
    def deadline(self, deadline: Deadline) -> None:
        self._current.deadline = deadline

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = _guarded_pools(self)

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect to the first address of the host that may be reached and that answers. Errors: those of `resolve`, `OSError`."""
        deadline = self.deadline
        failure: OSError = TimeoutError()
        for family, address in resolve(host, port, self._allowed, deadline.left, lambda: deadline.over):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                connection.settimeout(max(deadline.left, 0.001))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                deadline.watch(connection)
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
            else:
                return connection
        # Not itself: of some errors urllib3 takes for granted that they happened on a connection that stood.
        raise ConnectionError("No address of the host answers.") from failure


def _guarded_pools(adapter: GuardedAdapter) -> dict[str, type[HTTPConnectionPool]]:
    """Everything above the socket (Host, SNI, certificate) keeps the name."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return adapter.connect(self._dns_host, self.port)

        def request(self, *arguments: Any, **options: Any) -> None:
            _watch_kept(adapter, self.sock)
            super().request(*arguments, **options)
            _acknowledge_at_once(self.sock)

    class Secure(Plain, HTTPSConnection):
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


def _watch_kept(adapter: GuardedAdapter, kept: socket.socket | None) -> None:
    """A connection that an earlier request made is used again: it goes to the address that was judged then."""
    if kept is not None:
        adapter.deadline.watch(kept)


def _acknowledge_at_once(used: socket.socket | None) -> None:
    """A server that writes head and body apart waits for our acknowledgement of the head, which the system would delay by 40 ms.

    Asked for after each request, because sending ends it.
    """
    if used is not None and hasattr(socket, "TCP_QUICKACK"):
        used.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
