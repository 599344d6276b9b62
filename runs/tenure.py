"""How long a worker may trust its leases, by its own clock alone."""

import time
from dataclasses import dataclass, field

# Linux counts the time in which the machine was suspended, as other machines' clocks did.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def clock() -> float:
    """Seconds that never step, whatever happens to the time of day."""
    return time.clock_gettime(_CLOCK)


@dataclass
class Tenure:
    """A worker's name and the end of its leases: one lease after the last beat that succeeded. Any thread may ask, at no cost.

    Others give a worker up when they have seen its beat stand still for a lease, and they see a beat later than it was begun:
    so this ends before theirs does. Once over it stays over. What was refused in between is not taken up again, even where
    nobody had taken the runs.
    """

    worker_id: str
    lease_seconds: float
    beaten: float  # by `clock`, taken before the beat was sent
    _over: bool = field(default=False, init=False)

    def holds(self) -> bool:
        if not self._over and clock() >= self.beaten + self.lease_seconds:
            self._over = True
        return not self._over

    def renew(self, beaten: float) -> bool:
        """Note a beat that succeeded. False when it came too late."""
        if not self.holds():
            return False
        self.beaten = beaten
        return True
