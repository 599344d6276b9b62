"""What a child process of a node prints, as log lines and progress."""

import re

from pipelines.nodes.base import NodeLogger

_MARK = re.compile(r"#(?P<word>[A-Z_]+):\s?(?P<text>.*)", re.DOTALL)
_NUMBER = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*%?\s*(?P<text>.*)", re.DOTALL)
_ERRORS = {"ERROR", "VALIDATION_FAILED"}
_INFOS = {"INFO", "VALIDATION_OK", "DEBUG"}


class PrintedLines:
    """Takes the lines of a child. Those of stderr may begin with `#WARNING:`, `#ERROR:` or `#PROGRESS:nn` (percent, then words if wanted)."""

    def __init__(self, log: NodeLogger) -> None:
        self._log = log

    def __call__(self, stream: str, line: str) -> None:
        if not line.strip():
            return
        mark = _MARK.match(line) if stream == "stderr" else None
        if mark is None:
            (self._log.info if stream == "stdout" else self._log.warning)(line)
        elif mark["word"] == "PROGRESS" and (number := _NUMBER.match(mark["text"])):
            self._log.progress(min(100.0, float(number["number"])) / 100, number["text"].strip())
        elif mark["word"] in _ERRORS:
            self._log.error(mark["text"])
        elif mark["word"] in _INFOS:
            self._log.info(mark["text"])
        else:
            self._log.warning(mark["text"] if mark["word"] == "WARNING" else line)
