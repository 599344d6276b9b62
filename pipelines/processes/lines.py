"""What a child prints, cut into lines. In the worker: memory stays flat whatever is printed."""

from collections.abc import Iterator
from dataclasses import dataclass, field

LONGEST_LINE = 8 * 1024  # bytes
MOST_LINES = 9_000  # on both streams together; a node's log takes 10,000, and the node has something to say too


@dataclass
class Budget:
    """How many lines may still be kept, and how many were not."""

    left: int = MOST_LINES
    dropped: int = 0


@dataclass
class Lines:
    """One stream. `feed` it bytes as they come; `end` gives a last line without a line break."""

    budget: Budget
    _part: bytearray = field(default_factory=bytearray)
    _cut: int = 0  # bytes of the present line that were not kept

    def feed(self, data: bytes) -> Iterator[str]:
        if not data:
            return
        if not self.budget.left:
            self._drop(data)
            return
        *whole, rest = data.split(b"\n")
        for number, piece in enumerate(whole):
            if not self.budget.left:
                self.budget.dropped += len(whole) - number
                break
            self._add(piece)
            yield self._take()
        self._add(rest)

    def end(self) -> Iterator[str]:
        if not self._part:
            return
        if self.budget.left:
            yield self._take()
        else:
            self.budget.dropped += 1
            self._part.clear()

    def _drop(self, data: bytes) -> None:
        self.budget.dropped += data.count(b"\n")
        self._part[:] = b"x" if not data.endswith(b"\n") else b""

    def _add(self, piece: bytes) -> None:
        room = LONGEST_LINE - len(self._part)
        self._part += piece[: max(0, room)]
        self._cut += max(0, len(piece) - room)

    def _take(self) -> str:
        text = self._part.decode("utf-8", "replace").rstrip("\r")
        if self._cut:
            text += f"… ({self._cut} more bytes)"
        self._part.clear()
        self._cut = 0
        self.budget.left -= 1
        return text
