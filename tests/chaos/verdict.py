"""The figures of a campaign, and which promises they break. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_GRACE_SECONDS = 10.0  # reclaiming takes a lease and at most this


@dataclass
class Verdict:
    """Lists name what is wrong, for whoever looks for the cause."""

    database: str
    seed: int
    lease_seconds: float
    accepted: int = 0
    ended: int = 0
    strikes: Mapping[str, int] = field(default_factory=dict)
    restarts: int = 0
    lost: Sequence[str] = ()
    untold: Sequence[str] = ()  # runs that no client was told of
    astray: Sequence[str] = ()  # ended otherwise than their pipeline has it
    doubles: Sequence[str] = ()
    double_finishes: Sequence[str] = ()
    stale_attempted: int = 0
    stale_accepted: Sequence[str] = ()
    reclaims: Sequence[float] = ()
    nodes_started: int = 0
    nodes_lost: int = 0
    nodes_unexplained: Sequence[str] = ()
    told_to_wait: int = 0
    client_errors: Mapping[str, int] = field(default_factory=dict)
    files_wrong: Sequence[str] = ()
    wall_seconds: float = 0.0

    def broken(self) -> list[str]:
        """The promises that were broken, a line each."""
        lists = {
            "runs were lost": self.lost,
            "runs were made that no client was told of": self.untold,
            "runs ended as they should not have": self.astray,
            "executions were doubled at the same time": self.doubles,
            "runs ended twice": self.double_finishes,
            "stale writes were accepted": self.stale_accepted,
            "nodes were repeated though nobody struck their worker": self.nodes_unexplained,
            "files that runs wrote are wrong": self.files_wrong,
            "client errors": [f"{count} x {kind}" for kind, count in self.client_errors.items()],
        }
        found = [f"{len(names)} {sentence}: {'; '.join(names[:5])}" for sentence, names in lists.items() if names]
        if self.p(0.99) > self.lease_seconds + _GRACE_SECONDS:
            found.append(f"reclaiming took {self.p(0.99):.1f} s at p99, more than the lease and {_GRACE_SECONDS:g} s")
        return found

    def p(self, share: float) -> float:
        """Seconds within which that share of the reclaims were done (nearest rank); 0 without any."""
        return self.reclaims[max(0, math.ceil(share * len(self.reclaims)) - 1)] if self.reclaims else 0.0

    def table(self) -> str:
        errors = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.client_errors.items())) or "0"
        strikes = ", ".join(f"{count} {name}" for name, count in sorted(self.strikes.items()))
        rows = [
            ("database", f"{self.database}" + (f" (restarted {self.restarts} times)" if self.restarts else "")),
            ("strikes", strikes),
            ("runs accepted", f"{self.accepted}"),
            ("runs ended", f"{self.ended}"),
            ("runs lost", f"{len(self.lost)}"),
            ("runs that no client was told of", f"{len(self.untold)}"),
            ("runs ended otherwise than they should", f"{len(self.astray)}"),
            ("executed twice at the same time", f"{len(self.doubles)}"),
            ("double finishes", f"{len(self.double_finishes)}"),
            ("stale writes attempted / accepted", f"{self.stale_attempted} / {len(self.stale_accepted)}"),
            ("time to reclaim p50 / p99", f"{self.p(0.5):.1f} s / {self.p(0.99):.1f} s of {len(self.reclaims)} (lease {self.lease_seconds:g} s)"),
            ("node executions repeated", f"{self.nodes_lost} of {self.nodes_started} ({100 * self.nodes_lost / max(1, self.nodes_started):.1f} %)"),
            ("repeated though nobody struck their worker", f"{len(self.nodes_unexplained)}"),
            ("files wrong", f"{len(self.files_wrong)}"),
            ("client errors", errors),
            ('of them "locked"', f"{self.client_errors.get('locked', 0)}"),
            ("clients told to wait (503, Retry-After)", f"{self.told_to_wait}"),
            ("wall time", f"{self.wall_seconds:.0f} s"),
            ("seed", f"{self.seed}"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)
