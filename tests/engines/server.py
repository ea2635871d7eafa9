"""Starts somebody else's server, and ends it whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Seconds. Two of vLLM's processes import it, one after the other: minutes on cores that are busy with something else.
STARTS_WITHIN = 480
ENDS_WITHIN = 15


@contextlib.contextmanager
def serve(command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """Runs `command --host ... --port ...` and gives the server's URL once its `/health` answers. What it prints goes
    into the file `log`, the end of which any failure to start shows."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ if env is None else env),
            start_new_session=True,  # a group of its own, its engine's processes among them
        )
    try:
        wait_until_healthy(server, url, log)
        yield url
    finally:
        end(server)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_until_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}:\n{tail(log)}")
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/health", timeout=5):
            return
        time.sleep(0.2)
    raise TimeoutError(f"the server is not there after {STARTS_WITHIN} s:\n{tail(log)}")


def tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]


def end(server: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        # Also where the server itself is gone: a process of its engine may be left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(ENDS_WITHIN)
