"""The run log: append entries in batches, tail them by `seq`. The log is the event stream."""

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.utils import timezone

from runs import hints
from runs.models import LogEntry
from runs.states import EntryKind

MAX_MESSAGE = 8 * 1024  # characters of one line; what is longer is cut and says so
MAX_LINES = 10_000  # lines of one attempt; what comes after is counted, not kept
_BATCH = 500


def clean(message: str) -> str:
    """The message as it can be stored and shown: no NUL (PostgreSQL refuses it), no lone surrogate, at most `MAX_MESSAGE` characters."""
    text = message.replace("\0", "�").encode("utf-8", "replace").decode("utf-8")
    if len(text) > MAX_MESSAGE:
        text = f"{text[:MAX_MESSAGE]}… ({len(text) - MAX_MESSAGE} more characters)"
    return text


def entry(
    run_id: uuid.UUID,
    kind: EntryKind,
    message: str,
    *,
    level: str = "info",
    node_id: str = "",
    attempt: int | None = None,
    data: dict[str, Any] | None = None,
) -> LogEntry:
    """An unsaved entry, stamped now."""
    return LogEntry(
        run_id=run_id, kind=kind, level=level, message=clean(message), node_id=node_id, attempt=attempt, data=data, timestamp=timezone.now()
    )


def append(entries: Sequence[LogEntry], epoch: int | None = None) -> None:
    """Store entries in their order, inside the caller's transaction.

    `epoch`: the claim under which a worker writes. Every change of status then says so, and whoever reads a run's history can
    see that no earlier claim wrote after a later one.
    """
    if not entries:
        return
    if epoch is not None:
        for entry in entries:
            if entry.kind != EntryKind.LOG:
                entry.data = {**(entry.data or {}), "epoch": epoch}
    LogEntry.objects.bulk_create(entries, batch_size=_BATCH)
    hints.tell_at_commit()


def notify() -> None:
    """Wake idle workers when this transaction commits. SQLite needs none: its readers watch `PRAGMA data_version`."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("NOTIFY brokoli_runs")


@dataclass
class NodeLog:
    """What one attempt of a node writes, kept in memory until the executor stores it. Safe to write from any thread."""

    run_id: uuid.UUID
    node_id: str
    attempt: int
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _entries: list[LogEntry] = field(default_factory=list, repr=False)
    _lines: int = 0
    _dropped: int = 0
    _percent: int = -1

    def info(self, message: str) -> None:
        self._write("info", message)

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def error(self, message: str) -> None:
        self._write("error", message)

    def progress(self, fraction: float, message: str = "") -> None:
        """Note how much is done, 0.0 to 1.0. Only a new whole percent makes an entry."""
        percent = min(100, max(0, int(fraction * 100)))
        with self._lock:
            if percent <= self._percent:
                return
            self._percent = percent
            text = message or f"{percent} %"
            self._entries.append(
                entry(self.run_id, EntryKind.NODE_PROGRESS, text, node_id=self.node_id, attempt=self.attempt, data={"percent": percent})
            )

    def drain(self, *, last: bool = False) -> list[LogEntry]:
        """Take what has gathered. `last` adds the line that says how many were dropped."""
        with self._lock:
            taken, self._entries = self._entries, []
            if last and self._dropped:
                text = f"dropped {self._dropped} log lines: a node may write {MAX_LINES} an attempt"
                taken.append(entry(self.run_id, EntryKind.LOG, text, level="warning", node_id=self.node_id, attempt=self.attempt))
                self._dropped = 0
        return taken

    def _write(self, level: str, message: str) -> None:
        with self._lock:
            if self._lines >= MAX_LINES:
                self._dropped += 1
                return
            self._lines += 1
            self._entries.append(entry(self.run_id, EntryKind.LOG, message, level=level, node_id=self.node_id, attempt=self.attempt))


def tail(since: int, limit: int, run_id: uuid.UUID | None = None) -> list[LogEntry]:
    """Up to `limit` entries after `since`, in order."""
    entries = LogEntry.objects.filter(seq__gt=since)
    if run_id is not None:
        entries = entries.filter(run_id=run_id)
    return list(entries.order_by("seq")[:limit])
