"""What a fuzz finds, in a form that processes can tell each other."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Defect:
    """A check that an answer failed."""

    caller: str
    operation: str
    check: str
    title: str
    message: str
    answer: str
    curl: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Failures of one kind are told once."""
        return self.operation, self.check, self.title


@dataclass(slots=True)
class Tally:
    """What was asked and answered: statuses by operation (`GET /api/runs`), of all requests and of those that keep to the document."""

    requests: int = 0
    stopped: bool = False  # before all was asked, because the time was up
    probes: int = 0  # requests of checks: without credentials, or with wrong ones
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    allowed: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    refusals: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # of what keeps to the document, and why
    defects: dict[tuple[str, str, str], Defect] = field(default_factory=dict)

    def expect(self, operations: Iterable[str]) -> None:
        """These are to be asked; one that never was has no answers."""
        for operation in operations:
            self.statuses[operation].update(())

    def answered(self, operation: str, status: int, *, allowed: bool) -> None:
        self.statuses[operation][status] += 1
        if allowed:
            self.allowed[operation][status] += 1

    def plain(self) -> dict[str, Any]:
        """For another process."""
        counts = {name: {operation: list(found.items()) for operation, found in getattr(self, name).items()} for name in _COUNTS}
        facts = {"requests": self.requests, "probes": self.probes, "stopped": self.stopped}
        return {**facts, **counts, "defects": [asdict(defect) for defect in self.defects.values()]}

    def add(self, plain: Mapping[str, Any]) -> None:
        self.requests += plain["requests"]
        self.probes += plain["probes"]
        self.stopped |= plain["stopped"]
        for name in _COUNTS:
            for operation, found in plain[name].items():
                getattr(self, name)[operation].update(dict(found))
        for defect in plain["defects"]:
            self.note(Defect(**defect))

    def note(self, defect: Defect) -> None:
        self.defects.setdefault(defect.key, defect)


_COUNTS = ("statuses", "allowed", "refusals")
