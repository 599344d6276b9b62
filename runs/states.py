"""The statuses of runs and node runs, and the only changes allowed between them. Pure: no database."""

from enum import StrEnum


class RunStatus(StrEnum):
    PENDING = "pending"  # waiting for a worker, or for `not_before` -> running (claim), cancelled
    RUNNING = "running"  # a worker holds its lease              -> success, failed, cancelled, pending (the worker died or drained, or it parks)
    SUCCESS = "success"  # every node succeeded or was skipped   final
    FAILED = "failed"  # a node failed, or it lost its workers   final (a resume is a new run)
    CANCELLED = "cancelled"  # somebody asked                    final


class NodeStatus(StrEnum):
    PENDING = "pending"  # waiting: inputs, a retry, or to look again     -> running, skipped, cancelled
    RUNNING = "running"  # an attempt is under way                        -> success, failed, cancelled, pending (it parks)
    SUCCESS = "success"  # its output is durable and registered           final
    FAILED = "failed"  # this attempt failed; a retry is a new attempt    final
    SKIPPED = "skipped"  # reused from an earlier run, or never needed    final
    CANCELLED = "cancelled"  # stopped, or never started                  final


RUN_TRANSITIONS: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset({RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.PENDING}),
    RunStatus.SUCCESS: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}
NODE_TRANSITIONS: dict[NodeStatus, frozenset[NodeStatus]] = {
    NodeStatus.PENDING: frozenset({NodeStatus.RUNNING, NodeStatus.SKIPPED, NodeStatus.CANCELLED}),
    NodeStatus.RUNNING: frozenset({NodeStatus.SUCCESS, NodeStatus.FAILED, NodeStatus.CANCELLED, NodeStatus.PENDING}),
    NodeStatus.SUCCESS: frozenset(),
    NodeStatus.FAILED: frozenset(),
    NodeStatus.SKIPPED: frozenset(),
    NodeStatus.CANCELLED: frozenset(),
}

ACTIVE = frozenset({RunStatus.PENDING, RunStatus.RUNNING})
TERMINAL = frozenset(status for status, after in RUN_TRANSITIONS.items() if not after)
NODE_TERMINAL = frozenset(status for status, after in NODE_TRANSITIONS.items() if not after)
# A node in one of these gives its output (or its absence) to the nodes below it.
NODE_DONE = frozenset({NodeStatus.SUCCESS, NodeStatus.SKIPPED})


def check_run(before: RunStatus, after: RunStatus) -> None:
    """Errors: `ValueError` when a run may not go from `before` to `after`."""
    if after not in RUN_TRANSITIONS[before]:
        raise ValueError(f"a run cannot go from {before} to {after}")


def check_node(before: NodeStatus, after: NodeStatus) -> None:
    """Errors: `ValueError` when a node run may not go from `before` to `after`."""
    if after not in NODE_TRANSITIONS[before]:
        raise ValueError(f"a node run cannot go from {before} to {after}")


class Trigger(StrEnum):
    """What made a run."""

    API = "api"
    ADMIN = "admin"
    RESUME = "resume"
    SCHEDULE = "schedule"
    BACKFILL = "backfill"
    WEBHOOK = "webhook"
    UPSTREAM = "upstream"


class EntryKind(StrEnum):
    """What a log entry tells: a line that a node wrote, or a change of status. The values are the event types of the WebSocket."""

    LOG = "log"
    RUN_CREATED = "run.created"
    RUN_STARTED = "run.started"
    RUN_REQUEUED = "run.requeued"
    RUN_WAITING = "run.waiting"
    RUN_CANCEL_REQUESTED = "run.cancel_requested"
    RUN_COMPLETED = "run.completed"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"
    NODE_STARTED = "node.started"
    NODE_COMPLETED = "node.completed"
    NODE_FAILED = "node.failed"
    NODE_WAITING = "node.waiting"
    NODE_RETRYING = "node.retrying"
    NODE_SKIPPED = "node.skipped"
    NODE_CANCELLED = "node.cancelled"
    NODE_PROGRESS = "node.progress"
