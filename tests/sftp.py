"""An SFTP server on loopback, for as long as a block lasts: paramiko's own, over a folder."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko


@dataclass(frozen=True)
class SftpServer:
    port: int
    host_key: paramiko.PKey

    @property
    def line(self) -> str:
        """The key as a line of known_hosts has it, without the host."""
        return f"{self.host_key.get_name()} {self.host_key.get_base64()}"


class _Login(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko has no types
    def __init__(self, password: str, key: paramiko.PKey | None) -> None:
        self._password, self._key = password, key

    def check_auth_password(self, username: str, password: str) -> int:
        right = username == "ada" and password == self._password
        return int(paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED)

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        right = username == "ada" and key == self._key
        return int(paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED)

    def get_allowed_auths(self, username: str) -> str:
        return "password,publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)


def _interface(root: Path) -> type[paramiko.SFTPServerInterface]:
    class Files(paramiko.SFTPServerInterface):  # type: ignore[misc]
        def _real(self, path: str) -> Path:
            return root / str(self.canonicalize(path)).lstrip("/")

        def stat(self, path: str) -> paramiko.SFTPAttributes | int:
            try:
                return paramiko.SFTPAttributes.from_stat(self._real(path).stat())
            except OSError as error:
                return int(paramiko.SFTPServer.convert_errno(error.errno or 0))

    return Files


@contextmanager
def running(root: Path, password: str, key: paramiko.PKey | None = None) -> Iterator[SftpServer]:
    """Lets `ada` in."""
    host_key = paramiko.ECDSAKey.generate()
    listener = socket.create_server(("127.0.0.1", 0))
    transports: list[paramiko.Transport] = []

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(accepted)
            transports.append(transport)
            transport.add_server_key(host_key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _interface(root))
            try:
                transport.start_server(server=_Login(password, key))
            except (paramiko.SSHException, EOFError, OSError):
                transport.close()  # the client did not like the key, and may have hung up with a reset

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield SftpServer(listener.getsockname()[1], host_key)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for transport in transports:
            transport.close()
        thread.join(5)
