"""Databases: opened as nodes open them, and asked for their version."""

import threading
import time

from django.conf import settings

from brokoli_site.common.errors import NodeTimeout
from brokoli_site.common.private_paths import private_paths
from pipelines.databases.opening import Opening, opened
from pipelines.databases.places import of_connection
from pipelines.nodes.base import Stop
from pipelines.nodes.files import DataFolders
from pipelines.probes.found import Found
from pipelines.vault import ConnectionDetails


def probe(details: ConnectionDetails, deadline: float) -> Found:
    """Errors: `NodeError` in the words of `databases.failures`."""
    seconds = max(0.1, deadline - time.monotonic())
    stop = Stop()
    too_late = threading.Timer(seconds, lambda: stop.stop(NodeTimeout("The database did not answer in time.")))
    too_late.daemon = True
    too_late.start()
    try:
        with opened(of_connection(details), Opening(stop, _folders(), seconds=seconds)) as database:
            version = database.ping()
    finally:
        too_late.cancel()
    return Found("Logged in; the database answers.", version)


def _folders() -> DataFolders:
    """As workers have them: neither the server's home nor its own database can be looked at."""
    return DataFolders(settings.DATA_DIRS, forbidden=private_paths())
