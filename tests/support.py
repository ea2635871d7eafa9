"""What several test files use: looks into a sandbox, and a proxy that misbehaves where the sandbox cannot."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BATCHES = "/api.openai.com/v1/batches"
POLL = 0.01
OWN_ENV = {"PYTHONWARNINGS": "error", "PATH": "/usr/bin:/bin"}


def prompts(count: int) -> list[str]:
    return [f"Prompt {n}" for n in range(count)]


def posts(box: Any, path: str = "/v1/batches") -> list[int]:
    """The statuses of the POSTs to `path`."""
    return [status for method, seen, status in box.requests() if method == "POST" and seen.endswith(path)]


def gets(box: Any, part: str) -> list[int]:
    return [status for method, seen, status in box.requests() if method == "GET" and part in seen]


def ask(url: str, method: str = "GET", body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": "Bearer sandbox", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request) as reply:
        return json.loads(reply.read() or b"null")


def jobs(box: Any) -> list[dict[str, Any]]:
    """All jobs of the sandbox, newest first."""
    found = ask(box.url("openai") + "/batches?limit=100")["data"]
    assert isinstance(found, list)
    return found


def job(box: Any, batch_id: str) -> dict[str, Any]:
    found = ask(f"{box.url('openai')}/batches/{batch_id}")
    assert isinstance(found, dict)
    return found


def delete_input(box: Any, batch_id: str) -> None:
    ask(f"{box.url('openai')}/files/{job(box, batch_id)['input_file_id']}", "DELETE")


def statuses(batch: Any) -> list[str]:
    return [item.status for item in batch.items()]


def run_python(code: str, *args: str, **options: Any) -> str:
    """Runs `code` in another process, which must end well; its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *args], capture_output=True, text=True, timeout=50, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Drop(Exception):
    """Raised by a hook: close the connection without an answer."""


@dataclass
class Reply:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    # Send so many bytes of the body, then close.
    cut_at: int | None = None

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Reply:
        return cls(status, {"content-type": "application/json"}, json.dumps(value).encode())

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Exchange:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    upstream: str

    def forward(self) -> Reply:
        """The sandbox's own answer."""
        url = urllib.parse.urlsplit(self.upstream)
        with contextlib.closing(http.client.HTTPConnection(url.netloc, timeout=20)) as connection:
            connection.request(self.method, self.path, self.body or None, self.headers)
            reply = connection.getresponse()
            headers = {name.lower(): value for name, value in reply.getheaders()}
            body = reply.read()
        for name in ("content-length", "transfer-encoding", "connection", "date"):
            headers.pop(name, None)
        return Reply(reply.status, headers, body)


Hook = Callable[[Exchange], Reply]


class Proxy:
    """A server before a sandbox: `hook` gets every request and makes the answer; without one, all passes."""

    def __init__(self, box: Any, hook: Hook = Exchange.forward) -> None:
        upstream = urllib.parse.urlsplit(box.url("openai"))
        self.hook = hook
        self.seen: list[Exchange] = []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self._body()
                headers = {name.lower(): value for name, value in self.headers.items()}
                headers.pop("transfer-encoding", None)
                exchange = Exchange(self.command, self.path, headers, body, upstream.geturl())
                proxy.seen.append(exchange)
                try:
                    reply = proxy.hook(exchange)
                except Drop:
                    self.close_connection = True
                    return
                with contextlib.suppress(OSError):
                    self._send(reply)

            do_GET = do_POST = do_DELETE = handle_any

            def _body(self) -> bytes:
                if "chunked" not in self.headers.get("transfer-encoding", ""):
                    return self.rfile.read(int(self.headers.get("content-length") or 0))
                pieces = []
                while length := int(self.rfile.readline(), 16):
                    pieces.append(self.rfile.read(length))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(pieces)

            def _send(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body[: reply.cut_at])
                if reply.cut_at is not None:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # a client that went away

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}{upstream.path}"
        self.options = {"api_key": "sandbox", "base_url": self.url}
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def is_create(exchange: Exchange) -> bool:
    return exchange.method == "POST" and exchange.path.endswith("/batches")


def is_content(exchange: Exchange) -> bool:
    return exchange.path.endswith("/content")


def change_lines(change: Callable[[list[bytes]], list[bytes]]) -> Hook:
    """A hook that edits the lines of every result file that is downloaded."""

    def hook(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        is_input = b'"url":"/v1/responses"' in reply.body
        if is_content(exchange) and reply.status == 200 and not is_input:
            lines = change([line for line in reply.body.split(b"\n") if line])
            reply.body = b"".join(line + b"\n" for line in lines)
        return reply

    return hook
