"""Draws docs/img/demo.svg, the README's picture: what the demo prints, as it prints it. Needs the examples: `make picture`."""

import os
import re
import sys
from pathlib import Path

from rich.console import Console

from brokoli_site import environment
from examples.demo import perform
from examples.local_server import LocalServer, free_port

PICTURE = Path(__file__).parent / "img" / "demo.svg"
_SHOWN_PORT = 8080  # where the demo serves for the reader, wherever it did for the picture


def main() -> int:
    port = free_port()
    console = Console(record=True, width=124, force_terminal=False)
    with LocalServer(port, environment.load(os.environ)["BROKOLI_HOME"] / "demo.log") as server:
        succeeded = perform(server, console)
    picture = console.export_svg(title="make demo").replace(f"localhost:{port}", f"localhost:{_SHOWN_PORT}")
    # The reader's own monospaced font will do; a picture fetches nothing from elsewhere.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
