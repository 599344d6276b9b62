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
        self._not_asked: list[str] = []

    def add(self, caller: str, plain: Mapping[str, Any]) -> None:
        self._all.add(plain)
        self._by_caller[caller].add(plain)

    def broken(self, what: str) -> None:
        self._broken.append(what)

    def not_asked(self, what: str) -> None:
        """The time was up before it began."""
        self._not_asked.append(what)

    def never_accepted(self) -> list[str]:
        """Calls that the administrator was refused each time: what is behind them was not looked at."""
        mine = self._by_caller.get("admin", Tally())
        return sorted(name for name, answered in mine.statuses.items() if not accepted(answered))

    def holes(self) -> list[str]:
        """Those of them that nobody foresaw. Who was stopped by the clock has not had the time to be accepted with each."""
        return [] if self._all.stopped or self._not_asked else [name for name in self.never_accepted() if name not in allowances.NEVER_ACCEPTED]

    def strangers_let_in(self) -> list[str]:
        """Calls that somebody without credentials was accepted with, though they are not for everybody."""
        theirs = self._by_caller.get("stranger", Tally()).statuses
        return sorted(name for name, answered in theirs.items() if name not in allowances.FOR_STRANGERS and accepted(answered))

    def good(self, *, whole: bool) -> bool:
        """`whole`: every call was aimed at."""
        return not self._all.defects and not self._broken and not self.strangers_let_in() and not (whole and self.holes())

    def text(self, *, verbose: bool, whole: bool, seconds: float) -> str:
        """For people; the last line is the summary."""
        lines = [*self._shares()] if verbose else []
        lines += [self._reached(name, tally) for name, tally in self._by_caller.items()]
        if self._all.stopped or self._not_asked:
            lines.append(
                "  The time was up before all was asked; give SECONDS for more. Not asked at all: " + (", ".join(self._not_asked) or "nobody")
            )
        lines += [f"LET IN {name}: a stranger was accepted" for name in self.strangers_let_in()]
        for defect in self._all.defects.values():
            again = f"make fuzz SEED={self._seed} DATABASE={self._database} CALLERS={defect.caller} OPERATIONS={shlex.quote(f'{defect.operation}$')}"
            lines += [f"DEFECT {defect.operation} as {defect.caller}: {defect.title} ({defect.check})"]
            lines += [f"    {line}" for line in (*defect.message.splitlines(), defect.answer, f"again: {again}", defect.curl) if line.strip()]
        lines += [f"BROKEN {what}" for what in self._broken]
        lines += [self._unreached(name) for name in self.never_accepted() if whole]
        lines.append(self._summary(seconds))
        return "\n".join(lines) + "\n"

    def _reached(self, caller: str, tally: Tally) -> str:
        """How much of a caller's requests got anywhere. Half of them break the document on purpose."""
        every, allowed = _sum(tally.statuses), _sum(tally.allowed)
        calls = sum(1 for answered in tally.statuses.values() if accepted(answered))
        return (
            f"  {caller}: {calls} of {len(tally.statuses)} calls accepted at least once; {_share(every):.0f} % of {every.total():,} requests, "
            f"{_share(allowed):.0f} % of the {allowed.total():,} that the document allows; {tally.probes:,} more without credentials"
        )

    def _unreached(self, name: str) -> str:
        """A hole, or a call that is known to be one, with the reason."""
        answered = _counts(self._by_caller["admin"].statuses[name]) or "never asked"
        known = allowances.NEVER_ACCEPTED.get(name)
        return f"  never accepted, as foreseen: {name}: {known}" if known else f"NEVER ACCEPTED {name}: {answered}"

    def _shares(self) -> list[str]:
        lines = []
        for name, answered in sorted(self._all.statuses.items()):
            kept = self._all.allowed[name]
            share = f"{_share(answered):3.0f} % accepted, {_share(kept):3.0f} % of what the document allows"
            lines.append(f"  {share}  {name}: {_counts(answered)}")
            lines += [f"        {count} x {reason}" for reason, count in self._all.refusals[name].most_common(5)]
        return lines

    def _summary(self, seconds: float) -> str:
        answered = _sum(self._all.statuses)
        callers = ", ".join(f"{name} {tally.requests:,}" for name, tally in self._by_caller.items())
        failures = len(self._all.defects) + len(self._broken) + len(self.strangers_let_in())
        return (
            f"Fuzz on {self._database}: {self._all.requests:,} requests ({callers}) to {len(self._all.statuses)} calls, {_share(answered):.0f} % "
            f"accepted, SEED={self._seed}, {seconds:.0f} s, failures: {failures}, calls never accepted: {len(self.holes())}"
        )


def accepted(answered: Mapping[int, int]) -> int:
    return sum(count for status, count in answered.items() if 200 <= status < 300)


def _sum(statuses: Mapping[str, Counter[int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for answered in statuses.values():
        total.update(answered)
    return total


def _share(answered: Counter[int]) -> float:
    return 100 * accepted(answered) / max(1, answered.total())


def _counts(answered: Mapping[int, int]) -> str:
    return ", ".join(f"{count} of {status}" for status, count in sorted(answered.items()))
