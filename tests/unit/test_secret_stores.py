"""Secrets outside of our database: what may be read, and that nothing else can."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipelines import secret_stores
from pipelines.secret_stores import MOST_BYTES, SecretUnavailable, fault_in, fetch, is_reference


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    settings.SECRETS_DIR = tmp_path / "secrets"
    settings.SECRETS_DIR.mkdir()
    (tmp_path / "outside").write_text("canary")
    found: Path = settings.SECRETS_DIR
    return found


def test_a_file_is_read_without_its_last_line_end(folder: Path) -> None:
    (folder / "team").mkdir()
    for name, content in (("plain", "a b\n"), ("windows", "a b\r\n"), ("two", "a\n\n"), ("team/deep", "ü")):
        (folder / name).write_bytes(content.encode())
    assert [fetch(f"file://{name}") for name in ("plain", "windows", "two", "/team/deep")] == ["a b", "a b", "a\n", "ü"]


def test_links_are_followed_within_the_folder_as_container_platforms_make_them(folder: Path) -> None:
    (folder / "..2024").mkdir()
    (folder / "..2024" / "password").write_text("hush")
    (folder / "..data").symlink_to("..2024")
    (folder / "password").symlink_to("..data/password")
    assert fetch("file://password") == "hush"


@pytest.mark.parametrize(
    "name", ["link", "linked/outside", "../outside", "x/../../outside", "//../outside", ".", "/", "missing", "team", "a\0b", "\ud800"]
)
def test_nothing_else_is_read(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "team").mkdir()
    with pytest.raises(SecretUnavailable) as caught:
        fetch(f"file://{name}")
    assert "canary" not in caught.value.message and str(tmp_path) not in caught.value.message


def test_a_pipe_a_giant_and_what_is_no_text_are_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "giant").write_bytes(b"x" * (MOST_BYTES + 1))
    (folder / "binary").write_bytes(b"\xff\xfe")
    for name in ("pipe", "giant", "binary"):
        with pytest.raises(SecretUnavailable):
            fetch(f"file://{name}")


def test_only_variables_that_are_meant_for_it_are_read_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKOLI_CREDENTIAL_PG", "hush")
    assert fetch("env://BROKOLI_CREDENTIAL_PG") == "hush"
    for name in ("BROKOLI_SECRET_KEY", "HOME", "BROKOLI_CREDENTIAL_", "brokoli_credential_pg", "X_BROKOLI_CREDENTIAL_PG"):
        assert "BROKOLI_CREDENTIAL_" in fault_in(f"env://{name}")
        with pytest.raises(SecretUnavailable, match="BROKOLI_CREDENTIAL_"):
            fetch(f"env://{name}")
    assert fault_in("env://BROKOLI_CREDENTIAL_PG") == fault_in("file://x") == fault_in("just a password") == ""


def test_what_is_no_reference_is_the_secret_itself() -> None:
    for value in ("hush", "https://example.org", "env:/x", "", "env://", "ENV://X", "a env://X", "env://a b"):
        assert not is_reference(value)
        assert fetch(value) == value


def test_a_third_party_can_bring_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    class Store:
        scheme = "vault"

        def read(self, name: str) -> str:
            return f"of {name}"

    class EntryPoint:
        def load(self) -> type[Store]:
            return Store

    monkeypatch.setattr(secret_stores, "entry_points", lambda group: [EntryPoint()] if group == "brokoli.secret_stores" else [])
    secret_stores._stores.cache_clear()
    try:
        assert is_reference("vault://team/db#password")
        assert fetch("vault://team/db#password") == "of team/db#password"
    finally:
        monkeypatch.undo()
        secret_stores._stores.cache_clear()
