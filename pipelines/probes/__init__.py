"""What it takes to see that a connection works: reach the server, log in, look at one thing. Nothing is changed there.

A probe is called with the connection and the (monotonic) moment until which it may take. Errors: `BrokoliError` with a sentence for people.
"""

from collections.abc import Callable, Mapping

from pipelines.probes import databases, sftp, web
from pipelines.probes.found import Found
from pipelines.vault import ConnectionDetails

_PROBES: Mapping[str, Callable[[ConnectionDetails, float], Found]] = {
    **dict.fromkeys(("postgres", "mysql", "sqlite", "generic"), databases.probe),
    "http": web.probe_http,
    "s3": web.probe_s3,
    "sftp": sftp.probe,
}


def probe(details: ConnectionDetails, deadline: float) -> Found:
    """What was found at the other end. Errors: `BrokoliError` saying what went wrong."""
    return _PROBES[details.type](details, deadline)
