"""A raw HTTP/1.1 server for tests: it writes down what arrives, byte by byte, and answers by a script."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import dataclass, field, replace
from typing import Any

ANSWER: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-4o-mini-2024-07-18",
    "output": [
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "annotations": [], "text": "ok"}],
        }
    ],
    "usage": {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4},
}


def answer(text: str, **fields: Any) -> dict[str, Any]:
    """A response object of the Responses API that says `text`."""
    message = {**ANSWER["output"][0], "content": [{"type": "output_text", "annotations": [], "text": text}]}
    return {**ANSWER, "output": [message], **fields}


@dataclass
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass
class Reply:
    """What to answer. `body`: bytes as they are, str as UTF-8, anything else as JSON; or a function of the requests
    so far that returns one of these."""

    body: Any = field(default_factory=lambda: ANSWER)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    drop: bool = False
    """Close the connection instead of answering."""
    cut: int | None = None
    """Send only so many bytes of the body, then close."""
    silence: float = 0
    """Seconds to wait before the first byte."""
    stall: float = 0
    """Seconds to wait in the middle of the body."""

    def payload(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


class Recorder:
    """`with Recorder(Reply(...), ...) as recorder:`; the last reply is given again and again."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies) or [Reply()]
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.root = f"http://127.0.0.1:{self.port}"
        self.url = f"{self.root}/v1"
        # A mount under the provider's own name counts as the provider itself.
        self.openai_url = f"{self.root}/api.openai.com/v1"

    def __enter__(self) -> Recorder:
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        # A blocked accept() hears of close() only by a last visitor.
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed between two visitors
            if self._ended.is_set():
                connection.close()
                return
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                if stream.peek(1)[:1] == b"\x16":  # somebody speaks TLS to a plain port
                    connection.sendall(b"HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n")
                    return
                while (request := read_request(stream)) is not None:
                    with self._lock:
                        reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
                        self.requests.append(request)
                        if callable(reply.body):
                            reply = replace(reply, body=reply.body(self.requests))
                    if not self._answer(connection, reply):
                        return
        except (OSError, ValueError):
            return  # the client, or the test, is gone

    def _answer(self, connection: socket.socket, reply: Reply) -> bool:
        """Whether the connection lives on."""
        self._ended.wait(reply.silence)
        if reply.drop:
            return False
        body = reply.payload()
        headers = {"content-type": "application/json", **reply.headers}
        headers |= {"transfer-encoding": "chunked"} if reply.chunked else {"content-length": str(len(body))}
        head = f"HTTP/1.1 {reply.status} X\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(head.encode("latin-1") + b"\r\n")
        if reply.cut is not None:
            connection.sendall(body[: reply.cut])
            return False
        if reply.stall:
            connection.sendall(body[: len(body) // 2])
            self._ended.wait(reply.stall)
            body = body[len(body) // 2 :]
        if reply.chunked:
            pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        connection.sendall(body)
        return True


def read_request(stream: Any) -> Request | None:
    line = stream.readline().decode("latin-1")
    if not line.strip():
        return None
    method, path, _ = line.split(" ")
    headers: dict[str, str] = {}
    while (header := stream.readline().decode("latin-1").rstrip("\r\n")) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return Request(method, path, headers, stream.read(int(headers.get("content-length", 0))))


class Stopwatch:
    """`with Stopwatch() as watch: ...`, then `watch.seconds`."""

    seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._start
