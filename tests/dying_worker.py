"""`python -m tests.dying_worker POINT`: a worker that kills itself with SIGKILL at one point of its work, once it gets there."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import django
from django.core.management import execute_from_command_line

django.setup()

from brokoli_site.common import durable  # noqa: E402 - the settings come first
from pipelines.databases.postgres_loading import PostgresSession  # noqa: E402
from pipelines.databases.sqlite_loading import SqliteSession  # noqa: E402
from runs import output, queue, transitions  # noqa: E402
from runs.executor import Execution  # noqa: E402


def die(*arguments: Any, **options: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(act: Callable[..., Any]) -> Callable[..., Any]:
    def act_and_die(*arguments: Any, **options: Any) -> Any:
        result = act(*arguments, **options)
        if result != []:  # a claim that found nothing
            die()
        return result

    return act_and_die


def after_an_end(commit: Callable[..., None]) -> Callable[..., None]:
    """Between nodes: the end of one is committed, and the start of the next with it."""

    def commit_and_die(self: Execution, change: Any) -> None:
        commit(self, change)
        if getattr(change, "args", None) and change.args[0]:
            die()

    return commit_and_die


# Where, and how: the owner of a function, its name, and what stands in its place.
POINTS: dict[str, tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    "before the claim is committed": (transitions, "start_run", after),
    "after the claim": (queue, "claim", after),
    "in the middle of a node": (output, "write", lambda act: die),
    "before the rename": (durable, "sync", lambda act: die),
    "after the rename, before it is registered": (durable, "put", after),
    "between two nodes": (Execution, "_commit", after_an_end),
    "before the end is committed": (transitions, "_end_run", after),
    "after a sink's commit": (SqliteSession, "commit", after),
    "after a sink's commit to PostgreSQL": (PostgresSession, "commit", after),
    "after the end": (transitions, "finish_run", after),
}

if __name__ == "__main__":
    owner, name, change = POINTS[sys.argv[1]]
    setattr(owner, name, change(getattr(owner, name)))
    execute_from_command_line(["manage.py", "runworker", "--concurrency", "1"])
