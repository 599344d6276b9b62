"""dbt's log, one JSON object a line (`--log-format json`), as log entries and progress."""

import json
from typing import Any

from pipelines.nodes.base import NodeLogger
from pipelines.nodes.printed import PrintedLines

_LEVELS = {"error": "error", "warn": "warning", "warning": "warning", "info": "info"}
_KEPT_ERRORS = 10


class Messages:
    """Takes the lines of the child. `errors` are the last that dbt told of."""

    def __init__(self, log: NodeLogger) -> None:
        self._log = log
        self._plain = PrintedLines(log)
        self.errors: list[str] = []

    def __call__(self, stream: str, line: str) -> None:
        event = _event(line)
        if event is None:
            self._plain(stream, line)
            return
        info, data = event
        level, message = _LEVELS.get(str(info.get("level"))), str(info.get("msg") or "").strip()
        if level is None or not message:
            return
        getattr(self._log, level)(message)
        if level == "error":
            self.errors = [*self.errors, message][-_KEPT_ERRORS:]
        done, total = data.get("index"), data.get("total")
        # Of each node there is a line at its start and one at its end; only that one tells how long it took.
        if "execution_time" in data and isinstance(done, int) and isinstance(total, int) and total > 0:
            self._log.progress(min(1.0, done / total), f"{done} of {total} done")


def _event(line: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    if not line.startswith("{"):
        return None
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return None
    info, data = (read.get("info"), read.get("data")) if isinstance(read, dict) else (None, None)
    return (info, data if isinstance(data, dict) else {}) if isinstance(info, dict) else None
