"""The web server: Daphne, with bodies bounded while they arrive. `python -m brokoli_site.web --port 8080 brokoli_site.asgi:application`.

Daphne receives a whole body, into a temporary file, before the application hears of the request: without a bound here, one
client could fill the disk however strict the application is.
"""

from daphne import http_protocol
from daphne.cli import CommandLineInterface

# What the application may want to read, and a byte more, so that it still sees that there was too much. `settings.MAX_PIPELINE_BYTES`
# is not read here: Daphne configures itself before Django is set up, and a test keeps the two equal.
KEPT_BYTES = 5 * 1024 * 1024 + 1
# A client that sends a little too much hears a 413; one that goes on for ever is cut off.
MOST_BYTES = 64 * 1024 * 1024


class BoundedRequest(http_protocol.WebRequest):  # type: ignore[misc]  # Daphne has no types
    """Keeps no more of a body than the application would accept."""

    _received = 0

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        kept = max(0, KEPT_BYTES - self._received)
        self._received += len(data)
        if kept:
            super().handleContentChunk(data[:kept])
        if self._received > MOST_BYTES:
            self.channel.forceAbortClient()


def main() -> None:
    """Serve until told to stop; arguments are Daphne's."""
    # Daphne's factory looks the class up in its module; it has no other place to name one.
    http_protocol.WebRequest = BoundedRequest
    CommandLineInterface.entrypoint()


if __name__ == "__main__":
    main()
