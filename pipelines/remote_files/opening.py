"""Opens the files of a connection for a node."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from pipelines.nodes.base import NodeContext, Stop
from pipelines.remote_files.folder import RemoteFolder
from pipelines.remote_files.s3 import Bucket
from pipelines.remote_files.sftp import SftpFolder
from pipelines.remote_files.web import WebFolder
from pipelines.vault import ConnectionDetails

READABLE = ("http", "s3", "sftp")
WRITABLE = ("s3", "sftp")

_OPENED: Mapping[str, Callable[[ConnectionDetails, Stop], AbstractContextManager[RemoteFolder]]] = {
    "s3": Bucket.opened,
    "sftp": SftpFolder.opened,
    "http": WebFolder.opened,
}


@contextmanager
def opened(context: NodeContext, conn_id: str, use: Literal["read", "write"]) -> Iterator[RemoteFolder]:
    """The folder of that connection while the block lasts. Errors: those of the vault; `NodeError` when it cannot be reached."""
    details = context.run.vault.connection(conn_id, accepted=READABLE if use == "read" else WRITABLE)
    with _OPENED[details.type](details, context.stop) as folder:
        yield folder
