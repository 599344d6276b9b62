"""What a node may open, and that nothing of it is left in what the node says."""

import base64
import html
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from cryptography.fernet import Fernet

from brokoli_site.common.secrets import Keyring
from pipelines.secret_stores import SecretUnavailable
from pipelines.vault import ConnectionDetails, StoredConnection, StoredVariable, UnknownName, Vault, WrongConnection

NASTY = "pä$$'w/o\"r&d\\ %1"


@pytest.fixture(autouse=True)
def keyring(settings: Any) -> Keyring:
    settings.KEYRING = Keyring((Fernet.generate_key(),))
    found: Keyring = settings.KEYRING
    return found


def secret(keyring: Keyring, key: str, value: str) -> StoredVariable:
    return StoredVariable(key, "secret", keyring.seal(value, f"variable {key}"), f"variable {key}")


def connection(keyring: Keyring, **secrets: Any) -> StoredConnection:
    return StoredConnection("warehouse", "postgres", "db", 5432, "sales", "ada", {"sslmode": "require"}, keyring.seal(json.dumps(secrets), "c"), "c")


def revealing(value: str) -> Vault:
    vault = Vault()
    vault.reveal(value)
    return vault


def test_variables_have_the_values_that_their_types_say(keyring: Keyring) -> None:
    vault = Vault({"n": StoredVariable("n", "number", "3"), "o": StoredVariable("o", "json", '{"a": [1]}'), "s": secret(keyring, "s", "hush-hush")})
    assert (vault.variable("n"), vault.variable("o"), vault.variable("s"), vault.secret("s")) == (3, {"a": [1]}, "hush-hush", "hush-hush")
    with pytest.raises(UnknownName, match="is no secret"):
        vault.secret("n")
    with pytest.raises(UnknownName, match="there is no variable 'x'"):
        vault.variable("x")


def test_a_connection_has_its_secrets_and_is_of_an_accepted_type(keyring: Keyring) -> None:
    vault = Vault(connections={"warehouse": connection(keyring, password="hush-hush", extra={"token": "t0ken"})})
    found = vault.connection("warehouse", ("postgres",))
    assert found == ConnectionDetails("warehouse", "postgres", "db", 5432, "sales", "ada", "hush-hush", {"sslmode": "require", "token": "t0ken"})
    assert "hush" not in repr(found) and "t0ken" not in repr(found)
    with pytest.raises(WrongConnection, match="takes s3, sftp"):
        vault.connection("warehouse", ("sftp", "s3"))
    with pytest.raises(UnknownName, match="There is no connection 'x'"):
        vault.connection("x")


@pytest.mark.parametrize(
    "spell",
    [
        str,
        quote,
        lambda value: quote(value, safe=""),
        lambda value: quote(value, safe="").lower(),
        quote_plus,
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        lambda value: json.dumps(json.dumps({"a": value})),
        repr,
        lambda value: repr(value.encode()),
        html.escape,
        lambda value: value.replace("'", "''"),
        lambda value: value.replace('"', '""'),
        lambda value: value.replace("\\", "\\\\").replace("'", "\\'"),
        lambda value: value.encode().hex(),
        lambda value: value.encode().hex().upper(),
    ],
    ids=range(16),
)
@pytest.mark.parametrize("value", [NASTY, "plain-canary"])
def test_every_spelling_is_taken_out(value: str, spell: Any) -> None:
    spelt = spell(value)
    core = spelt.strip("\"'b")[:-1]  # quotes around it may stay
    redacted = revealing(value).redact(f"before {spelt} after")
    assert core not in redacted
    assert redacted.startswith("before ") and redacted.endswith(" after") and "***" in redacted


@pytest.mark.parametrize("login", ["", "a", "ab", "abc", "abcd"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("value", [NASTY, "sesame", "\xff\xfe>>>???"])
def test_what_basic_authentication_sends_is_taken_out_wherever_it_begins(login: str, encode: Any, value: str) -> None:
    header = encode(f"{login}:{value}".encode()).decode()
    redacted = revealing(value).redact(f"Authorization: Basic {header}")
    assert "***" in redacted
    left = redacted.removeprefix("Authorization: Basic ").split("***")
    # What is left holds the login, and at most a character that is shared with the secret's first or last byte.
    assert len(left[0]) <= len(base64.b64encode(f"{login}:".encode()).rstrip(b"=")) + 1 and len(left[1].rstrip("=")) <= 1


def test_the_longest_secret_goes_first() -> None:
    vault = Vault()
    for value in ("hunter", "hunter2-and-more"):
        vault.reveal(value)
    assert vault.redact("x hunter2-and-more y hunter z") == "x *** y *** z"


@pytest.mark.parametrize("short", ["", "a", "ab", "abc"])
def test_a_secret_of_few_characters_leaves_sentences_alone(short: str) -> None:
    sentence = "abc: a table of cabs has no column ab; YWJj"
    assert revealing(short).redact(sentence) == sentence


def test_a_secret_of_several_lines_is_taken_out_line_by_line() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nshort\n-----END KEY-----"
    assert revealing(key).redact("line 2: MIIEvQIBADANBgkqhkiG9w0BAQEFAASC, short") == "line 2: ***, short"


def test_texts_within_options_are_secrets_when_they_are_long_enough(keyring: Keyring) -> None:
    extra = {"headers": {"X-Key": "canary-of-a-header", "X-Version": "2024", "deep": ["canary-in-a-list"]}, "pin": 987654}
    vault = Vault(connections={"warehouse": connection(keyring, extra=extra)})
    vault.connection("warehouse")
    assert vault.redact("canary-of-a-header canary-in-a-list 987654 in 2024") == "*** *** *** in 2024"


def test_references_to_stores_are_followed_in_options_too(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKOLI_CREDENTIAL_PG", "from-outside")
    reference = "env://BROKOLI_CREDENTIAL_PG"
    vault = Vault({"s": secret(keyring, "s", reference)}, {"warehouse": connection(keyring, password=reference, extra={"headers": {"X": reference}})})
    found = vault.connection("warehouse")
    assert (found.password, found.extra["headers"], vault.secret("s")) == ("from-outside", {"X": "from-outside"}, "from-outside")
    assert vault.redact("it was from-outside") == "it was ***"


def test_what_cannot_be_opened_is_named_by_the_name_that_people_know(keyring: Keyring, settings: Any) -> None:
    stored = Vault({"s": secret(keyring, "s", "x")}, {"warehouse": connection(keyring, password="x")})
    settings.KEYRING = Keyring((Fernet.generate_key(),))
    with pytest.raises(SecretUnavailable, match=rf"variable 's' cannot be had.*'{keyring.ids[0]}', which BROKOLI_ENCRYPTION_KEYS lacks"):
        stored.variable("s")
    with pytest.raises(SecretUnavailable, match="connection 'warehouse' cannot be had"):
        stored.connection("warehouse")


def test_a_ciphertext_of_another_row_does_not_open(keyring: Keyring) -> None:
    moved = StoredVariable("s", "secret", keyring.seal("hush", "variable 1"), "variable 2")
    with pytest.raises(SecretUnavailable, match="was sealed for another row"):
        Vault({"s": moved}).secret("s")


def test_what_is_opened_needs_no_keys(keyring: Keyring, settings: Any) -> None:
    variable, stored = secret(keyring, "s", "hush-hush").opened(), connection(keyring, password="hush-too").opened()
    missing = secret(keyring, "m", "env://BROKOLI_CREDENTIAL_NONE").opened()
    settings.KEYRING = None
    vault = Vault({"s": variable, "m": missing}, {"warehouse": stored})
    assert (vault.secret("s"), vault.connection("warehouse").password) == ("hush-hush", "hush-too")
    assert vault.redact("hush-hush, hush-too") == "***, ***"
    with pytest.raises(SecretUnavailable, match="no such variable"):
        vault.secret("m")
    assert "hush" not in repr(vault)


def test_what_was_cut_before_it_was_redacted_ends_without_half_a_secret() -> None:
    """Redaction makes texts shorter: what a first, generous cut left of the last secret may come into view then."""
    secret = "pä$$w0rd-of-the-warehouse-2024"
    vault = revealing(secret)
    for spell in (str, quote, lambda value: value.encode().hex(), lambda value: base64.b64encode(value.encode()).decode()):
        spelt = spell(secret)
        for length in range(8, len(spelt)):
            for tail in ("", "… (120 more bytes)"):
                redacted = vault.redact(f"{spelt} " * 3 + spelt[:length] + tail)
                assert redacted.endswith(tail) and spelt[:8] not in redacted, (spelt[:length], redacted)
    assert vault.redact("it ends with pä$$w0r") == "it ends with pä$$w0r"  # seven characters tell little, and may be anybody's
    # To cut first and then look is what must not be done: it is found only because the end is looked at.
    assert "warehouse" not in vault.redact(f"{'x' * 40}{secret}"[:64])
