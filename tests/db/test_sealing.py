"""Rotation of keys while rows change, and what is said at the boot when keys are missing."""

import io
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings as django_settings
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django import DjangoAssertNumQueries

from brokoli_site.common.secrets import Keyring, SecretUnreadable
from pipelines import connections, sealing, variables
from pipelines.models import Connection, Variable

pytestmark = pytest.mark.django_db

OLD, NEW, OTHER = (Fernet.generate_key() for _ in range(3))


@pytest.fixture(autouse=True)
def rows(settings: Any) -> None:
    settings.KEYRING = Keyring((OLD,))
    for number in range(3):
        variables.create(f"secret_{number}", {"type": "secret", "value": f"hush-{number}"})
    variables.create("open", {"value": "k1:looks like one"})
    connections.create("warehouse", {"type": "postgres", "host": "db", "password": "hush"})
    connections.create("plain", {"type": "postgres", "host": "db"})


def values() -> list[str]:
    return [django_settings.KEYRING.open(row.value, row.identity) for row in Variable.objects.filter(type="secret").order_by("key")]


def rotate(*arguments: str) -> str:
    out = io.StringIO()
    call_command("rotate_secrets", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_every_secret_is_sealed_with_the_newest_key_and_reads_the_same(settings: Any) -> None:
    settings.KEYRING = Keyring((NEW, OLD))
    variables.create("secret_new", {"type": "secret", "value": "hush-new"})
    before = set(Variable.objects.values_list("value", flat=True))
    assert "Would seal 4 secrets" in rotate("--dry-run")
    assert set(Variable.objects.values_list("value", flat=True)) == before
    assert f"Sealed 4 secrets with the key {settings.KEYRING.ids[0]}; 1 had it already; 0 cannot be opened." in rotate()
    settings.KEYRING = Keyring((NEW,))
    assert values() == ["hush-0", "hush-1", "hush-2", "hush-new"]
    assert connections.opened(Connection.objects.get(conn_id="warehouse")).password == "hush"
    assert [row.version for row in Variable.objects.all()] == [1] * 5
    assert "Sealed 0 secrets" in rotate()


def test_a_secret_that_changes_meanwhile_keeps_its_new_value(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.KEYRING = Keyring((NEW, OLD))
    opened = Keyring.open
    changed: list[str] = []

    def change_first(self: Keyring, sealed: str, identity: str) -> str:
        value = opened(self, sealed, identity)
        if value == "hush-1" and not changed:
            changed.append(value)  # the change looks at it, too
            variables.change("secret_1", {"value": "changed"}, whole=False)
        return value

    monkeypatch.setattr(Keyring, "open", change_first)
    assert sealing.reseal().resealed == 3
    monkeypatch.undo()
    assert values() == ["hush-0", "changed", "hush-2"]


def test_more_rows_than_one_transaction_takes(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_AT_ONCE", 2)
    settings.KEYRING = Keyring((NEW, OLD))
    assert sealing.reseal().resealed == 4


def test_rows_whose_key_is_missing_are_named_and_left(settings: Any) -> None:
    settings.KEYRING = Keyring((NEW,))
    with pytest.raises(CommandError, match="Add the missing keys"):
        rotate()
    missing = sealing.reseal().missing
    assert len(missing) == 4
    assert f"connection 'warehouse' (key {Keyring((OLD,)).ids[0]})" in missing
    settings.KEYRING = Keyring((OLD,))
    assert values() == ["hush-0", "hush-1", "hush-2"]


def test_the_boot_is_told_of_a_missing_key_by_its_id(settings: Any, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_max_num_queries(4):
        assert sealing.fault() == ""
    settings.KEYRING = Keyring((NEW, OLD))
    variables.create("secret_new", {"type": "secret", "value": "x"})
    assert sealing.fault() == ""
    settings.KEYRING = Keyring((NEW,))
    assert f"'{Keyring((OLD,)).ids[0]}', which BROKOLI_ENCRYPTION_KEYS lacks" in sealing.fault()
    settings.KEYRING = Keyring((OLD, OTHER))
    assert f"'{Keyring((NEW,)).ids[0]}'" in sealing.fault()


def test_an_empty_database_asks_for_no_key(settings: Any) -> None:
    Variable.objects.all().delete()
    Connection.objects.all().delete()
    settings.KEYRING = Keyring((OTHER,))
    assert sealing.fault() == ""


def test_secrets_that_were_moved_to_another_connection_do_not_open_there(settings: Any) -> None:
    mine = connections.create("mine", {"type": "http", "host": "evil.example", "password": "of mine", "extra": {"headers": {"X-Key": "key of mine"}}})
    theirs = connections.find("warehouse")
    Connection.objects.filter(id=mine.id).update(secrets=theirs.secrets)
    moved = connections.find("mine")
    with pytest.raises(SecretUnreadable, match="sealed for another row"):
        connections.opened(moved)
    told = connections.tested(moved)
    assert not told["ok"] and "another row" in told["message"] and "hush" not in str(told)
    # Under the other's name, too: it is the row that counts.
    Connection.objects.filter(id=theirs.id).delete()
    Connection.objects.filter(id=mine.id).update(conn_id="warehouse")
    with pytest.raises(SecretUnreadable, match="sealed for another row"):
        connections.opened(connections.find("warehouse"))
    # A rotation neither opens it nor seals it for its new row.
    settings.KEYRING = Keyring((NEW, OLD))
    assert [name for name in sealing.reseal().missing if "warehouse" in name]
