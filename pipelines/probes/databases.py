"""Databases: opened, and asked for their version."""

from brokoli_site.common.errors import NodeError
from pipelines.probes.found import Found
from pipelines.vault import ConnectionDetails


def probe(details: ConnectionDetails, deadline: float) -> Found:
    """Errors: `NodeError`."""
    raise NodeError("Connections of this type cannot be tested yet.")
