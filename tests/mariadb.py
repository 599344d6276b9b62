"""A MariaDB server for as long as a block lasts: a temporary data folder, a free loopback port, the machine's own programs."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql

from tests.postgres import account_of, free_port

_START_SECONDS = 60
_USER = "brokoli"
# As with PostgreSQL: durability costs time and proves nothing here.
_OPTIONS = (
    *("--no-defaults", "--bind-address=127.0.0.1", "--skip-log-bin", "--skip-name-resolve", "--innodb-buffer-pool-size=64M"),
    *("--innodb-log-file-size=32M", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-flush-method=fsync"),
    *("--character-set-server=utf8mb4", "--collation-server=utf8mb4_bin", "--max-connections=200", "--max-allowed-packet=64M", "--local-infile=1"),
)


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


def is_installed() -> bool:
    """Whether this machine has a MariaDB server."""
    return bool(_program("mariadbd") and _program("mariadb-install-db"))


class Server:
    """A temporary MariaDB server. Its user `brokoli` may do everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_hex(16)
        # Temporary tables of two servers that start at once would meet in the common folder, and one of them remove the other's.
        self._env = os.environ | {"TMPDIR": str(folder)}
        account = account_of("mysql", "nobody")
        self._account = [] if account is None else [f"--user={account.pw_name}"]
        if account is not None:
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Errors: `RuntimeError` with the server's own words."""
        install = _program("mariadb-install-db")
        assert install is not None, "MariaDB is not installed"
        options = ["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=32M", *self._account]
        made = subprocess.run(
            [install, "--no-defaults", f"--datadir={self.folder}/data", *options], capture_output=True, text=True, check=False, env=self._env
        )
        if made.returncode != 0:
            raise RuntimeError(f"mariadb-install-db failed: {made.stderr or made.stdout}")
        first = self.folder / "first.sql"
        account = f"{_USER}@'127.0.0.1'"
        first.write_text(f"CREATE USER {account} IDENTIFIED BY '{self.password}';\nGRANT ALL ON *.* TO {account} WITH GRANT OPTION;\n")
        first.chmod(0o644)  # its folder is closed to others
        self._launch(f"--init-file={first}")

    def kill(self) -> None:
        """The server dies, as of a crash."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=60)

    def restart(self) -> None:
        """Start again what was killed."""
        self._launch()

    def _launch(self, *options: str) -> None:
        program = _program("mariadbd")
        assert program is not None
        places = [f"--datadir={self.folder}/data", f"--socket={self.folder}/socket", f"--pid-file={self.folder}/pid", f"--port={self.port}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *_OPTIONS, *places, *self._account, *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                env=self._env,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MariaDB did not start: {(self.folder / 'log').read_text()}")
            time.sleep(0.05)

    def connect(self, database: str | None = None) -> "pymysql.Connection[Any]":
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user=_USER, password=self.password, database=database, autocommit=True, connect_timeout=5
        )

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End the server at once; its data go with the folder."""
        if self._process is not None and self._process.poll() is None:
            self.kill()


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="brokoli-mariadb-", ignore_cleanup_errors=True) as name:
        server = Server(Path(name))
        try:
            server.start()
            yield server
        finally:
            server.stop()
