"""Files of a web server, below the connection's address: to read only."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import quote

from django.conf import settings

from brokoli_site.common.errors import BrokoliError, NodeError, TransientNodeError
from brokoli_site.common.outbound import MOST_REDIRECTS, Client, Limits
from pipelines.connection_types import base_url
from pipelines.nodes.base import Stop
from pipelines.remote_files.folder import MAGIC, RemoteFile, missing, parts_of
from pipelines.vault import ConnectionDetails
from pipelines.web import credentials

_SECONDS, _IDLE_SECONDS = 3600.0, 60.0


class WebFolder:
    """Implements `folder.RemoteFolder`, but for writing."""

    def __init__(self, client: Client, details: ConnectionDetails) -> None:
        self._client = client
        self._base = base_url(details.host, details.port, details.schema)
        self._headers = {**credentials.of(details), "Accept-Encoding": "identity"}

    @classmethod
    @contextmanager
    def opened(cls, details: ConnectionDetails, stop: Stop) -> Iterator[Self]:
        left = _SECONDS if stop.deadline is None else max(0.1, stop.deadline - time.monotonic())
        with Client(Limits(left, MOST_REDIRECTS, settings.ALLOWED_NETWORKS, _IDLE_SECONDS)) as client:
            stop.on_stop(client.break_off)
            try:
                yield cls(client, details)
            except BrokoliError:
                stop.check()  # it broke off because it was told to
                raise

    def find(self, path: str) -> Sequence[RemoteFile]:
        parts = parts_of(path)
        if MAGIC.search(path):
            raise NodeError(f"'{path}' is a pattern, and a web server does not list its files. Name one file, or use source_api.")
        return [RemoteFile("/".join(parts))]

    def fetch(self, file: RemoteFile, target: BinaryIO, most_bytes: int, check: Callable[[], None]) -> None:
        with self._client.opened("GET", f"{self._base}/{quote(file.path)}", headers=self._headers) as answer:
            if answer.status in (404, 410):
                raise missing(file.path)
            if answer.status != 200:
                kind = TransientNodeError if answer.status in (408, 429) or answer.status >= 500 else NodeError
                raise kind(f"'{file.path}': the server answers {answer.status}.")
            for chunk in answer.chunks(most_bytes):
                check()
                target.write(chunk)

    def store(self, source: Path, path: str, check: Callable[[], None]) -> None:
        raise NodeError("Files of a web server can be read only; use sink_api.")
