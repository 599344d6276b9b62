"""The guarded client for the files behind an HTTP address, for as long as a node may take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.outbound import Client, Limits
from pipelines.nodes.base import Stop

_SECONDS, _IDLE_SECONDS = 3600.0, 60.0


@contextmanager
def connected(stop: Stop, redirects: int = 0) -> Iterator[Client]:
    """The client while the block lasts; a stop of the node breaks off what it waits for. Errors: the stop's reason, those of the block."""
    left = _SECONDS if stop.deadline is None else max(0.1, stop.deadline - time.monotonic())
    with Client(Limits(left, redirects, settings.ALLOWED_NETWORKS, _IDLE_SECONDS)) as client:
        stop.on_stop(client.break_off)
        try:
            yield client
        except BrokoliError:
            stop.check()  # it broke off because it was told to
            raise
