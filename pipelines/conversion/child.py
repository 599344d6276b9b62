"""The program in the child: converts one file and leaves `result.json` beside the parts.

    python -c "…" JOB     where JOB is a JSON file, see `converting.py`

What it prints are progress (`0.25`), one number a line.
"""

import json
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from pipelines.conversion import workbooks, xml_records
from pipelines.conversion.faults import BadFile
from pipelines.conversion.tables import Parts

RESULT = "result.json"


class _NoPandas(MetaPathFinder):
    """Where pandas is installed, pyarrow imports it with the first list that it is given: half a second for nothing."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


class _Progress:
    """Prints how much is done, a hundred times at most."""

    def __init__(self) -> None:
        self._told = 0.0

    def __call__(self, share: float) -> None:
        if share >= self._told + 0.01:
            self._told = share
            print(f"{share:.3f}", flush=True)


def convert(job: dict[str, Any], parts: Parts, warn: Any, progress: Any) -> None:
    """Convert as `job` says: `kind` (`xml` or a workbook), and the fields of `Document` or `Sheet`. Errors: `BadFile`."""
    options = {**job["options"], "path": Path(job["options"]["path"])}
    if job["kind"] == "xml":
        xml_records.convert(xml_records.Document(**options), parts, warn, progress)
    else:
        workbooks.convert(workbooks.Sheet(**options), parts, warn, progress)


def main(job_file: str) -> None:
    """Convert, and write what was found: `{error}` or `{parts, rows, found, warnings}`."""
    sys.meta_path.insert(0, _NoPandas())
    folder = Path(job_file).parent
    job = json.loads(Path(job_file).read_text())
    warnings: list[str] = []
    parts = Parts(lambda: folder / f"part-{len(parts.files):06d}.parquet", frozenset(job["null_values"]))
    try:
        convert(job, parts, warnings.append, _Progress())
        found = {name: sorted(kinds) for name, kinds in parts.found.items()}
        result = {"parts": [path.name for path in parts.files], "rows": parts.rows, "found": found, "warnings": warnings}
    except BadFile as error:
        result = {"error": str(error)}
    except MemoryError:
        sys.exit(9)
    (folder / RESULT).write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
