"""What dbt left: `run_results.json` and `manifest.json`. https://docs.getdbt.com/reference/artifacts/dbt-artifacts"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brokoli_site.common.errors import NodeError

_MOST_BYTES = 256 * 1024**2
_FAILED = ("error", "fail", "runtime error", "partial success")
_MOST_SHOWN = 5
_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one node of the project: `kind` is model, test, seed, snapshot, …"""

    unique_id: str
    status: str
    seconds: float
    message: str

    @property
    def kind(self) -> str:
        return self.unique_id.partition(".")[0]

    @property
    def name(self) -> str:
        return self.unique_id.split(".")[2] if self.unique_id.count(".") >= 2 else self.unique_id

    @property
    def failed(self) -> bool:
        return self.status in _FAILED


def outcomes(folder: Path) -> list[Outcome]:
    """In dbt's order; none where the command leaves no results. Errors: `NodeError`."""
    read = _read(folder / "run_results.json")
    found = read.get("results") if read is not None else None
    return [_outcome(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _outcome(one: Mapping[str, Any]) -> Outcome:
    seconds = one.get("execution_time")
    return Outcome(
        str(one.get("unique_id") or ""), str(one.get("status") or ""), float(seconds) if isinstance(seconds, int | float) else 0.0, _text(one)
    )


def _text(one: Mapping[str, Any]) -> str:
    return " ".join(str(one.get("message") or "").split())


def complaint(found: Sequence[Outcome]) -> str:
    """The failed ones with dbt's message, "" when none failed."""
    failed = [one for one in found if one.failed]
    shown = "; ".join(f"{one.kind} {one.name}: {one.message[:_LONGEST] or one.status}" for one in failed[:_MOST_SHOWN])
    return shown + (f"; and {len(failed) - _MOST_SHOWN} more" if len(failed) > _MOST_SHOWN else "")


def relation_of(folder: Path, model: str) -> str:
    """The table of a model, as SQL of its database. Errors: `NodeError` when the project has no such model, or it makes no table."""
    read = _read(folder / "manifest.json") or {}
    nodes = read.get("nodes")
    known = {str(one.get("name")): one for one in nodes.values() if isinstance(one, dict)} if isinstance(nodes, dict) else {}
    made = sorted(name for name, one in known.items() if one.get("relation_name"))
    if model not in made:
        listed = ", ".join(made[:20]) + (", …" if len(made) > 20 else "")
        raise NodeError(f"Field 'output_model': the project makes no table '{model}'. It makes: {listed or 'none'}.")
    return str(known[model]["relation_name"])


def _read(file: Path) -> dict[str, Any] | None:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise NodeError(f"dbt left a {file.name} of more than {_MOST_BYTES // 1024**2} MiB.")
        read = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise NodeError(f"dbt left a {file.name} that is not valid JSON.") from error
    return read if isinstance(read, dict) else None
