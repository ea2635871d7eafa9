"""Proxies and TLS servers on loopback, each of a few lines."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

BODY = (
    b'{"id": "r", "status": "completed", "output": [{"type": "message", "role": "assistant", '
    b'"content": [{"type": "output_text", "text": "ok"}]}]}'
)
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Listener:
    """A server that calls `serve` with each connection, on a thread of its own."""

    def __init__(self, serve: Callable[[Listener, socket.socket], None], host: str = "127.0.0.1") -> None:
        self.seen: list[bytes] = []
        self._serve = serve
        self._socket = socket.create_server((host, 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._serve(self, connection)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone leaves a thread in accept(), which would take one more connection.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def read_request(connection: socket.socket) -> bytes:
    """A whole request, whose length is known."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answering(reply: bytes = ANSWER) -> Callable[[Listener, socket.socket], None]:
    """An HTTP server or proxy that gives the same answer to everything."""

    def serve(listener: Listener, connection: socket.socket) -> None:
        while request := read_request(connection):
            listener.seen.append(request)
            connection.sendall(reply)
            if reply is not ANSWER:
                return

    return serve


def socks5(listener: Listener, connection: socket.socket) -> None:
    """A SOCKS proxy, which is the server behind it as well."""
    _, count = connection.recv(2)
    methods = connection.recv(count)
    if 2 in methods:
        connection.sendall(b"\x05\x02")
        listener.seen.append(connection.recv(600))
        connection.sendall(b"\x01\x00")
    else:
        connection.sendall(b"\x05\x00")
    listener.seen.append(connection.recv(600))
    connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
    answering()(listener, connection)


def tunnel(port: int) -> Callable[[Listener, socket.socket], None]:
    """A proxy whose tunnels all lead to a port of this machine."""

    def serve(listener: Listener, connection: socket.socket) -> None:
        listener.seen.append(read_request(connection))
        with socket.create_connection(("127.0.0.1", port)) as server:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            other = threading.Thread(target=pump, args=(server, connection), daemon=True)
            other.start()
            pump(connection, server)

    return serve


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


def with_tls(certificate: Any, serve: Callable[[Listener, socket.socket], None]) -> Callable[..., None]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return with_context(context, serve)


def with_context(context: ssl.SSLContext, serve: Callable[[Listener, socket.socket], None]) -> Callable[..., None]:
    def serve_tls(listener: Listener, connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as secure:
            serve(listener, secure)

    return serve_tls
