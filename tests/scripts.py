"""Scripts in processes of their own, with a client of the test's server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

# What every script begins with: the client, and a report for the test.
HEAD = """
import json, os, signal, sys, threading, time, warnings
import llmbackend
options = json.loads(os.environ["OPTIONS"])
client = llmbackend.client("openai", "gpt-4o-mini", **options)
def tell(**facts):
    print(json.dumps(facts), flush=True)
def interrupted(call):
    # Says that it begins, and then how it was interrupted.
    print("ready", flush=True)
    began = time.monotonic()
    try:
        call()
    except KeyboardInterrupt as interrupt:
        tell(seconds=time.monotonic() - began, notes=getattr(interrupt, "__notes__", list(interrupt.args)))
"""


def start(code: str, options: dict[str, Any], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + textwrap.dedent(code)],
        env={**os.environ, "OPTIONS": json.dumps(options), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> Any:
    """What the script told in the end, which it must have reached without a word on stderr."""
    out, complaints = process.communicate(timeout=40)
    assert (process.returncode, complaints) == (0, "")
    return json.loads(out.splitlines()[-1])


def run(code: str, options: dict[str, Any], **environment: str) -> Any:
    return end(start(code, options, **environment))


def wait_until(holds: Any) -> None:
    limit = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def interrupt_when(process: subprocess.Popen[str], holds: Any, pause: float = 0.15) -> Any:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_until(holds)
    time.sleep(pause)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    told = end(process)
    return told | {"after": time.monotonic() - sent}
