"""Where the values of secrets are kept besides our own database: `env://NAME`, `file://NAME`, and stores of third parties.

A store is a class with `scheme` and `read`, registered as an entry point of the group `brokoli.secret_stores`.
"""

import functools
import os
import re
import stat
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import structlog
from django.conf import settings

from brokoli_site.common.errors import NodeError

ENTRY_POINT_GROUP = "brokoli.secret_stores"
# Only these: the rest of the server's environment holds its own keys.
ENVIRONMENT_PREFIX = "BROKOLI_CREDENTIAL_"
MOST_BYTES = 64 * 1024
_log = structlog.get_logger(__name__)
_REFERENCE = re.compile(r"(?P<scheme>[a-z][a-z0-9_-]{0,30})://(?P<name>[^\s]{1,500})")


class SecretUnavailable(NodeError):
    """A secret cannot be had from the store that keeps it."""

    code = "secret_unavailable"


class SecretStore(Protocol):
    """A place that keeps secrets. One instance serves all threads."""

    scheme: str  # `vault` of `vault://team/warehouse#password`

    def read(self, name: str) -> str:
        """The secret of that name (what follows `scheme://`). Errors: `SecretUnavailable` with a sentence that names no value."""


class EnvironmentStore:
    """Environment variables of the server and its workers."""

    scheme = "env"

    @staticmethod
    def may_read(name: str) -> bool:
        return name.startswith(ENVIRONMENT_PREFIX) and len(name) > len(ENVIRONMENT_PREFIX)

    def read(self, name: str) -> str:
        if not self.may_read(name):
            raise SecretUnavailable(f"env://{name}: only environment variables whose names start with {ENVIRONMENT_PREFIX} can be read.")
        if name not in os.environ:
            raise SecretUnavailable(f"env://{name}: the environment of this process has no such variable.")
        return os.environ[name]


class FileStore:
    """Files in the secrets folder, as container platforms mount them. One line end at the end is not part of the secret."""

    scheme = "file"

    def read(self, name: str) -> str:
        try:
            content = _content(self._path(name))
            text = content.decode("utf-8")
        except (OSError, ValueError) as error:
            raise SecretUnavailable(f"file://{name}: the file is missing, cannot be read, or is no UTF-8 text.") from error
        if len(content) > MOST_BYTES:
            raise SecretUnavailable(f"file://{name}: the file is larger than {MOST_BYTES} bytes.")
        return text.removesuffix("\n").removesuffix("\r")

    def _path(self, name: str) -> Path:
        """The real file, inside the folder whatever links lead to it. Errors: `SecretUnavailable`, `OSError`, `ValueError` for a NUL."""
        root = Path(os.path.realpath(settings.SECRETS_DIR))
        real = Path(os.path.realpath(root / name.lstrip("/")))
        if ".." in Path(name).parts or not real.is_relative_to(root) or real == root:
            raise SecretUnavailable(f"file://{name}: only files in the folder BROKOLI_SECRETS_DIR can be read.")
        return real


class BrokenStore:
    """In the place of a third party's that could not be loaded, so that no name of a secret is taken for the secret."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme

    def read(self, name: str) -> str:
        raise SecretUnavailable(f"{self.scheme}://{name}: the store cannot be loaded on this server; its log says why.")


def _content(path: Path) -> bytes:
    """No more than a byte too many. A pipe or a device would keep the reader waiting. Errors: `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a regular file")
        return file.read(MOST_BYTES + 1)


def is_reference(value: str) -> bool:
    """Whether `value` names a secret in a store that this server knows, instead of being one."""
    match = _REFERENCE.fullmatch(value)
    return match is not None and match["scheme"] in _stores()


def fault_in(value: str) -> str:
    """What can be said against a reference before it is used: a sentence, or "". A name may exist where a worker runs, and not here."""
    match = _REFERENCE.fullmatch(value)
    if match is None or match["scheme"] != EnvironmentStore.scheme or EnvironmentStore.may_read(match["name"]):
        return ""
    return f"Only environment variables whose names start with {ENVIRONMENT_PREFIX} can be read."


def fetch(value: str) -> str:
    """The secret that `value` names; `value` itself when it names none. Errors: `SecretUnavailable`."""
    match = _REFERENCE.fullmatch(value)
    store = _stores().get(match["scheme"]) if match else None
    return _read(store, match["name"]) if match and store else value


def _read(store: SecretStore, name: str) -> str:
    """What a third party's store raises may hold what it was about to give: only its kind is told."""
    try:
        found: Any = store.read(name)
    except SecretUnavailable:
        raise
    except Exception as error:
        kind = type(error).__name__
    else:
        if isinstance(found, str):
            return found
        kind = "no text"
    raise SecretUnavailable(f"{store.scheme}://: the store failed to give the secret ({kind}).")


def fetch_all(value: Any) -> Any:
    """A JSON value with each text in it that names a secret replaced by that secret. Errors: `SecretUnavailable`."""
    if isinstance(value, str):
        return fetch(value)
    if isinstance(value, dict):
        return {key: fetch_all(inner) for key, inner in value.items()}
    return [fetch_all(inner) for inner in value] if isinstance(value, list) else value


@functools.cache
def _stores() -> dict[str, SecretStore]:
    found: dict[str, SecretStore] = {store.scheme: store for store in (EnvironmentStore(), FileStore())}
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            store = entry_point.load()()
            found.setdefault(store.scheme, store)
        except Exception as error:  # a package that is broken takes no other secret with it
            found.setdefault(entry_point.name, BrokenStore(entry_point.name))
            _log.error("a store of secrets cannot be loaded", entry_point=entry_point.value, kind=type(error).__name__)
    return found
