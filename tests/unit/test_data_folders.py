"""What file nodes may reach: by real path, and nothing that leads out."""

import os
from pathlib import Path

import pytest

from brokoli_site.common.errors import NodeError
from pipelines.nodes import files
from pipelines.nodes.files import DataFolders


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A server's home with a data folder in it, and something to steal around it."""
    for folder in ("home/data/in", "home/keys", "home/artifacts", "outside", "second"):
        (tmp_path / folder).mkdir(parents=True)
    for name in (
        "home/keys/secret_key",
        "home/brokoli.sqlite3",
        "home/brokoli.sqlite3-wal",
        "home/artifacts/a.parquet",
        "outside/o.csv",
        "second/s.csv",
    ):
        (tmp_path / name).write_text("secret")
    for name in ("a.csv", "b.csv", "in/c.csv", ".hidden.csv", "odd[1].csv"):
        (tmp_path / "home/data" / name).write_text("id\n1\n")
    return tmp_path / "home"


@pytest.fixture
def folders(home: Path) -> DataFolders:
    return DataFolders((home / "data", home.parent / "second"), forbidden=(home, home / "artifacts", home / "brokoli.sqlite3"))


def test_a_relative_path_starts_at_the_first_folder(folders: DataFolders, home: Path) -> None:
    assert folders.resolve_read("in/c.csv") == [home / "data/in/c.csv"]
    assert folders.resolve_read("./a.csv") == [home / "data/a.csv"]


def test_an_absolute_path_may_name_any_folder(folders: DataFolders, home: Path) -> None:
    assert folders.resolve_read(str(home.parent / "second/s.csv")) == [home.parent / "second/s.csv"]


def test_a_pattern_gives_sorted_files_and_no_hidden_ones(folders: DataFolders, home: Path) -> None:
    data = home / "data"
    assert folders.resolve_read("*.csv") == [data / "a.csv", data / "b.csv", data / "odd[1].csv"]
    assert folders.resolve_read("**/*.csv") == [data / "a.csv", data / "b.csv", data / "in/c.csv", data / "odd[1].csv"]
    assert folders.resolve_read("*/c.csv") == [data / "in/c.csv"]
    assert folders.resolve_read("[ab].csv") == [data / "a.csv", data / "b.csv"]
    assert folders.resolve_read(".h*.csv") == [data / ".hidden.csv"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folders: DataFolders, home: Path) -> None:
    assert folders.resolve_read("odd[1].csv") == [home / "data/odd[1].csv"]


def test_folders_are_left_out_of_what_a_pattern_matches(folders: DataFolders, home: Path) -> None:
    (home / "data/folder.csv").mkdir()
    assert home / "data/folder.csv" not in folders.resolve_read("*.csv")


@pytest.mark.parametrize(
    "path",
    [
        "../keys/secret_key",
        "in/../../keys/secret_key",
        "{home}/keys/secret_key",
        "{home}/brokoli.sqlite3",
        "{home}/brokoli.sqlite3-wal",
        "{home}/artifacts/a.parquet",
        "{home}/../outside/o.csv",
        "{home}/../outside/*.csv",
        "/etc/passwd",
        "/etc/pass*",
        "/proc/self/environ",
        "/proc/self/root/etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "/nowhere/at/all.csv",
    ],
)
def test_what_is_outside_is_refused_and_nothing_is_told_of_it(folders: DataFolders, home: Path, path: str) -> None:
    path = path.format(home=home)
    for use in (folders.resolve_read, folders.resolve_write):
        with pytest.raises(NodeError, match=r"outside the data folders|must not contain '\.\.'|No file matches") as caught:
            use(path)
        told = caught.value.message.replace(path, "")
        assert str(home.parent) not in told


@pytest.mark.parametrize("path", ["", "  ", "a\0.csv", "a\n.csv", "x" * 5000, "\u202eb.csv"])
def test_what_is_no_path_is_refused(folders: DataFolders, path: str) -> None:
    for use in (folders.resolve_read, folders.resolve_write):
        with pytest.raises(NodeError, match="path of the file"):
            use(path)


def test_a_name_that_is_too_long_for_the_system_is_refused(folders: DataFolders) -> None:
    for use in (folders.resolve_read, folders.resolve_write):
        with pytest.raises(NodeError, match="cannot be"):
            use("x" * 300 + "/" + "y" * 300 + ".csv")


@pytest.mark.parametrize(("link", "target"), [("l.csv", "outside/o.csv"), ("l.csv", "home/keys/secret_key"), ("l.csv", "/proc/self/environ")])
def test_a_link_that_leads_out_is_refused(folders: DataFolders, home: Path, link: str, target: str) -> None:
    (home / "data" / link).symlink_to(home.parent / target)
    for asked in (link, "l*.csv"):
        with pytest.raises(NodeError, match="outside the data folders"):
            folders.resolve_read(asked)
    with pytest.raises(NodeError, match="outside the data folders"):
        folders.resolve_write(link)


def test_a_folder_that_is_a_link_out_is_refused(folders: DataFolders, home: Path) -> None:
    (home / "data/exit").symlink_to(home.parent / "outside")
    for asked in ("exit/o.csv", "exit/*.csv", "*/o.csv"):
        with pytest.raises(NodeError, match=r"outside the data folders|No file matches"):
            folders.resolve_read(asked)
    with pytest.raises(NodeError, match="outside the data folders"):
        folders.resolve_write("exit/new/deep.csv")
    assert not (home.parent / "outside/new").exists()


def test_a_link_that_stays_inside_gives_the_file_that_it_means(folders: DataFolders, home: Path) -> None:
    (home / "data/l.csv").symlink_to("in/c.csv")
    assert folders.resolve_read("l.csv") == [home / "data/in/c.csv"]
    assert folders.resolve_write("l.csv") == home / "data/in/c.csv"


def test_links_that_run_in_a_circle_end(folders: DataFolders, home: Path) -> None:
    (home / "data/in/up").symlink_to(home / "data")
    (home / "data/self.csv").symlink_to("self.csv")
    assert home / "data/in/c.csv" in folders.resolve_read("**/c.csv")
    with pytest.raises(NodeError, match=r"cannot be|no file"):
        folders.resolve_read("self.csv")


def test_pipes_and_folders_are_no_files(folders: DataFolders, home: Path) -> None:
    os.mkfifo(home / "data/pipe.csv")
    for use in (folders.resolve_read, folders.resolve_write):
        with pytest.raises(NodeError, match="not a regular file"):
            use("pipe.csv")
        with pytest.raises(NodeError, match="a folder"):
            use("in")


def test_a_missing_file_is_named_as_it_was_asked_for(folders: DataFolders) -> None:
    with pytest.raises(NodeError, match=r"^There is no file 'in/none\.csv'\.$"):
        folders.resolve_read("in/none.csv")
    with pytest.raises(NodeError, match=r"^No file matches 'none\*\.csv'\.$"):
        folders.resolve_read("none*.csv")


def test_a_pattern_that_matches_too_much_is_refused(folders: DataFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 2)
    with pytest.raises(NodeError, match="matches more than 2 files"):
        folders.resolve_read("*.csv")


def test_a_pattern_that_searches_too_much_is_refused(folders: DataFolders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MOST_ENTRIES", 3)
    with pytest.raises(NodeError, match="search more than 3"):
        folders.resolve_read("**/*.csv")


def test_writing_makes_the_folders_on_the_way(folders: DataFolders, home: Path) -> None:
    assert folders.resolve_write("new/deep/a.csv") == home / "data/new/deep/a.csv"
    assert (home / "data/new/deep").is_dir()
    assert not (home / "data/new/deep/a.csv").exists()


def test_a_file_in_the_place_of_a_folder_is_told(folders: DataFolders) -> None:
    with pytest.raises(NodeError, match="a part of its path is a file"):
        folders.resolve_write("a.csv/b.csv")
    with pytest.raises(NodeError, match="names a folder"):
        folders.resolve_write("new/")


def test_the_most_specific_folder_decides(home: Path) -> None:
    everything = DataFolders((Path("/"),), forbidden=(home,))
    assert everything.resolve_read(str(home.parent / "outside/o.csv"))
    for path in (home / "keys/secret_key", home / "data/a.csv", Path("/proc/self/environ"), Path("/dev/zero")):
        with pytest.raises(NodeError, match="outside the data folders"):
            everything.resolve_read(str(path))


def test_a_data_folder_that_is_itself_a_link_is_its_target(home: Path) -> None:
    (home.parent / "link").symlink_to(home / "data")
    assert DataFolders((home.parent / "link",)).resolve_read("a.csv") == [home / "data/a.csv"]


def test_there_must_be_a_data_folder() -> None:
    with pytest.raises(ValueError, match="at least one"):
        DataFolders(())
