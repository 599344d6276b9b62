"""The rows of this app, a noun a module."""

from runs.models.backfills import Backfill
from runs.models.day_counts import DayCount
from runs.models.notifications import Notification, SlaMiss
from runs.models.pools import Pool, PoolTicket
from runs.models.requests import IdempotencyKey
from runs.models.runs import LogEntry, NodeOutput, NodeRun, Run, Worker
from runs.models.scheduling import SchedulerLook, ScheduleState, UpstreamEnd
from runs.models.tallies import Tally

__all__ = [
    "Backfill",
    "DayCount",
    "IdempotencyKey",
    "LogEntry",
    "NodeOutput",
    "NodeRun",
    "Notification",
    "Pool",
    "PoolTicket",
    "Run",
    "ScheduleState",
    "SchedulerLook",
    "SlaMiss",
    "Tally",
    "UpstreamEnd",
    "Worker",
]
