"""What passes between a run that executes and those around it: what its worker lends it, what it is told meanwhile, and how it ended."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from brokoli_site.common.errors import NodeError
from pipelines.nodes.base import Parked
from runs import pools
from runs.artifacts import ArtifactStore
from runs.engine import DataEngine, NodeResult
from runs.states import RunStatus


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the execution ended. `pending` gives the run back to the queue, with `parked_seconds` not to be claimed before these are over.

    `announced`: the run's log says that it executes.
    """

    status: RunStatus
    reason: str = ""
    parked_seconds: float | None = None
    announced: bool = True


class Control:
    """What others tell a run while it executes. Any thread may call; the run's own thread wakes up and reads."""

    def __init__(self, lease_is_held: Callable[[], bool] = lambda: True) -> None:
        self.lease_is_held = lease_is_held  # by the worker's own clock; it needs no other thread to say so
        self.inbox: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self.cancelled = threading.Event()  # start nothing more, end as cancelled
        self.forced = threading.Event()  # and stop what executes
        self.draining = threading.Event()  # start nothing more, give the run back
        self.halted = threading.Event()  # and stop what executes
        self.lost = threading.Event()  # the lease is gone: stop everything, write nothing
        self.slot_free = threading.Event()  # of some pool, perhaps: look

    @property
    def must_give_up(self) -> bool:
        return self.lost.is_set() or not self.lease_is_held()

    def tell(self, *events: threading.Event) -> None:
        for event in events:
            event.set()
        self.inbox.put(None)


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt of a node came back from its thread."""

    node_id: str
    attempt: int
    result: NodeResult | Parked | NodeError


@dataclass(frozen=True, slots=True)
class Resources:
    """What a worker lends to the runs that it executes."""

    engine: DataEngine
    store: ArtifactStore
    pool: Executor
    node_concurrency: int
    bell: pools.Bell = field(default_factory=pools.Bell)
