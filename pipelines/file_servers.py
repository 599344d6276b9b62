"""SFTP servers: connected to at exactly the address that was judged, and talked to only when their key is the known one."""

import base64
import contextlib
import hashlib
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko
from django.conf import settings

from brokoli_site.common.addresses import resolve
from brokoli_site.common.errors import NodeError, TransientNodeError
from pipelines.vault import ConnectionDetails

DEFAULT_PORT = 22
ANY_KEY = "any"


@contextmanager
def opened(details: ConnectionDetails, seconds: float) -> Iterator[paramiko.SFTPClient]:
    """A session with the server of an `sftp` connection. `seconds` are for everything until it is there, and then for each answer.

    Errors: `NodeError`; `TransientNodeError` when the server cannot be reached; those of `addresses.resolve`.
    """
    deadline = time.monotonic() + seconds
    port = details.port or DEFAULT_PORT
    connection = _connected(details.host, port, deadline)
    # From here on the transport owns the socket, and closes it.
    transport = paramiko.Transport(connection)
    try:
        with _told(details.host):
            _prefer(transport, str(details.extra.get("host_key") or ""))
            transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = _left(deadline)
            transport.start_client(timeout=_left(deadline))
            _check_host_key(transport, details)
            _log_in(transport, details)
            client = paramiko.SFTPClient.from_transport(transport)
        if client is None:
            raise NodeError(f"{details.host} opens no SFTP session.")
        client.get_channel().settimeout(seconds)
        yield client
    finally:
        transport.close()


def _connected(host: str, port: int, deadline: float) -> socket.socket:
    failure: OSError = TimeoutError()
    for family, address in resolve(host, port, settings.ALLOWED_NETWORKS, _left(deadline)):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(_left(deadline))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise TransientNodeError(f"{host}:{port} cannot be reached; check the host and the port.") from failure


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())


@contextmanager
def _told(host: str) -> Iterator[None]:
    """What goes wrong with SSH in the block, in our words: the library's may name keys."""
    try:
        yield
    except paramiko.BadAuthenticationType as error:
        raise NodeError(f"{host} takes {', '.join(error.allowed_types)} to log in, not what the connection gives.") from error
    except paramiko.AuthenticationException as error:
        raise NodeError(f"{host} does not accept the user, the password or the key.") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise TransientNodeError(f"{host} does not speak SSH with us, or broke off ({type(error).__name__}).") from error


def _prefer(transport: paramiko.Transport, host_key: str) -> None:
    """Ask for the kind of key that is known: a server may have several."""
    kind = host_key.partition(" ")[0]
    options = transport.get_security_options()
    known = tuple(options.key_types)
    wanted = tuple(one for one in known if one == kind or (kind == "ssh-rsa" and one.startswith("rsa-sha2-")))
    if wanted:
        options.key_types = (*wanted, *(one for one in known if one not in wanted))


def _check_host_key(transport: paramiko.Transport, details: ConnectionDetails) -> None:
    """Errors: `NodeError` unless the server's key is the one of the connection, or that says `any`."""
    key = transport.get_remote_server_key()
    shown = fingerprint(key.asbytes())
    expected = str(details.extra.get("host_key") or "").strip()
    if expected == ANY_KEY:
        return
    if not expected:
        raise NodeError(
            f"The key of {details.host} is not known: {key.get_name()} {shown}. If that is the one its operator gives, set it as `host_key` of the "
            "connection; `any` would trust whoever answers."
        )
    same = expected.rstrip("=") == shown if expected.startswith("SHA256:") else expected.split()[1] == key.get_base64()
    if not same:
        raise NodeError(f"{details.host} shows another key than the connection's `host_key`: {key.get_name()} {shown}. Somebody may be in between.")


def fingerprint(key: bytes) -> str:
    """As OpenSSH shows it: `SHA256:…`."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _log_in(transport: paramiko.Transport, details: ConnectionDetails) -> None:
    private_key = details.extra.get("private_key")
    if private_key:
        transport.auth_publickey(details.login, _private_key(str(private_key), str(details.extra.get("passphrase") or "")))
    if not transport.is_authenticated():
        transport.auth_password(details.login, details.password)


def _private_key(text: str, passphrase: str) -> paramiko.PKey:
    """Errors: `NodeError` without the key."""
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        with contextlib.suppress(paramiko.SSHException, ValueError, IndexError, TypeError):
            found: paramiko.PKey = kind.from_private_key(io.StringIO(text.strip() + "\n"), passphrase or None)
            return found
    raise NodeError("The private key cannot be read: it must be an Ed25519, ECDSA or RSA key in OpenSSH's or PEM form, with the right passphrase.")
