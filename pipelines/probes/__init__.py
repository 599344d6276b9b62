"""What it takes to see that a connection works: reach the server, log in, look at one thing. Nothing is changed there.

A probe is called with the connection and the (monotonic) moment until which it may take. Errors: `BrokoliError` with a sentence for people.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import cast

from pipelines.probes.found import Found
from pipelines.vault import ConnectionDetails

# Imported when one is first asked for: a server that tests no database needs no drivers.
_PROBES: Mapping[str, str] = {
    **dict.fromkeys(("postgres", "mysql", "sqlite", "generic"), "pipelines.probes.databases:probe"),
    "http": "pipelines.probes.web:probe_http",
    "s3": "pipelines.probes.web:probe_s3",
    "sftp": "pipelines.probes.sftp:probe",
}


def probe_of(kind: str) -> Callable[[ConnectionDetails, float], Found]:
    """The probe for connections of that type."""
    module, _, name = _PROBES[kind].partition(":")
    return cast("Callable[[ConnectionDetails, float], Found]", getattr(importlib.import_module(module), name))
