"""The worker: claims runs, keeps their leases alive, executes them, finishes them, and takes over from workers that died.

Threads: the main one claims and listens; one beats; one takes over from the dead; each run has one; nodes share a pool.
None waits for another's database work.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections, connection, connections

from brokoli_site.common import logs, tracing
from runs import chores, queue, tallies
from runs.control import Control, Outcome, Resources
from runs.delivery import Postman
from runs.executor import Execution
from runs.models import Run
from runs.states import RunStatus
from runs.tenure import Tenure, clock
from runs.ticker import Ticker
from runs.transitions import Lease, LeaseLost
from runs.wakeup import Wakeup

logger = structlog.get_logger(__name__)

_POLL_SECONDS = 1.0  # the truth, should a wake-up get lost
_BEATS_PER_LEASE = 5
_BEAT_WAITS_MS = 200
_STUBBORN_SECONDS = 3.0
_LONGEST_PAUSE_SECONDS = 60.0  # between two tries to write an end that the database refuses
_SENDING_SECONDS = 10.0  # that what is being sent gets at the end
_AWAY = (DatabaseError, InterfaceError)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker behaves; the settings give the values."""

    concurrency: int
    lease_seconds: int
    max_deaths: int
    drain_seconds: int
    until_empty: bool = False  # end when no run is waiting or executing


@dataclass
class WorkerProcess:
    """One worker. `run` returns when it was told to stop, or when the queue is empty and that was the wish."""

    options: WorkerOptions
    open_resources: Callable[[], Resources]
    _executing: dict[Lease, Control] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)  # guards `_executing`
    _ended: threading.Event = field(default_factory=threading.Event)
    _wakeup: Wakeup = field(default_factory=Wakeup)
    _postman: Postman = field(default_factory=Postman)
    _strays: threading.Event = field(default_factory=threading.Event)  # the database may hold leases of ours that nobody executes
    _signals: int = 0
    _drain_until: float = float("inf")

    def run(self) -> int:
        """Exit code: 0 after an orderly end, 1 when a second signal, or a node that heeds no stop, cut it short."""
        tracing.start("brokoli-worker")
        self._register()
        resources = self.open_resources()
        heart = threading.Thread(target=self._keep_alive, name="heartbeat", daemon=True)
        heart.start()
        reaper = threading.Thread(target=self._look_after_others, name="reaper", daemon=True)
        reaper.start()
        self._ticker = Ticker(chores.of_worker(resources.store, self._postman))
        ticking = threading.Thread(target=self._ticker.run, name="ticker", daemon=True)
        ticking.start()
        logger.info("worker started", worker=self._worker_id, concurrency=self.options.concurrency)
        try:
            with self._wakeup, ThreadPoolExecutor(self.options.concurrency, thread_name_prefix="run") as pool:
                try:
                    self._loop(pool, resources)
                except BaseException:
                    self._tell_all(lambda control: (control.draining, control.halted))  # the pool waits for its runs
                    raise
        finally:
            self._ended.set()
            self._ticker.stop()
            heart.join(timeout=5)
            reaper.join(timeout=5)
            ticking.join(timeout=5)
            self._postman.close(_SENDING_SECONDS if self._signals < 2 else 0.0)
            resources.pool.shutdown(wait=False, cancel_futures=True)
            resources.engine.close()
            self._unregister()
            logger.info("worker stopped", worker=self._worker_id)
            logs.name_process(worker="")
        return 1 if self._signals > 1 else 0

    def stop(self, number: int = signal.SIGTERM, frame: object = None) -> None:
        """A signal handler. The first drains: no new claims, executing nodes finish within the grace. The second stops at once."""
        self._signals += 1
        self._drain_until = time.monotonic() + (self.options.drain_seconds if self._signals == 1 else 0)
        self._wakeup.wake()

    # --- main thread ---

    def _loop(self, pool: ThreadPoolExecutor, resources: Resources) -> None:
        draining = False
        while True:
            if self._signals and not draining:
                draining = True
                logger.info("draining", worker=self._worker_id, executing=len(self._executing), grace_seconds=self.options.drain_seconds)
                self._tell_all(lambda control: (control.draining,))
            if time.monotonic() >= self._drain_until:
                self._tell_all(lambda control: (control.halted,))
            if time.monotonic() >= self._drain_until + _STUBBORN_SECONDS and self._executing:
                self._unregister()  # a node that heeds no stop must not keep a process whose grace is over
                os._exit(1)
            if draining and not self._executing:
                return
            try:
                self._give_back_strays()
                if not draining:
                    self._claim(pool, resources)
                    if self.options.until_empty and not self._executing and queue.is_empty() and not self._postman.busy:
                        return
                self._pass_on_cancels()
            except _AWAY as error:
                self._strays.set()  # a claim may have been committed and its answer lost
                self._database_away(error)
            may_claim = not draining and len(self._executing) < self.options.concurrency
            self._wakeup.wait(min(_POLL_SECONDS, max(0.05, self._drain_until - time.monotonic())), for_runs=may_claim)

    def _claim(self, pool: ThreadPoolExecutor, resources: Resources) -> None:
        free = self.options.concurrency - len(self._executing)
        tenure = self._tenure  # before the claim: should this process stand still in the middle, the runs are not its own
        if not tenure.holds():
            return
        for lease in queue.claim(tenure.worker_id, free):
            control = Control(tenure.holds)
            with self._lock:
                self._executing[lease] = control
            pool.submit(self._execute, lease, control, resources).add_done_callback(_raise_bug)

    def _give_back_strays(self) -> None:
        """Runs that are leased to this living worker and that it does not execute would wait for ever: back into the queue."""
        if not self._strays.is_set():
            return
        self._strays.clear()
        try:
            # First what the database holds, then what is executed: a run that ends in between has no lease to give back.
            owned = Run.objects.owned_by(self._worker_id).values_list("id", "owner", "epoch")
            leases = {Lease(run_id, owner, epoch) for run_id, owner, epoch in owned}
            for lease in leases - {lease for lease, _ in self._controls()}:
                queue.release(lease, "its worker had lost the connection to the database")
        except _AWAY:
            self._strays.set()
            raise

    def _pass_on_cancels(self) -> None:
        if not self._executing:
            return
        requested = Run.objects.owned_by(self._worker_id).filter(cancel_requested_at__isnull=False).values_list("id", "epoch", "cancel_force")
        wishes = {(run_id, epoch): force for run_id, epoch, force in requested}
        for lease, control in self._controls():
            force = wishes.get((lease.run_id, lease.epoch))
            if force is not None and not (control.cancelled.is_set() and control.forced.is_set() >= force):
                control.tell(control.cancelled, *((control.forced,) if force else ()))

    def _controls(self) -> list[tuple[Lease, Control]]:
        with self._lock:
            return list(self._executing.items())

    def _tell_all(self, events: Callable[[Control], tuple[threading.Event, ...]]) -> None:
        for _, control in self._controls():
            control.tell(*events(control))

    # --- a run's thread ---

    def _execute(self, lease: Lease, control: Control, resources: Resources) -> None:
        structlog.contextvars.bind_contextvars(run_id=str(lease.run_id), epoch=lease.epoch)
        certain = False
        try:
            close_old_connections()
            with tracing.span("run", parent=queue.trace_of(lease), brokoli__run__id=str(lease.run_id), brokoli__run__epoch=lease.epoch) as span:
                outcome = Execution(lease, resources, control).run()
                span.set(brokoli__run__status=outcome.status)
                if outcome.status == RunStatus.FAILED:
                    span.fail(outcome.status)
            certain = self._finish(lease, control, outcome)
            if outcome.parked_seconds is None:
                logger.info("run ended", status=outcome.status, reason=outcome.reason)
        except LeaseLost as error:
            logger.warning("lease lost", reason=error.message)
        except Exception as error:
            # The worker must live through a bug in the executor, and the run must still end.
            logger.exception("execution crashed")
            certain = self._finish(
                lease, control, Outcome(RunStatus.FAILED, f"The executor has a bug ({type(error).__name__}); the worker's log says where.")
            )
        finally:
            with self._lock:
                del self._executing[lease]
            if not certain:
                self._strays.set()  # given up by ourselves, it may be in nobody else's hands
            self._ticker.nudge()
            self._wakeup.wake()
            structlog.contextvars.clear_contextvars()  # the thread goes on with another run

    def _finish(self, lease: Lease, control: Control, outcome: Outcome) -> bool:
        """False when the lease was lost before the end could be written.

        A database that is away is waited for. One that answers and refuses would refuse for ever: the run then fails, in plain
        words, and should even that be refused, it is tried ever more seldom, until somebody has mended the database.
        """
        pause = 0.5
        while True:
            try:
                if outcome.parked_seconds is not None:
                    queue.park(lease, outcome.parked_seconds, announced=outcome.announced)
                elif outcome.status == RunStatus.PENDING:
                    queue.release(lease, outcome.reason)
                else:
                    queue.finish(lease, outcome.status, outcome.reason)
            except LeaseLost:
                return True  # already finished by a commit that was in doubt, or given to another worker
            except (OperationalError, InterfaceError) as error:
                self._database_away(error)
            except DatabaseError as error:
                logger.exception("end refused", run_id=str(lease.run_id), status=outcome.status)
                connection.close()
                outcome = Outcome(
                    RunStatus.FAILED, f"The database refused to store how the run ended ({type(error).__name__}); the worker's log says why."
                )
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return True
            control.lost.wait(pause)
            if control.must_give_up:
                return False

    # --- heartbeat thread ---

    @property
    def _worker_id(self) -> str:
        return self._tenure.worker_id

    def _register(self) -> None:
        started = clock()
        worker = queue.register(self.options.concurrency, self.options.lease_seconds)
        logs.name_process(worker=worker.id)
        self._tenure = Tenure(worker.id, self.options.lease_seconds, started)
        self._watch = queue.Watch(worker.id, self.options.max_deaths)

    def _keep_alive(self) -> None:
        """Beat. A worker that cannot beat for a lease gives its runs up by itself."""
        interval = self.options.lease_seconds / _BEATS_PER_LEASE
        pause = 0.0
        while not self._ended.wait(pause):
            started = clock()
            pause = interval
            try:
                _ask_often()
                if not queue.heartbeat(self._worker_id, draining=self._signals > 0):
                    self._start_anew()
                elif not self._tenure.renew(started):
                    self._drop_runs(started)
                    pause = 0.0  # this beat was sent before the process stood still, maybe: the next one is sure to be new
            except _AWAY as error:
                if _is_locked(error):
                    pause = 0.0
                else:
                    self._database_away(error)
                    pause = interval / 4
            except Exception:
                # A worker without a heart is given up by the others and serves nobody, however healthy it looks.
                logger.exception("heartbeat failed", worker=self._worker_id)
            if not self._tenure.holds():
                self._tell_all(lambda control: (control.lost,))
        connections.close_all()

    def _start_anew(self) -> None:
        """Others gave this worker up (it was stopped, or cut off, for longer than its lease): drop its runs, begin under a new name."""
        logger.warning("given up by others", worker=self._worker_id, executing=len(self._executing))
        self._tell_all(lambda control: (control.lost,))
        self._register()

    def _drop_runs(self, started: float) -> None:
        """The lease ran out by our own clock, and nobody has noticed: what was executed meanwhile may have been refused. Under a new lease."""
        logger.warning("lease ran out", worker=self._worker_id, executing=len(self._executing))
        self._tell_all(lambda control: (control.lost,))
        self._tenure = Tenure(self._worker_id, self.options.lease_seconds, started)

    # --- reaper thread ---

    def _look_after_others(self) -> None:
        """Take over from workers that died. Not between two beats: a worker that was frozen in a transaction holds the rows of its runs,
        and who waits for them would be silent for as long, and be given up in turn."""
        pause = 0.0  # the first look is at once: who died on this machine before us is known by its process
        while not self._ended.wait(pause):
            pause = self.options.lease_seconds / _BEATS_PER_LEASE
            try:
                self._watch.reap()
            except _AWAY as error:
                self._database_away(error)
            except Exception:
                logger.exception("reaping failed", worker=self._worker_id)
        connections.close_all()

    def _unregister(self) -> None:
        try:
            queue.unregister(self._worker_id)
            tallies.flush()
        except _AWAY as error:
            self._database_away(error)  # others will find this worker silent

    def _database_away(self, error: Exception) -> None:
        logger.warning("database away", worker=self._worker_id, error=str(error).split("\n")[0])
        connection.close()


def _ask_often() -> None:
    """On SQLite who waits for the write lock looks ever more seldom, and whoever comes later looks more often and is served: under load a beat
    could wait for most of a lease, and it counts from its beginning. So this thread's connection gives up soon, and begins a new beat."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {_BEAT_WAITS_MS}")


def _is_locked(error: Exception) -> bool:
    return connection.vendor == "sqlite" and "locked" in str(error)


def _raise_bug(future: Future[None]) -> None:
    future.result()
