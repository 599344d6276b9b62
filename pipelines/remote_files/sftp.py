"""Files on an SFTP server, below the connection's base path."""

import contextlib
import posixpath
import secrets
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

import paramiko

from brokoli_site.common.errors import BrokoliError, NodeError, TransientNodeError
from pipelines import file_servers
from pipelines.nodes.base import Stop
from pipelines.remote_files.folder import MAGIC, MOST_ENTRIES, MOST_FILES, RemoteFile, missing, name_matches, parts_of, too_large, too_many
from pipelines.vault import ConnectionDetails

_SECONDS = 30.0  # for the login, and for each answer
_PATIENCE = 0.5
_CHUNK = 256 * 1024
_AHEAD = 32  # requests that are under way while a file is fetched


class SftpFolder:
    """Implements `folder.RemoteFolder`."""

    def __init__(self, client: paramiko.SFTPClient, host: str, base: str) -> None:
        self._client, self._host, self._base = client, host, base

    @classmethod
    @contextmanager
    def opened(cls, details: ConnectionDetails, stop: Stop) -> Iterator[Self]:
        """Errors: those of `file_servers.opened`."""
        with file_servers.opened(details, _SECONDS) as client:
            # A node that is told to stop ends by itself between two pieces and takes its draft away; what hangs is broken off.
            breaking_off = threading.Timer(_PATIENCE, client.close)
            breaking_off.daemon = True
            stop.on_stop(breaking_off.start)
            try:
                yield cls(client, details.host, details.schema or ".")
            except (BrokoliError, OSError, EOFError, paramiko.SSHException):
                stop.check()  # it broke off because it was told to
                raise
            finally:
                breaking_off.cancel()

    def find(self, path: str) -> Sequence[RemoteFile]:
        parts = parts_of(path)
        with self._told(path):
            if not MAGIC.search(path):
                return [self._file("/".join(parts), path)]
            found: list[RemoteFile] = []
            budget = iter(range(MOST_ENTRIES))
            for one in self._matching((), parts, budget):
                found.append(one)
                if len(found) > MOST_FILES:
                    raise too_many(path)
        if next(budget, None) is None:
            raise too_many(path)
        if not found:
            raise missing(path)
        return sorted(found, key=lambda one: one.path)

    def fetch(self, file: RemoteFile, target: BinaryIO, most_bytes: int, check: Callable[[], None]) -> None:
        if file.size is not None and file.size > most_bytes:
            raise too_large(file.path, most_bytes)
        count = 0
        with self._told(file.path), self._client.open(self._full(file.path), "rb") as source:
            source._prefetch_thread = _quiet(source._prefetch_thread)
            source.prefetch(file.size, max_concurrent_requests=_AHEAD)
            while chunk := source.read(_CHUNK):
                check()
                count += len(chunk)
                if count > most_bytes:
                    raise too_large(file.path, most_bytes)
                target.write(chunk)
        if file.size is not None and count < file.size:
            raise TransientNodeError(f"'{file.path}' was cut off after {count:,} of {file.size:,} bytes; it may be written to right now.")

    def store(self, source: Path, path: str, check: Callable[[], None]) -> None:
        parts = parts_of(path)
        full = self._full("/".join(parts))
        draft = posixpath.join(posixpath.dirname(full), f".{parts[-1][:100]}.{secrets.token_hex(4)}.part")
        with self._told(path):
            self._make_folders(parts[:-1])
            try:
                with source.open("rb") as file, self._client.open(draft, "wb") as out:
                    out.set_pipelined(True)
                    while chunk := file.read(_CHUNK):
                        check()
                        out.write(chunk)
                self._check_size(draft, source, path)
                check()
                self._rename(draft, full)
            except BaseException:
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    self._client.remove(draft)
                raise

    def _check_size(self, draft: str, source: Path, path: str) -> None:
        size, wanted = self._client.stat(draft).st_size, source.stat().st_size
        if size is not None and size != wanted:
            raise TransientNodeError(f"'{path}' was not written whole: {size:,} of {wanted:,} bytes arrived. The disk of {self._host} may be full.")

    def _rename(self, draft: str, full: str) -> None:
        try:
            self._client.posix_rename(draft, full)
        except OSError as error:
            # A server without OpenSSH's extension has only the rename that replaces nothing.
            if "unsupported" not in str(error).lower():
                raise
            with contextlib.suppress(FileNotFoundError):
                self._client.remove(full)
            self._client.rename(draft, full)

    def _make_folders(self, parts: Sequence[str]) -> None:
        for count in range(1, len(parts) + 1):
            folder = self._full("/".join(parts[:count]))
            try:
                self._client.stat(folder)
            except FileNotFoundError:
                with contextlib.suppress(OSError):  # another made it meanwhile; if not, writing tells
                    self._client.mkdir(folder)

    def _file(self, path: str, asked: str) -> RemoteFile:
        facts = self._client.stat(self._full(path))
        if not stat.S_ISREG(facts.st_mode or stat.S_IFREG):
            raise NodeError(f"'{asked}' is not a regular file.")
        return RemoteFile(path, facts.st_size)

    def _matching(self, above: tuple[str, ...], pattern: Sequence[str], budget: Iterator[int]) -> Iterator[RemoteFile]:
        first, rest = pattern[0], pattern[1:]
        if not MAGIC.search(first) and rest:
            yield from self._matching((*above, first), rest, budget)
            return
        if first == "**":
            yield from self._matching(above, rest or ("*",), budget)
        for entry in self._entries(above, budget):
            path = (*above, entry.filename)
            is_folder = stat.S_ISDIR(entry.st_mode or 0)
            if first == "**" and is_folder and not entry.filename.startswith("."):
                yield from self._matching(path, pattern, budget)
            elif first != "**" and name_matches(entry.filename, first):
                if rest and is_folder:
                    yield from self._matching(path, rest, budget)
                elif not rest and not is_folder:
                    yield self._file("/".join(path), "/".join(path))

    def _entries(self, folder: tuple[str, ...], budget: Iterator[int]) -> Sequence[paramiko.SFTPAttributes]:
        """All at once: a listing reads ahead, and takes no other request meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            found = []
            for entry in self._client.listdir_iter(self._full("/".join(folder))):
                if next(budget, None) is None:  # and never mind the rest, of which there may be no end
                    raise too_many("/".join(folder) or ".")
                found.append(entry)
            return found
        return []

    def _full(self, path: str) -> str:
        return posixpath.join(self._base, path)

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise missing(path) from error
        except PermissionError as error:
            raise NodeError(f"{self._host} does not let this user read or write '{path}'.") from error
        except (TimeoutError, EOFError, ConnectionError, paramiko.SSHException) as error:
            raise TransientNodeError(f"{self._host} broke off, or did not answer in time, at '{path}'.") from error
        except OSError as error:
            if error.errno is not None or error.filename is not None:  # of our own disk
                raise
            raise TransientNodeError(f"{self._host} refused '{path}' ({error}).") from error


def _quiet(prefetch: Callable[..., None]) -> Callable[..., None]:
    """Paramiko asks ahead in a thread of its own. When the session is closed there is nobody whom its error would tell anything."""

    def run(*arguments: object) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            prefetch(*arguments)

    return run
