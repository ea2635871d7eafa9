"""A raw HTTP/1.1 server whose replies are written by the test itself, byte by byte, for as long as the client reads."""

from __future__ import annotations

import socket
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator

from recorder import Request, read_request

MIB = 1 << 20
Script = Callable[[Request], Iterable[bytes]]


class WildServer:
    """`script` makes the pieces to send, head included; after them the connection is closed."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"

    def __enter__(self) -> WildServer:
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        # A blocked accept() hears of close() only by a last visitor.
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._acceptor.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self.ended.is_set():
                connection.close()
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                request = read_request(stream)
                if request is None:
                    return
                self.requests.append(request)
                for piece in self.script(request):
                    if self.ended.is_set():
                        return
                    connection.sendall(piece)
        except (OSError, ValueError):
            return  # the client, or the test, is gone


def head(status: int = 200, **headers: str) -> bytes:
    """A head after which the body goes on until the connection is closed."""
    fields = {"content-type": "application/json", "x-request-id": "req_1", "connection": "close", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode()


def whole(body: bytes, status: int = 200, **headers: str) -> Iterator[bytes]:
    yield head(status, content_length=str(len(body)), **headers)
    yield body


def endless(beginning: bytes = b"", filler: bytes = b" ") -> Iterator[bytes]:
    """A body without an end, not compressed."""
    yield beginning
    block = filler * (MIB // len(filler))
    while True:
        yield block


def bomb(beginning: bytes, gigabytes: int, wbits: int) -> Iterator[bytes]:
    """About a megabyte for each gigabyte of blanks."""
    packer = zlib.compressobj(wbits=wbits)
    yield packer.compress(beginning) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * (64 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(16 * gigabytes):
        yield block


def gzip_bomb(beginning: bytes = b"", gigabytes: int = 10) -> Iterator[bytes]:
    return bomb(beginning, gigabytes, 31)


def deflate_bomb(beginning: bytes = b"", gigabytes: int = 10) -> Iterator[bytes]:
    return bomb(beginning, gigabytes, 15)


BOMBS: dict[str, tuple[dict[str, str], Callable[[bytes], Iterator[bytes]]]] = {
    "gzip": ({"content_encoding": "gzip"}, gzip_bomb),
    "deflate": ({"content_encoding": "deflate"}, deflate_bomb),
    "plain": ({}, endless),
}
