"""What became of a fuzz: what was asked and answered, what was wrong, and which calls were never accepted."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from tests.fuzz import allowances
from tests.fuzz.findings import Tally


class Verdict:
    """Of all jobs on one database."""

    def __init__(self, database: str, seed: int) -> None:
        self._database = database
        self._seed = seed
        self._all = Tally()
        self._by_caller: dict[str, Tally] = defaultdict(Tally)
        self._broken: list[str] = []

    def add(self, caller: str, plain: Mapping[str, Any]) -> None:
        self._all.add(plain)
        self._by_caller[caller].add(plain)

    def broken(self, what: str) -> None:
        self._broken.append(what)

    def never_accepted(self) -> list[str]:
        """Calls that the administrator was refused each time: what is behind them was not looked at."""
        mine = self._by_caller.get("admin", Tally()).statuses
        return sorted(name for name, answered in mine.items() if name not in allowances.NEVER_ACCEPTED and not accepted(answered))

    def strangers_let_in(self) -> list[str]:
        """Calls that somebody without credentials was accepted with, though they are not for everybody."""
        theirs = self._by_caller.get("stranger", Tally()).statuses
        return sorted(name for name, answered in theirs.items() if name not in allowances.FOR_STRANGERS and accepted(answered))

    def good(self, *, whole: bool) -> bool:
        """`whole`: every call was aimed at."""
        return not self._all.defects and not self._broken and not self.strangers_let_in() and not (whole and self.never_accepted())

    def text(self, *, verbose: bool, whole: bool, seconds: float) -> str:
        """For people; the last line is the summary."""
        lines = [*self._shares()] if verbose else []
        lines += [f"LET IN {name}: a stranger was accepted" for name in self.strangers_let_in()]
        for defect in self._all.defects.values():
            again = f"make fuzz SEED={self._seed} DATABASE={self._database} CALLERS={defect.caller} OPERATIONS={shlex.quote(f'{defect.operation}$')}"
            lines += [f"DEFECT {defect.operation} as {defect.caller}: {defect.title} ({defect.check})"]
            lines += [f"    {line}" for line in (*defect.message.splitlines(), defect.answer, f"again: {again}", defect.curl) if line.strip()]
        lines += [f"BROKEN {what}" for what in self._broken]
        lines += [f"NEVER ACCEPTED {name}: {_counts(self._by_caller['admin'].statuses[name])}" for name in self.never_accepted() if whole]
        lines.append(self._summary(seconds))
        return "\n".join(lines) + "\n"

    def _shares(self) -> list[str]:
        lines = []
        for name, answered in sorted(self._all.statuses.items()):
            lines.append(f"  {100 * accepted(answered) / answered.total():5.1f} % accepted  {name}: {_counts(answered)}")
        return lines

    def _summary(self, seconds: float) -> str:
        answered: Counter[int] = Counter()
        for found in self._all.statuses.values():
            answered.update(found)
        share = 100 * accepted(answered) / max(1, answered.total())
        callers = ", ".join(f"{name} {tally.requests:,}" for name, tally in self._by_caller.items())
        return (
            f"Fuzz on {self._database}: {self._all.requests:,} requests ({callers}) to {len(self._all.statuses)} calls, {share:.0f} % accepted, "
            f"SEED={self._seed}, {seconds:.0f} s, failures: {len(self._all.defects) + len(self._broken) + len(self.strangers_let_in())}"
        )


def accepted(answered: Mapping[int, int]) -> int:
    return sum(count for status, count in answered.items() if 200 <= status < 300)


def _counts(answered: Mapping[int, int]) -> str:
    return ", ".join(f"{count} of {status}" for status, count in sorted(answered.items()))
