"""SFTP servers: logged in to, and the base path looked at."""

import stat
import time

from brokoli_site.common.errors import NodeError
from pipelines import file_servers
from pipelines.probes.found import Found
from pipelines.vault import ConnectionDetails


def probe(details: ConnectionDetails, deadline: float) -> Found:
    """Errors: those of `file_servers.opened`; `NodeError` when the base path is no folder."""
    path = details.schema or "."
    with file_servers.opened(details, max(0.1, deadline - time.monotonic())) as client:
        try:
            mode = client.stat(path).st_mode or 0
        except OSError as error:
            raise NodeError(f"Logged in, but the base path '{path}' is not there, or may not be looked at.") from error
        if not stat.S_ISDIR(mode):
            raise NodeError(f"Logged in, but the base path '{path}' is no folder.")
        channel = client.get_channel()
        version = channel.get_transport().remote_version if channel else ""
    return Found(f"Logged in; the folder '{path}' is there.", version)
