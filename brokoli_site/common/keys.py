"""The server's own secret key: given by the operator, or made once and kept where only this account can read it."""

import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

_LEAST_CHARACTERS = 32


def secret_key(given: str, home: Path) -> str:
    """The key to sign with. Errors: `ImproperlyConfigured` when the given or the kept one is too short or unreadable."""
    if given:
        if len(given) < _LEAST_CHARACTERS:
            raise ImproperlyConfigured(f"BROKOLI_SECRET_KEY: {len(given)} characters are too few; use {_LEAST_CHARACTERS} or more.")
        return given
    path = home / "keys" / "secret_key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_once(path, secrets.token_urlsafe(48))
        key = path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"BROKOLI_HOME: {path} cannot be read or written ({error.strerror}).") from error
    except UnicodeDecodeError:
        key = ""
    if len(key) < _LEAST_CHARACTERS:
        raise ImproperlyConfigured(f"BROKOLI_HOME: {path} holds no usable key; restore it, or delete it to sign everybody out.")
    return key


def create_once(path: Path, content: str) -> None:
    """Two processes that start together must end with one file: whoever links first wins, and it is never seen half-written."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
