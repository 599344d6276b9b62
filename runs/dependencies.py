"""What a pipeline's upstreams say now: whether its gates are open; and the note of an end that others wait for.

An upstream's standing is that of its last run that has ended, whoever made it.
"""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import OuterRef, Subquery
from django.utils import timezone

from brokoli_site.common.errors import Conflict
from brokoli_site.common.time import human_duration
from pipelines.models import PipelineDependency
from runs.models import Run, UpstreamEnd
from runs.states import TERMINAL, RunStatus

# The status with which a run must have ended, by what a rule asks for.
STATUSES: dict[str, tuple[RunStatus, ...]] = {
    "succeeded": (RunStatus.SUCCESS,),
    "failed": (RunStatus.FAILED,),
    "completed": (RunStatus.SUCCESS, RunStatus.FAILED),
}
_WORDS = {RunStatus.SUCCESS: "succeeded", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "was cancelled"}


class DependencyUnmet(Conflict):
    """The pipeline waits for others."""

    code = "dependency_unmet"


@dataclass(frozen=True, slots=True)
class Standing:
    """A rule, the last ended run of its upstream, and why the rule does not hold ("" when it does)."""

    rule: PipelineDependency
    last_run: Run | None
    reason: str

    @property
    def holds(self) -> bool:
        return not self.reason


def standings(pipeline_id: uuid.UUID, mode: str = "", *, now: dt.datetime | None = None) -> list[Standing]:
    """How each rule of a pipeline (of that mode) stands, in two queries."""
    ended = Run.objects.filter(pipeline=OuterRef("upstream"), status__in=sorted(TERMINAL)).order_by("-id").values("id")[:1]
    rules = PipelineDependency.objects.filter(pipeline_id=pipeline_id).select_related("upstream").annotate(last_run_id=Subquery(ended))
    found = list(rules.filter(mode=mode) if mode else rules)
    # The annotation is no attribute that a type checker knows.
    last = {rule.id: rule.__dict__["last_run_id"] for rule in found}
    runs = Run.objects.only("id", "status", "finished_at").in_bulk([key for key in last.values() if key])
    now = now or timezone.now()
    return [Standing(rule, run, reason_against(rule, run, now)) for rule in found for run in (runs.get(last[rule.id]),)]


def check_gates(pipeline_id: uuid.UUID, *, now: dt.datetime | None = None) -> None:
    """Errors: `DependencyUnmet` naming every gate that does not hold."""
    unmet = [standing.reason for standing in standings(pipeline_id, "gate", now=now) if not standing.holds]
    if unmet:
        raise DependencyUnmet(" ".join(f"{reason}." for reason in unmet))


def reason_against(rule: PipelineDependency, run: Run | None, now: dt.datetime) -> str:
    """Why a rule does not hold, when `run` is the last ended one of its upstream; "" when it holds."""
    within = dt.timedelta(seconds=rule.within_seconds) if rule.within_seconds else None
    if run is not None and run.status in STATUSES[rule.state] and (within is None or now - ended_at(run) <= within):
        return ""
    wish = f"Pipeline '{rule.upstream.name}' must have {rule.state}" + (
        f" within {human_duration(rule.within_seconds * 1000)}" if rule.within_seconds else ""
    )
    if run is None:
        return f"{wish}; no run of it has ended yet"
    ago = human_duration(max(0, round((now - ended_at(run)).total_seconds())) * 1000)
    return f"{wish}; its last run {_WORDS[RunStatus(run.status)]} {ago} ago (run {run.id})"


def ended_at(run: Run) -> dt.datetime:
    assert run.finished_at is not None  # the database's rule for runs that have ended
    return run.finished_at


def states_met(status: RunStatus) -> Sequence[str]:
    """What a rule may ask for that a run with this status fulfils; nothing is met by a cancelled one."""
    return [state for state, statuses in STATUSES.items() if status in statuses]


def note_end(run: Run, status: RunStatus) -> None:
    """In the transaction that ends a run: remember it for `upstream_ends.settle` when another pipeline is triggered by such ends."""
    met = states_met(status)
    if met and PipelineDependency.objects.filter(upstream_id=run.pipeline_id, mode="trigger", state__in=met).order_by().exists():
        UpstreamEnd.objects.create(run=run, created_at=timezone.now())
