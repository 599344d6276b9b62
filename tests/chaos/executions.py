"""What the probes wrote down: which node executed when, by the machine's clock. Pure but for reading the files."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Execution:
    """One execution of a probe. From `first` to `last` (seconds) it was allowed to work; `ended` when it came to its end."""

    pid: int
    run: str
    node: str
    first: float
    last: float
    ended: bool = False


def read(folder: Path) -> list[Execution]:
    """All executions of a campaign."""
    found: dict[str, Execution] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            try:
                note = json.loads(line)
            except ValueError:
                continue  # its process was killed in the middle of the line
            execution = found.setdefault(note["id"], Execution(note["pid"], note["run"], note["node"], note["at"], note["at"]))
            execution.last = max(execution.last, note["at"])
            execution.ended |= note["what"] == "end"
    return list(found.values())


def doubles(executions: Iterable[Execution]) -> list[tuple[Execution, Execution]]:
    """Pairs that were allowed to work at the same time and must not have been: one node twice, or one run in two processes."""
    by_run: dict[str, list[Execution]] = defaultdict(list)
    for execution in executions:
        by_run[execution.run].append(execution)
    pairs = []
    for group in by_run.values():
        group.sort(key=lambda each: each.first)
        for index, one in enumerate(group):
            later = (other for other in group[index + 1 :] if other.first < one.last)
            pairs += [(one, other) for other in later if other.node == one.node or other.pid != one.pid]
    return pairs
