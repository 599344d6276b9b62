"""Files of a web server, below the connection's address: to read only."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import quote

from brokoli_site.common.errors import NodeError, TransientNodeError
from brokoli_site.common.outbound import MOST_REDIRECTS, Client
from pipelines.connection_types import base_url
from pipelines.nodes.base import Stop
from pipelines.remote_files.connecting import connected
from pipelines.remote_files.folder import MAGIC, RemoteFile, missing, parts_of
from pipelines.vault import ConnectionDetails
from pipelines.web import credentials


class WebFolder:
    """Implements `folder.RemoteFolder`, but for writing."""

    def __init__(self, client: Client, details: ConnectionDetails) -> None:
        self._client = client
        self._base = base_url(details.host, details.port, details.schema)
        self._headers = {**credentials.of(details), "Accept-Encoding": "identity"}

    @classmethod
    @contextmanager
    def opened(cls, details: ConnectionDetails, stop: Stop) -> Iterator[Self]:
        with connected(stop, MOST_REDIRECTS) as client:
            yield cls(client, details)

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
