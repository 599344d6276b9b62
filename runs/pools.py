"""Pools: nodes of any runs that share a number of slots, because what they use (a database, an API) bears only so many at a time.

A node of a pool executes while it holds a ticket. Tickets that wait form one queue a pool: runs of higher priority first, then
who came first. A ticket goes with the end of its attempt and with the lease of its run, so a dead worker's slots come back.
"""

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from brokoli_site.common import audit
from brokoli_site.common.errors import NotFound
from runs.models import Pool, PoolTicket
from runs.states import RunStatus

MOST_SLOTS = 10_000


@dataclass(frozen=True, slots=True)
class PoolUse:
    """A pool as people see it; `declared`: somebody made it, so it has its own number of slots."""

    name: str
    slots: int
    executing: int
    waiting: int
    description: str
    declared: bool


# --- pools that somebody makes ------------------------------------------------------------------------------------------


def keep(name: str, slots: int, description: str) -> bool:
    """Make or change the pool. True when it is new."""
    with transaction.atomic():
        before = Pool.objects.select_for_update().filter(name=name).first()
        pool, made = Pool.objects.update_or_create(name=name, defaults={"slots": slots, "description": description})
        audit.record("pool.created" if made else "pool.updated", "pool", name, name, before=_state(before), after=_state(pool))
    return made


def remove(name: str) -> None:
    """Nodes that name it go on with the default number of slots. Errors: `NotFound`."""
    with transaction.atomic():
        pool = Pool.objects.select_for_update().filter(name=name).first()
        if pool is None:
            raise NotFound("Nobody made a pool of this name.")
        pool.delete()
        audit.record("pool.deleted", "pool", name, name, before=_state(pool))


def _state(pool: Pool | None) -> dict[str, Any] | None:
    return {"slots": pool.slots, "description": pool.description} if pool else None


# --- tickets: call inside `transitions.fenced` ------------------------------------------------------------------------


def ask(run_id: UUID, wishes: Mapping[str, str]) -> frozenset[str]:
    """The nodes that hold a slot, of those that wish for one (the pool by node id). The others stand in the queue from now on."""
    names = sorted(set(wishes.values()))
    for name in names:  # in order, so that two runs with two pools do not wait in a circle
        _lock(name)
    known = set(PoolTicket.objects.filter(run_id=run_id, node_id__in=wishes).values_list("node_id", flat=True))
    now = timezone.now()
    PoolTicket.objects.bulk_create(
        PoolTicket(pool=pool, run_id=run_id, node_id=node_id, since=now) for node_id, pool in wishes.items() if node_id not in known
    )
    slots = slots_of(names)
    turns = [ticket for name in names for ticket in _next_in(name, slots[name] - _taken(name))]
    mine = [ticket_id for ticket_id, owner in turns if owner == run_id]
    if mine:
        PoolTicket.objects.filter(id__in=mine).update(holds=True)
    return frozenset(PoolTicket.objects.filter(run_id=run_id, node_id__in=wishes, holds=True).values_list("node_id", flat=True))


def give_back(run_id: UUID, node_ids: Collection[str] | None = None) -> None:
    """Slots, and places in a queue, of these nodes of the run; None: of all of them."""
    tickets = PoolTicket.objects.filter(run_id=run_id)
    (tickets if node_ids is None else tickets.filter(node_id__in=node_ids)).delete()


# --- reading: no lock, no transaction ---------------------------------------------------------------------------------


def has_turn(run_id: UUID, names: Collection[str]) -> bool:
    """Whether a ticket of the run, in one of these pools, would get a slot if it asked now."""
    slots = slots_of(names)
    return any(owner == run_id for name in names for _, owner in _next_in(name, slots[name] - _taken(name)))


def taken_of(name: str) -> str:
    """`4 of 4 taken`"""
    return f"{_taken(name)} of {slots_of([name])[name]} taken"


def waiting_nodes(run_id: UUID) -> dict[str, str]:
    """The pool by node id of the run's tickets that wait."""
    return dict(PoolTicket.objects.filter(run_id=run_id, holds=False).values_list("node_id", "pool"))


def slots_of(names: Collection[str]) -> dict[str, int]:
    return dict.fromkeys(names, settings.POOL_SLOTS) | dict(Pool.objects.filter(name__in=names).values_list("name", "slots"))


def in_use(name: str | None = None) -> list[PoolUse]:
    """The pools that somebody made, and those that nodes execute in or wait for, by name. `name`: only that one, if there is any."""
    declared, tickets = Pool.objects.all(), _live()
    if name is not None:
        declared, tickets = declared.filter(name=name), tickets.filter(pool=name)
    made = {pool.name: pool for pool in declared}
    count = {(pool, holds): number for pool, holds, number in tickets.order_by().values_list("pool", "holds").annotate(Count("id"))}
    return [
        PoolUse(
            name=each,
            slots=made[each].slots if each in made else settings.POOL_SLOTS,
            executing=count.get((each, True), 0),
            waiting=count.get((each, False), 0),
            description=made[each].description if each in made else "",
            declared=each in made,
        )
        for each in sorted({*made, *(pool for pool, _ in count)})
    ]


def _live() -> QuerySet[PoolTicket]:
    """Of runs that execute. Ends and releases of runs take the tickets along; should one be left all the same, it takes no slot for ever."""
    return PoolTicket.objects.filter(run__status=RunStatus.RUNNING)


def _taken(name: str) -> int:
    return _live().filter(pool=name, holds=True).count()


def _next_in(name: str, free: int) -> list[tuple[int, UUID]]:
    """`(ticket, run)` of those whose turn it is when so many slots are free."""
    if free < 1:
        return []
    return list(_live().filter(pool=name, holds=False).order_by("-run__priority", "id").values_list("id", "run_id")[:free])


def _lock(name: str) -> None:
    """Until the transaction ends, nobody else hands out slots of the pool. SQLite's transaction holds its one write lock anyway."""
    if connection.vendor == "postgresql":
        key = int.from_bytes(hashlib.blake2b(f"pool:{name}".encode(), digest_size=8).digest(), signed=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key])


# --- within one process -----------------------------------------------------------------------------------------------


class Bell:
    """Wakes the runs of this process that wait for a slot, when another of them gave one back. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: set[Callable[[], None]] = set()

    @contextmanager
    def heard_by(self, wake: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._listeners.add(wake)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.discard(wake)

    def ring(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for wake in listeners:
            wake()
