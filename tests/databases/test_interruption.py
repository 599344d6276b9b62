"""Breaking off what blocks on a database."""

import sqlite3
import threading

import pytest

from brokoli_site.common.errors import NodeCancelled
from pipelines.databases.interruption import Interruption
from pipelines.nodes.base import Stop
from tests.programs import wait_for

LONG = "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s LIMIT 40000000) SELECT count(*) FROM s"


def test_a_query_that_begins_just_after_it_was_cancelled_is_cancelled_again() -> None:
    connection, stop, asked = sqlite3.connect(":memory:", check_same_thread=False), Stop(), threading.Event()

    def interrupt() -> None:
        connection.interrupt()
        asked.set()

    interruption = Interruption(stop)
    interruption.arm(interrupt, None)
    stop.stop(NodeCancelled("The run was cancelled."))
    wait_for(asked.is_set)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        connection.execute(LONG).fetchone()
    interruption.disarm()
    connection.close()
