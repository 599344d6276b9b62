"""Secrets at rest: sealed with the newest key, readable with any of the keyring, and bound to the row that they belong to.

A sealed text is `k1:KEY:TOKEN`. `KEY` is the id of the key (the first eight hexadecimal digits of its SHA-256), so that what is missing can
be named and what is old can be found. `TOKEN` is Fernet's (AES-128-CBC and HMAC-SHA256, https://github.com/fernet/spec) over the value and
the identity of its row: a token that is copied to another row does not open there.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.core.exceptions import ImproperlyConfigured

from brokoli_site.common.errors import BrokoliError
from brokoli_site.common.keys import create_once

_FORMAT = "k1"
KEY_STARTS = len(_FORMAT) + 2  # the first character of the key's id in a sealed text, counted from 1


class SecretUnreadable(BrokoliError):
    """A stored secret cannot be opened."""

    status, code = 500, "secret_unreadable"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in use, newest first: the first seals, each opens."""

    keys: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Errors: `ValueError` for something that is no key."""
        if not self.keys:
            raise ValueError("at least one key is needed")
        for key in self.keys:
            Fernet(key)

    @classmethod
    def read(cls, text: str) -> "Keyring":
        """Of keys separated by commas or lines. Errors: `ValueError`."""
        return cls(tuple(part.strip().encode("ascii", "replace") for part in text.replace("\n", ",").split(",") if part.strip()))

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(key_id(key) for key in self.keys)

    def seal(self, value: str, identity: str) -> str:
        """`value` as it is stored for the row `identity`."""
        plain = json.dumps({"for": identity, "value": value}).encode()
        return f"{_FORMAT}:{self.ids[0]}:{Fernet(self.keys[0]).encrypt(plain).decode()}"

    def open(self, sealed: str, identity: str) -> str:
        """The value that was sealed for `identity`. Errors: `SecretUnreadable` that names the missing key, or the other row."""
        used = key_of(sealed)
        fitting = [Fernet(key) for key in self.keys if key_id(key) == used]
        if not fitting:
            raise SecretUnreadable(f"The secret of {identity} was sealed with the key '{used}', which BROKOLI_ENCRYPTION_KEYS lacks.")
        try:
            plain = json.loads(MultiFernet(fitting).decrypt(sealed.rpartition(":")[2]))
        except (InvalidToken, ValueError) as error:
            raise SecretUnreadable(f"The secret of {identity} is damaged: its key does not open it.") from error
        if plain["for"] != identity:
            raise SecretUnreadable(f"The secret of {identity} was sealed for another row.")
        value: str = plain["value"]
        return value

    def is_current(self, sealed: str) -> bool:
        """Whether the newest key sealed it."""
        return key_of(sealed) == self.ids[0]


def key_id(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:8]


def key_of(sealed: str) -> str:
    """The id of the key that sealed it; "" for what is no sealed text."""
    form, _, rest = sealed.partition(":")
    return rest.partition(":")[0] if form == _FORMAT else ""


def keyring(given: str, home: Path) -> Keyring:
    """The keys that the operator gave, or one that is made once and kept where only this account can read it.

    Errors: `ImproperlyConfigured` when the given or the kept keys cannot be used.
    """
    if given:
        try:
            return Keyring.read(given)
        except ValueError as error:
            raise ImproperlyConfigured("BROKOLI_ENCRYPTION_KEYS: expected Fernet keys (32 bytes, URL-safe base64), separated by commas.") from error
    path = home / "keys" / "encryption_keys"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        create_once(path, Fernet.generate_key().decode() + "\n")
        return Keyring.read(path.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise ImproperlyConfigured(f"BROKOLI_HOME: {path} cannot be read or written ({error.strerror}).") from error
    except ValueError as error:
        raise ImproperlyConfigured(f"BROKOLI_HOME: {path} holds no usable key; restore it. Without it no stored secret can be read.") from error
