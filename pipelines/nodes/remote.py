"""What `source_file` and `sink_file` do with files behind a connection."""

from pathlib import Path

from pipelines.nodes.base import NodeContext
from pipelines.nodes.reading import SourceFile
from pipelines.nodes.unpacking import MOST_BYTES
from pipelines.remote_files import opening
from pipelines.remote_files.folder import RemoteFile, RemoteFolder

_DRY_RUN_BYTES = 60 * 1024**2  # that a dry run fetches of a file: it has no disk, and room for little more in memory


def fetched(context: NodeContext, conn_id: str, path: str) -> list[SourceFile]:
    """The files that `path` (a pattern is allowed) names below the connection's base, here. Errors: `NodeError`."""
    with opening.opened(context, conn_id, "read") as folder:
        files = folder.find(path)
        return [_fetch(context, folder, file, number, len(files)) for number, file in enumerate(files)]


def _fetch(context: NodeContext, folder: RemoteFolder, file: RemoteFile, number: int, count: int) -> SourceFile:
    if context.memory_file is not None:
        target, most = context.memory_file(), _DRY_RUN_BYTES
    else:
        target, most = context.scratch() / Path(file.path).name, MOST_BYTES
    with target.open("wb") as out:
        folder.fetch(file, out, most, context.stop.check)
    context.log.info(f"Fetched '{file.path}' ({target.stat().st_size:,} bytes).")
    context.log.progress((number + 1) / (2 * count), f"Fetched {file.path}")
    return SourceFile(target, file.path)


def stored(context: NodeContext, conn_id: str, path: str, draft: Path) -> None:
    """Make `path` below the connection's base the content of `draft`. Errors: `NodeError`; the stop's reason."""
    with opening.opened(context, conn_id, "write") as folder:
        folder.store(draft, path, context.stop.check)
    context.log.info(f"Stored '{path}' ({draft.stat().st_size:,} bytes).")
