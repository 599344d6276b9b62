"""What a probe found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """The connection works. `server` is what the other end says of itself, "" when it says nothing."""

    message: str
    server: str = ""
