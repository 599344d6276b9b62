"""Where the server keeps what is its own: no node, script, dry run or try of a connection gets to see a file there."""

from pathlib import Path

from django.conf import settings


def private_paths() -> tuple[Path, ...]:
    """The home, the artifacts, the folder of `file://` secrets, and the database where it is a file; each may lie in a data folder."""
    database = settings.DATABASES["default"]
    file = (Path(database["NAME"]),) if database["ENGINE"].endswith("sqlite3") else ()
    return (settings.HOME, settings.ARTIFACTS, settings.SECRETS_DIR, *file)
