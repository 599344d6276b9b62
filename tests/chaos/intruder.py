"""Somebody who writes with leases that were lost: as a revived worker without any caution would."""

import random
import threading

from django.db import DatabaseError, InterfaceError, connection, transaction

from runs import log, transitions
from runs.models import LogEntry, Run
from runs.states import EntryKind, RunStatus
from runs.transitions import Lease, LeaseLost

_PAUSE_SECONDS = 0.1


class Intruder:
    """Tries, until it is stopped, to finish, to write to and to release runs that are not its own any more."""

    def __init__(self, chance: random.Random) -> None:
        self.attempted = 0
        self.accepted = 0
        self._chance = chance
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="intruder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(30)

    def _work(self) -> None:
        while not self._stopped.wait(_PAUSE_SECONDS):
            try:
                lease = self._old_lease()
                if lease is not None:
                    self._try(lease)
            except (DatabaseError, InterfaceError):
                connection.close()
        connection.close()

    def _old_lease(self) -> Lease | None:
        """The first lease of one of the runs that were claimed last but one claim ago."""
        again = LogEntry.objects.filter(kind=EntryKind.RUN_REQUEUED).order_by("-seq").values_list("run_id", "data__epoch")[:10]
        if not again:
            return None
        run_id, epoch = self._chance.choice(list(again))
        started = LogEntry.objects.filter(run_id=run_id, kind=EntryKind.RUN_STARTED, data__epoch=epoch).first()
        return None if started is None or started.data is None else Lease(run_id, started.data["worker"], epoch)

    def _try(self, lease: Lease) -> None:
        self.attempted += 1
        way = self._chance.randrange(3)
        try:
            if way == 0:
                transitions.finish_run(lease, RunStatus.SUCCESS)
            elif way == 1:
                with transitions.fenced(lease):
                    log.append([log.entry(lease.run_id, EntryKind.LOG, "written by nobody")])
            else:
                stale = Run(id=lease.run_id, owner=lease.owner, epoch=lease.epoch)
                with transaction.atomic():
                    if transitions.release_run(stale, "somebody says so", died=True, max_deaths=1) is None:
                        return
        except LeaseLost:
            return
        self.accepted += 1
