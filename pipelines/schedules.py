"""When a pipeline runs by itself: five cron fields and a time zone. Pure."""

import datetime as dt
import functools
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cronsim import CronSim, CronSimError

from pipelines.problems import Problem

Overlap = Literal["queue", "skip", "cancel_running"]
MissedRuns = Literal["latest", "all", "none"]

# What cron(8) and the older Brokoli call them.
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


@dataclass(frozen=True, slots=True)
class SlaDeadline:
    """By this time of each day, in this zone, a run should have succeeded."""

    time: dt.time
    zone: str


_ANY_MOMENT = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def cron_fields(schedule: str) -> str:
    """The five fields that a schedule stands for: `0 0 * * *` of `@daily`."""
    return _NAMED.get(schedule.strip().lower(), schedule.strip())


def schedule_fault(schedule: str) -> str:
    """What is wrong with a schedule, as a sentence; "" when nothing is."""
    if len(schedule.split()) != 5 and schedule.strip().lower() not in _NAMED:
        return "A schedule has five cron fields: minute, hour, day of month, month, day of week, such as '0 6 * * 1-5'."
    try:
        CronSim(cron_fields(schedule), _ANY_MOMENT)
    except CronSimError as error:
        return f"The schedule cannot be read: {str(error).lower()}. An example: '0 6 * * 1-5'."
    return ""


@functools.cache
def zone_names() -> frozenset[str]:
    """Every IANA time zone that this machine knows."""
    return frozenset(zoneinfo.available_timezones())


def read_overlap(document: Mapping[str, Any], problems: list[Problem]) -> Overlap:
    """`overlap_policy`: what the schedule does while an earlier run is active."""
    return "queue"


def read_missed_runs(document: Mapping[str, Any], problems: list[Problem]) -> MissedRuns:
    """`missed_runs`, or the SDK's `catchup: true`, which means all."""
    return "latest"


def read_sla(document: Mapping[str, Any], problems: list[Problem]) -> SlaDeadline | None:
    """`sla_deadline` and `sla_timezone`."""
    return None
