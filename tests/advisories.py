"""`make audit`: are there known vulnerabilities in what is installed? pip-audit asks; this says plainly what its answer is worth.

Exit status: 0 none is known of all that is installed; 1 there is one; 3 nobody knows: the service was not reached, or does not know all of it.
pip-audit itself ends with 0 also where it could look nothing up. Further arguments are pip-audit's.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

CLEAN, FOUND, UNKNOWN = 0, 1, 3
LENIENT = "--unknown-is-no-failure"
_PATIENCE_SECONDS = 600
_SHOWN = 10


@dataclass
class Verdict:
    """What is known of each package, as lines to print."""

    found: list[str] = field(default_factory=list)
    looked_up: int = 0
    skipped: list[str] = field(default_factory=list)
    fault: str = ""

    @property
    def status(self) -> int:
        if self.found:
            return FOUND
        return CLEAN if self.looked_up and not self.skipped and not self.fault else UNKNOWN

    def lines(self) -> list[str]:
        lines = [f"VULNERABLE: {line}" for line in self.found]
        if self.fault:
            lines.append(f"pip-audit could not finish: {self.fault}")
        if self.skipped:
            more = f" and {len(self.skipped) - _SHOWN} more" if len(self.skipped) > _SHOWN else ""
            lines.append(f"Not audited, unknown to the service: {', '.join(self.skipped[:_SHOWN])}{more}.")
        if not self.looked_up:
            return [*lines, "NOTHING WAS AUDITED. That says nothing about whether the packages are safe."]
        known = "no known vulnerability" if not self.found else f"{len(self.found)} known vulnerabilities"
        return [*lines, f"{self.looked_up} packages audited, {known}; {len(self.skipped)} not audited."]


def read(report: str, complaints: str) -> Verdict:
    """The verdict of pip-audit's JSON (`{"dependencies": [{"name", "version", "vulns"} | {"name", "skip_reason"}]}`), or of its lack."""
    try:
        dependencies: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Verdict(fault=(complaints.strip().splitlines() or ["it said nothing"])[-1][:300])
    verdict = Verdict()
    for dependency in dependencies:
        if "skip_reason" in dependency:
            verdict.skipped.append(str(dependency["name"]))
            continue
        verdict.looked_up += 1
        for flaw in dependency.get("vulns", ()):
            mended = ", ".join(flaw.get("fix_versions", ())) or "no version yet"
            verdict.found.append(f"{dependency['name']} {dependency['version']}: {flaw['id']}, mended in {mended}")
    return verdict


def ask(arguments: Sequence[str]) -> Verdict:
    """Run pip-audit on what is installed beside this Python, unless the arguments name another place."""
    what = [] if "--path" in arguments else ["--local", "--skip-editable"]
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "10", *what, *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Verdict(fault=f"it took longer than {_PATIENCE_SECONDS} s")
    return read(ended.stdout, ended.stderr)


def main(arguments: Sequence[str]) -> int:
    verdict = ask([argument for argument in arguments if argument != LENIENT])
    sys.stdout.writelines(f"{line}\n" for line in verdict.lines())
    return CLEAN if verdict.status == UNKNOWN and LENIENT in arguments else verdict.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
