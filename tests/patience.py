"""How long something may take on this machine now."""

import os

_MOST = 10.0


def within(seconds: float) -> float:
    """So many seconds of a machine that does nothing else. When more wants to run than it has processors, everything takes longer by that share."""
    return seconds * min(_MOST, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))
