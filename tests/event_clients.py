"""A WebSocket client over a bare socket, which may do what no library lets it: stop reading, die, send what is no frame."""

import base64
import json
import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Closed(Exception):
    """The server has closed the connection, with `code` (0: without a close frame)."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code}: {reason}")
        self.code, self.reason = code, reason


class EventClient:
    """Connected when it is made. Errors: `AssertionError` with the server's answer when the handshake is refused."""

    def __init__(self, port: int, query: str = "", *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /api/ws{query} HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head.split(b"\r\n")[0], head

    def _more(self) -> None:
        try:
            piece = self.socket.recv(1 << 16)
        except ConnectionResetError:
            piece = b""
        if not piece:
            raise Closed(0)
        self._buffer += piece

    def _frame(self) -> tuple[int, bytes]:
        while len(self._buffer) < 2:
            self._more()
        opcode, length, start = self._buffer[0] & 0x0F, self._buffer[1], 2
        assert self._buffer[0] & 0xF0 == 0x80, "whole frames only"
        if length >= 126:
            start += 2 if length == 126 else 8
            while len(self._buffer) < start:
                self._more()
            length = int.from_bytes(self._buffer[2:start])
        while len(self._buffer) < start + length:
            self._more()
        payload, self._buffer = self._buffer[start : start + length], self._buffer[start + length :]
        return opcode, payload

    def messages(self) -> Iterator[dict[str, Any]]:
        """What the server sends. Errors: `Closed`."""
        while True:
            opcode, payload = self._frame()
            if opcode == CLOSE:
                self.send(CLOSE, payload[:2])
                raise Closed(int.from_bytes(payload[:2]), payload[2:].decode())
            if opcode == PING:
                self.send(PONG, payload)
            elif opcode == TEXT:
                yield json.loads(payload)

    def next(self) -> dict[str, Any]:
        return next(self.messages())

    def closed(self) -> Closed:
        """How the server ends the connection; what it sends before is passed over."""
        try:
            for _ in self.messages():
                pass
        except Closed as error:
            return error
        raise AssertionError

    def send(self, opcode: int, payload: bytes, *, length: int | None = None) -> None:
        """One masked frame; `length` to say another than it has."""
        size = len(payload) if length is None else length
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size) if size < 126 else struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
        if 126 <= size < 1 << 16:
            head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
        self.raw(head + b"\0\0\0\0" + payload)

    def say(self, document: object) -> None:
        self.send(TEXT, json.dumps(document).encode())

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def kill(self) -> None:
        """As a machine that is switched off, but that the server hears of it: no close frame, what is unread is lost."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()
