"""What the log of the runs tells of a campaign: who claimed them when, what was repeated, and whether anybody wrote out of turn."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runs.models import LogEntry, NodeRun
from runs.states import EntryKind
from tests.chaos.crew import Strike

# After which a run is no worker's. A claim for another look of a parked run is not told before there is more to tell.
_LEFT = frozenset({EntryKind.RUN_REQUEUED, EntryKind.RUN_WAITING})
_ENDS = frozenset({EntryKind.RUN_COMPLETED, EntryKind.RUN_FAILED, EntryKind.RUN_CANCELLED})


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim of one run, in seconds since the epoch. `until` is when it ended or was taken over; None: never."""

    run: str
    epoch: int
    pid: int
    since: float
    until: float | None
    next_claim: float | None  # when the run was claimed again, or ended


@dataclass
class History:
    """The entries of all runs, in the order of `seq`."""

    entries: dict[str, list[LogEntry]]

    @classmethod
    def read(cls) -> "History":
        entries: dict[str, list[LogEntry]] = defaultdict(list)
        for entry in LogEntry.objects.order_by("seq").iterator(chunk_size=5000):
            entries[str(entry.run_id)].append(entry)
        return cls(entries)

    def double_finishes(self) -> list[str]:
        """Runs that ended more than once."""
        return [run for run, entries in self.entries.items() if sum(entry.kind in _ENDS for entry in entries) > 1]

    def out_of_turn(self) -> list[str]:
        """Runs with an entry of a claim after one of a later claim, or with any entry after their end."""
        return [run for run, entries in self.entries.items() if _is_out_of_turn(entries)]

    def claims(self) -> list[Claim]:
        return [claim for run, entries in self.entries.items() for claim in _claims(run, entries)]


def _is_out_of_turn(entries: Sequence[LogEntry]) -> bool:
    highest, ended = 0, False
    for entry in entries:
        if ended:
            return True
        epoch = (entry.data or {}).get("epoch", highest)
        if epoch < highest:
            return True
        highest = epoch
        ended = entry.kind in _ENDS
    return False


def _claims(run: str, entries: Sequence[LogEntry]) -> Iterable[Claim]:
    starts = [(number, entry) for number, entry in enumerate(entries) if entry.kind == EntryKind.RUN_STARTED]
    for number, entry in starts:
        data: dict[str, Any] = entry.data or {}
        after = entries[number + 1 :]
        until = next((later for later in after if later.kind in _ENDS | _LEFT), None)
        again = next((later for later in after if later.kind in _ENDS or later.kind == EntryKind.RUN_STARTED), None)
        yield Claim(run, data["epoch"], pid_of(data["worker"]), _seconds(entry), _moment(until), _moment(again))


def _moment(entry: LogEntry | None) -> float | None:
    return None if entry is None else _seconds(entry)


def pid_of(worker: str) -> int:
    """The process of a worker, which its name tells: host-pid-token."""
    return int(worker.rsplit("-", 2)[1])


def _seconds(entry: LogEntry) -> float:
    return entry.timestamp.timestamp()


def reclaim_seconds(claims: Iterable[Claim], strikes: Iterable[Strike], lease_seconds: float) -> list[float]:
    """From each kill, or stop for longer than a lease, until each run that the worker was executing was claimed again or ended."""
    of_pid: dict[int, list[Claim]] = defaultdict(list)
    for claim in claims:
        of_pid[claim.pid].append(claim)
    found = []
    for strike in strikes:
        if strike.signal == "SIGKILL" or (strike.signal == "SIGSTOP" and strike.seconds > lease_seconds):
            struck = [claim for claim in of_pid[strike.pid] if claim.since <= strike.at and (claim.until is None or claim.until > strike.at)]
            found += [claim.next_claim - strike.at if claim.next_claim is not None else float("inf") for claim in struck]
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Repeats:
    """Node executions: all that were started, those that were lost with their worker, and those lost by a worker that nobody struck."""

    started: int
    lost: int
    unexplained: list[str]


def repeats(history: History, claims: Iterable[Claim], strikes: Sequence[Strike], one_writer_lease: float | None) -> Repeats:
    """`one_writer_lease`: the lease (seconds) on a database that has one write lock. Whoever is frozen while holding it freezes all beats."""
    stalls = [(each.at, each.at + each.seconds + one_writer_lease) for each in strikes if each.signal == "SIGSTOP" and one_writer_lease is not None]
    struck: dict[int, float] = {}
    for strike in strikes:
        struck[strike.pid] = min(strike.at, struck.get(strike.pid, strike.at))
    worker = {(claim.run, claim.epoch): claim.pid for claim in claims}
    lost = {(str(one.run_id), one.node_id, one.attempt) for one in NodeRun.objects.filter(lost=True)}
    unexplained = []
    started = 0
    for run, entries in history.entries.items():
        for entry in entries:
            started += entry.kind == EntryKind.NODE_STARTED
            if entry.kind == EntryKind.NODE_FAILED and (run, entry.node_id, entry.attempt) in lost:
                pid = worker[run, (entry.data or {})["epoch"]]
                lost_at = _seconds(entry)
                if struck.get(pid, float("inf")) > lost_at and not any(since <= lost_at <= until for since, until in stalls):
                    unexplained.append(f"{run} {entry.node_id} #{entry.attempt}: {entry.message}")
    # A node that had succeeded and runs again lost its artifact, which nothing here takes away.
    done_twice = NodeRun.objects.filter(status="success").values_list("run_id", "node_id")
    seen: set[tuple[Any, str]] = set()
    for pair in done_twice:
        if pair in seen:
            unexplained.append(f"{pair[0]} {pair[1]}: succeeded twice")
        seen.add(pair)
    return Repeats(started, len(lost), unexplained)
