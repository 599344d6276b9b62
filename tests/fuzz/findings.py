"""What a fuzz finds, in a form that processes can tell each other."""

from collections import Counter, defaultdict
from collections.abc import Mapping
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
    """What was asked and answered: statuses by operation (`GET /api/runs`), and what was wrong."""

    requests: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    defects: dict[tuple[str, str, str], Defect] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For another process."""
        return {
            "requests": self.requests,
            "statuses": {operation: dict(found) for operation, found in self.statuses.items()},
            "defects": [asdict(defect) for defect in self.defects.values()],
        }

    def add(self, plain: Mapping[str, Any]) -> None:
        self.requests += plain["requests"]
        for operation, found in plain["statuses"].items():
            self.statuses[operation].update({int(status): count for status, count in found.items()})
        for defect in plain["defects"]:
            self.note(Defect(**defect))

    def note(self, defect: Defect) -> None:
        self.defects.setdefault(defect.key, defect)
