"""Values from the environment: what cannot be used is said in one sentence that names the variable, whatever the value is."""

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from brokoli_site import environment
from brokoli_site.common.keys import secret_key


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKOLI_HOME", "~nobody-of-that-name/brokoli"),
        ("BROKOLI_HOME", "a\0b"),
        ("BROKOLI_ARTIFACTS", "s3://bucket/path"),
        ("BROKOLI_ARTIFACTS", "~nobody-of-that-name"),
        ("BROKOLI_DATA_DIRS", ":"),
        ("BROKOLI_DATA_DIRS", __file__),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite://:memory:"),
        ("DATABASE_URL", "mysql://user@host/name"),
        ("DATABASE_URL", "postgres://user:password@host:notaport/name"),
        ("DATABASE_URL", "nonsense"),
        ("BROKOLI_MEMORY_LIMIT", "9" * 400),
        ("BROKOLI_MEMORY_LIMIT", "99999999TB"),
        ("BROKOLI_MEMORY_LIMIT", "1KB"),
        ("BROKOLI_MEMORY_LIMIT", "0%"),
        ("BROKOLI_SPILL_LIMIT", "much"),
        ("BROKOLI_WORKER_CONCURRENCY", "0"),
        ("BROKOLI_WORKER_CONCURRENCY", "-1"),
        ("BROKOLI_NODE_CONCURRENCY", "four"),
        ("BROKOLI_THREADS", "1e3"),
        ("BROKOLI_LEASE_SECONDS", "1"),
        ("BROKOLI_MAX_DEATHS", "²"),
        ("BROKOLI_DRAIN_SECONDS", "9" * 5000),
        ("BROKOLI_DEBUG", "perhaps"),
        ("BROKOLI_LOG_LEVEL", "LOUD"),
        ("BROKOLI_LOG_FORMAT", "xml"),
        ("BROKOLI_TRUSTED_ORIGINS", "brokoli.example.org"),
        ("BROKOLI_SCHEDULER", "me"),
        ("BROKOLI_ENV_FILE", "relative.env"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"^{name}: .* cannot be used; expected "):
        environment.load({"BROKOLI_HOME": str(tmp_path), name: value})


def test_the_password_of_a_database_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        environment.load({"BROKOLI_HOME": str(tmp_path), "DATABASE_URL": "mysql://user:hunter2@host/name"})

    assert "hunter2" not in str(caught.value)


def test_a_file_says_what_the_environment_does_not(tmp_path: Path) -> None:
    file = tmp_path / "brokoli.env"
    lines = ["# ours", "", "BROKOLI_MAX_DEATHS=5", " export BROKOLI_VAR_X=no name ", "DATABASE_URL='a b=$c'", 'BROKOLI_BIND="x']
    file.write_text("\n".join(lines))
    source = {"BROKOLI_ENV_FILE": str(file), "BROKOLI_MAX_DEATHS": "7", "DATABASE_URL": "", "BROKOLI_LOG_LEVEL": "DEBUG"}
    assert set(environment.read_file(source)) == {"BROKOLI_ENV_FILE", "BROKOLI_MAX_DEATHS", "BROKOLI_LOG_LEVEL"}
    assert source == {
        "BROKOLI_ENV_FILE": str(file),
        "BROKOLI_MAX_DEATHS": "7",
        "DATABASE_URL": "a b=$c",
        "BROKOLI_LOG_LEVEL": "DEBUG",
        "BROKOLI_VAR_X": "no name",
        "BROKOLI_BIND": '"x',
    }
    assert environment.read_file({}) == ()


@pytest.mark.parametrize(("text", "place"), [("A=1\nhunter2\n", "line 2"), ("A=1\nB\0=hunter2", "line 2"), ("-a=hunter2", "line 1")])
def test_a_line_that_cannot_be_read_is_named_and_not_repeated(text: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "brokoli.env"
    file.write_text(text)
    with pytest.raises(ImproperlyConfigured, match=rf"^BROKOLI_ENV_FILE: {place} of .*NAME=value") as caught:
        environment.read_file({"BROKOLI_ENV_FILE": str(file)})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "folder", "binary"])
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"A=\xff")
    with pytest.raises(ImproperlyConfigured, match=r"^BROKOLI_ENV_FILE: .* cannot be read"):
        environment.read_file({"BROKOLI_ENV_FILE": str(tmp_path / name)})


def test_options_of_a_database_url_are_kept(tmp_path: Path) -> None:
    values = environment.load({"BROKOLI_HOME": str(tmp_path), "DATABASE_URL": "postgres://user@host/name?sslmode=verify-full"})

    assert values["DATABASE_URL"]["OPTIONS"] == {"sslmode": "verify-full"}


def test_a_key_that_is_no_text_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "secret_key").write_bytes(b"\xff" * 64)

    with pytest.raises(ImproperlyConfigured, match="holds no usable key"):
        secret_key("", tmp_path)


def test_no_node_type_is_turned_off_by_a_word(tmp_path: Path) -> None:
    """An empty variable means the default: bash stays off."""
    found = [environment.load({"BROKOLI_HOME": str(tmp_path), "BROKOLI_DISABLED_NODE_TYPES": text}) for text in ("", "none", "code, dbt")]
    assert [one["BROKOLI_DISABLED_NODE_TYPES"] for one in found] == [("bash",), (), ("code", "dbt")]
