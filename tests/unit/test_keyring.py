"""Secrets at rest: for one row, with any key of the ring, and told which key is missing."""

from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured

from brokoli_site.common.secrets import Keyring, SecretUnreadable, key_of, keyring

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()


def test_the_newest_key_seals_and_each_opens() -> None:
    sealed = Keyring((OLD,)).seal("ü\n$", "row 1")
    ring = Keyring((NEW, OLD))
    assert ring.open(sealed, "row 1") == "ü\n$"
    assert (ring.is_current(sealed), ring.is_current(ring.seal("x", "row 1"))) == (False, True)
    assert sealed.startswith("k1:") and "ü" not in sealed


def test_a_missing_key_is_named() -> None:
    sealed = Keyring((OLD,)).seal("x", "row 1")
    with pytest.raises(SecretUnreadable, match=f"'{key_of(sealed)}', which BROKOLI_ENCRYPTION_KEYS lacks"):
        Keyring((NEW,)).open(sealed, "row 1")


def test_another_row_opens_nothing() -> None:
    sealed = Keyring((OLD,)).seal("x", "row 1")
    with pytest.raises(SecretUnreadable, match="another row"):
        Keyring((OLD,)).open(sealed, "row 2")


@pytest.mark.parametrize(
    "change",
    [lambda text: text[:-6], lambda text: text[:40] + ("B" if text[40] == "A" else "A") + text[41:], lambda text: text.rpartition(":")[0] + ":"],
)
def test_what_was_tampered_with_does_not_open(change: "object") -> None:
    ring = Keyring((OLD,))
    with pytest.raises(SecretUnreadable, match="damaged"):
        ring.open(change(ring.seal("x" * 30, "row 1")), "row 1")  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "hunter2", "k2:abcdef01:x", "k1"])
def test_what_is_not_sealed_does_not_open(text: str) -> None:
    with pytest.raises(SecretUnreadable) as caught:
        Keyring((OLD,)).open(text, "row 1")
    assert "hunter2" not in caught.value.message


def test_keys_do_not_show() -> None:
    assert OLD.decode() not in repr(Keyring((OLD,)))


def test_keys_are_read_newest_first_and_made_once(tmp_path: Path) -> None:
    assert keyring(f"{NEW.decode()}, {OLD.decode()}\n", tmp_path).keys == (NEW, OLD)
    made = keyring("", tmp_path)
    assert keyring("", tmp_path) == made
    assert (tmp_path / "keys" / "encryption_keys").stat().st_mode & 0o077 == 0
    for given in ("hunter2", ",", "hunter2," + OLD.decode()):
        with pytest.raises(ImproperlyConfigured) as caught:
            keyring(given, tmp_path)
        assert "hunter2" not in str(caught.value)
