"""Servers that keep files, for nodes to read and write: a real SFTP server (paramiko's) over a folder, and an S3 store (moto's)."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from django.conf import settings
from moto.server import ThreadedMotoServer
from paramiko import SFTP_OK, SFTPAttributes, SFTPHandle, SFTPServer

from pipelines.vault import StoredConnection, Vault


def vault_of(type_name: str, conn_id: str = "files", extra: dict[str, Any] | None = None, password: str = "", **fields: Any) -> Vault:
    """A vault that holds that connection alone; `extra` and `password` are sealed."""
    identity = f"connection:{conn_id}"
    secrets = settings.KEYRING.seal(json.dumps({"password": password, "extra": extra or {}}), identity)
    return Vault(connections={conn_id: StoredConnection(conn_id, type_name, secrets=secrets, identity=identity, **fields)})


@dataclass
class Sftp:
    """A server over `folder`. `fail_after` bytes of writing it answers with a failure, as a full disk does; it counts what it was asked."""

    folder: Path
    port: int
    key: paramiko.PKey
    login: str = "loader"
    password: str = "sftp-canary-password"
    fail_after: int | None = None
    posix_rename: bool = True
    asked: list[str] = field(default_factory=list)

    @property
    def host_key(self) -> str:
        return f"{self.key.get_name()} {self.key.get_base64()}"

    def vault(self, **changes: Any) -> Vault:
        given: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "schema": ".", "login": self.login, "password": self.password}
        extra = {"host_key": self.host_key} | changes.pop("extra", {})
        return vault_of("sftp", extra=extra, **(given | changes))


@contextmanager
def sftp_server(folder: Path) -> Iterator[Sftp]:
    """On a free port of loopback, until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Sftp(folder, listener.getsockname()[1], paramiko.ECDSAKey.generate())
    transports: list[paramiko.Transport] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transports.append(transport)
            transport.add_server_key(server.key)
            transport.set_subsystem_handler("sftp", SFTPServer, _Files, server)
            with suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Door(server))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in transports:
            transport.close()
        for transport in transports:
            transport.join(5)
        thread.join(5)


class _Door(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko has no types
    def __init__(self, server: Sftp) -> None:
        self._server = server

    def check_auth_password(self, username: str, password: str) -> int:
        fits = (username, password) == (self._server.login, self._server.password)
        return int(paramiko.AUTH_SUCCESSFUL if fits else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED if kind == "session" else paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)

    def get_allowed_auths(self, username: str) -> str:
        return "password"


class _Files(paramiko.SFTPServerInterface):  # type: ignore[misc]
    def __init__(self, door: _Door, server: Sftp) -> None:
        super().__init__(door)
        self._server = server

    def _real(self, path: str) -> Path:
        return Path(f"{self._server.folder}{self.canonicalize(path)}")

    def _try(self, what: str, path: str, action: Any) -> int:
        self._server.asked.append(f"{what} {path}")
        try:
            action()
        except OSError as error:
            return int(SFTPServer.convert_errno(error.errno or 0))
        return int(SFTP_OK)

    def list_folder(self, path: str) -> Any:
        try:
            return [SFTPAttributes.from_stat(entry.stat(), entry.name) for entry in self._real(path).iterdir()]
        except OSError as error:
            return int(SFTPServer.convert_errno(error.errno or 0))

    def stat(self, path: str) -> Any:
        try:
            return SFTPAttributes.from_stat(self._real(path).stat())
        except OSError as error:
            return int(SFTPServer.convert_errno(error.errno or 0))

    lstat = stat

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> Any:
        self._server.asked.append(f"open {path}")
        try:
            descriptor = os.open(self._real(path), flags, 0o644)
        except OSError as error:
            return int(SFTPServer.convert_errno(error.errno or 0))
        file = os.fdopen(descriptor, "wb" if flags & os.O_WRONLY else "rb")
        handle = _Handle(flags)
        handle.server = self._server
        handle.readfile = handle.writefile = file
        return handle

    def remove(self, path: str) -> int:
        return self._try("remove", path, lambda: self._real(path).unlink())

    def rename(self, oldpath: str, newpath: str) -> int:
        def move() -> None:
            if self._real(newpath).exists():
                raise FileExistsError(17, "exists")
            self._real(oldpath).replace(self._real(newpath))

        return self._try("rename", newpath, move)

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        if not self._server.posix_rename:
            return int(paramiko.SFTP_OP_UNSUPPORTED)
        return self._try("posix_rename", newpath, lambda: self._real(oldpath).replace(self._real(newpath)))

    def mkdir(self, path: str, attr: SFTPAttributes) -> int:
        return self._try("mkdir", path, self._real(path).mkdir)


class _Handle(SFTPHandle):  # type: ignore[misc]
    server: Sftp
    written = 0

    def write(self, offset: int, data: bytes) -> int:
        self.written += len(data)
        if self.server.fail_after is not None and self.written > self.server.fail_after:
            return int(paramiko.SFTP_FAILURE)
        return int(super().write(offset, data))

    def stat(self) -> Any:
        return SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))


@dataclass
class Store:
    """An S3 store. `bucket` exists; requests of ours are made by its vendor's own client, `boto`."""

    endpoint: str
    boto: Any
    bucket: str = "flights"

    def vault(self, **changes: Any) -> Vault:
        given: dict[str, Any] = {"host": self.endpoint, "schema": self.bucket, "login": "AKIAEXAMPLE", "password": "s3-canary-secret"}
        return vault_of("s3", extra={"region": "us-east-1"} | changes.pop("extra", {}), **(given | changes))

    def put(self, key: str, content: bytes) -> None:
        self.boto.put_object(Bucket=self.bucket, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return bytes(self.boto.get_object(Bucket=self.bucket, Key=key)["Body"].read())

    def listed(self) -> list[str]:
        return [one["Key"] for one in self.boto.list_objects_v2(Bucket=self.bucket).get("Contents", [])]


@contextmanager
def s3_store() -> Iterator[Store]:
    """On a free port of loopback, until the block ends."""
    import boto3

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="s3-canary-secret"
    )
    try:
        boto.create_bucket(Bucket=Store.bucket)
        yield Store(endpoint, boto)
    finally:
        boto.close()
        server.stop()
