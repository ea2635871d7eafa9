"""How the package behaves in a process: the GIL, Ctrl-C, forks, exits, temporary files and memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import llmbackend
import pytest
from support import POLL, Exchange, Proxy, Reply, is_create, jobs, posts, prompts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks of POSIX")

# What every script below begins with: the client, and a report for the test.
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


class Ticker:
    """Counts on another thread, which it can only do while nobody holds the GIL."""

    def __enter__(self) -> Ticker:
        self.ticks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def _run(self) -> None:
        while not self._over.is_set():
            self.ticks += 1
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_others_work_while_a_call_waits(box: Any) -> None:
    box.fault("stall@POST /v1/responses")
    client = llmbackend.client("openai", "m", **box.options("openai"), timeout=0.5, max_retries=0)
    with Ticker() as ticker:
        before = ticker.ticks
        with pytest.raises(llmbackend.APITimeoutError):
            client.get_response("a")
        assert ticker.ticks - before > 50


def test_others_work_while_a_batch_is_waited_for() -> None:
    with llmbackend.sandbox(speed=1) as slow:
        batch = llmbackend.create_batch(["a"], "openai", "m", **slow.options("openai"))
        with Ticker() as ticker:
            before = ticker.ticks
            with pytest.raises(llmbackend.BatchTimeoutError):
                batch.wait(poll_interval=60, timeout=0.5)
            assert ticker.ticks - before > 50


def test_others_work_while_rows_are_built(box: Any, client: Any) -> None:
    # One id too many: the rows are built, and nothing is sent.
    ids = [f"id-{n}" for n in range(50_001)]
    inputs = ["日本語 " * 400] * 50_000
    with Ticker() as ticker:
        before = ticker.ticks
        with pytest.raises(llmbackend.ConfigurationError, match="at most|50001 ids"):
            client.submit_batch(inputs, batch_options={"custom_ids": ids})
        assert ticker.ticks - before > 10
    assert box.requests() == []


def interrupt_when(process: subprocess.Popen[str], holds: Any, pause: float = 0.15) -> Any:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_until(holds)
    time.sleep(pause)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    told = end(process)
    return told | {"after": time.monotonic() - sent}


def test_an_interrupt_is_heard_in_a_call(box: Any) -> None:
    box.fault("stall@POST /v1/responses")
    process = start("interrupted(lambda: client.get_response('a'))", box.options("openai"))
    told = interrupt_when(process, lambda: posts(box, "/v1/responses"))
    assert told["after"] < 1
    assert told["notes"] == []


def test_an_interrupt_is_heard_in_a_wait() -> None:
    with llmbackend.sandbox(speed=1) as slow:
        code = """
        batch = client.submit_batch(["a"])
        interrupted(lambda: batch.wait(poll_interval=60))
        """
        told = interrupt_when(start(code, slow.options("openai")), lambda: posts(slow))
        assert told["after"] < 1


def test_an_interrupt_is_heard_in_an_upload(box: Any) -> None:
    box.fault("stall@POST /v1/files")
    process = start("interrupted(lambda: client.submit_batch(['a']))", box.options("openai"))
    told = interrupt_when(process, lambda: posts(box, "/v1/files"))
    assert told["after"] < 1
    assert posts(box) == []


def test_an_interrupt_is_heard_while_rows_are_built(box: Any) -> None:
    code = """
    import itertools
    sent = []
    def interrupt():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
    # No Python code runs between two inputs, so that the core itself must look.
    inputs = itertools.repeat("日本語 \\n" * 600, 18_000)
    threading.Timer(0.05, interrupt).start()
    interrupted(lambda: client.submit_batch(inputs))
    tell(heard=time.monotonic() - sent[0], left=len(list(inputs)))
    """
    told = run(code, box.options("openai"))
    assert told["left"] > 0  # it was still building
    assert told["heard"] < 0.5
    assert box.requests() == []


def test_an_interrupt_during_a_create_names_the_job(box: Any) -> None:
    creating = threading.Event()

    def slowly(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if is_create(exchange):
            creating.set()
            time.sleep(1)
        return reply

    with Proxy(box, slowly) as proxy:
        process = start("interrupted(lambda: client.submit_batch(['a']))", proxy.options)
        told = interrupt_when(process, creating.is_set)
    assert 0.5 < told["after"] < 3
    (note,) = told["notes"]
    (made,) = jobs(box)
    assert f"was created: {made['id']}" in note
    assert posts(box) == [200]


def test_an_interrupt_together_with_the_answer_names_the_job(box: Any) -> None:
    found: list[subprocess.Popen[str]] = []

    def interrupting(exchange: Exchange) -> Reply:
        reply = exchange.forward()
        if is_create(exchange):
            found[0].send_signal(signal.SIGINT)
        return reply

    with Proxy(box, interrupting) as proxy:
        for count in range(1, 4):
            found[:] = [start("interrupted(lambda: client.submit_batch(['a']))", proxy.options)]
            told = end(found[0])
            assert len(jobs(box)) == count
            assert jobs(box)[0]["id"] in told["notes"][0]


def test_an_interrupt_while_a_job_is_looked_for(box: Any) -> None:
    box.fault("lost_reply:1@POST /v1/batches")
    box.fault("late_list:1")
    process = start("interrupted(lambda: client.submit_batch(['a']))", box.options("openai"))
    told = interrupt_when(process, lambda: posts(box))
    assert jobs(box)[0]["id"] in told["notes"][0]
    assert posts(box) == [0]


def test_an_interrupt_before_a_refusal(box: Any) -> None:
    creating = threading.Event()

    def refuse(exchange: Exchange) -> Reply:
        if not is_create(exchange):
            return exchange.forward()
        creating.set()
        time.sleep(0.6)
        return Reply.of({"error": {"message": "No such thing."}}, 400)

    with Proxy(box, refuse) as proxy:
        process = start("interrupted(lambda: client.submit_batch(['a']))", proxy.options)
        told = interrupt_when(process, creating.is_set)
    assert "was not created: openai: No such thing." in told["notes"][0]


def test_a_second_interrupt_does_not_wait(box: Any) -> None:
    box.fault("stall@POST /v1/batches")
    process = start("interrupted(lambda: client.submit_batch(['a']))", box.options("openai"))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_until(lambda: posts(box))
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # it waits for the answer
    process.send_signal(signal.SIGINT)
    (note,) = end(process)["notes"]
    assert "not known whether the batch was created" in note
    assert "input file file-" in note


FORK = """
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
assert client.get_response("before") == "before"
batch = client.submit_batch(["a", "b"]).wait(0.01)
if {fetched}:
    assert batch.results() == ["a", "b"]
def work(name):
    for n in range(3):
        assert client.get_response(f"{{name}} {{n}}") == f"{{name}} {{n}}"
    assert batch.results() == ["a", "b"]
    assert client.submit_batch([name]).wait(0.01).results() == [name]
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    code = 1
    try:
        if {parent_first}:
            time.sleep(0.3)
        work("child")
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)
signal.alarm(30)
if {parent_first}:
    work("parent")
_, status = os.waitpid(pid, 0)
work("parent")
tell(status=status)
"""


@pytest.mark.parametrize("parent_first", [True, False])
@pytest.mark.parametrize("fetched", [True, False])
def test_a_forked_child_goes_on_with_a_client(box: Any, parent_first: bool, fetched: bool) -> None:
    assert run(FORK.format(parent_first=parent_first, fetched=fetched), box.options("openai")) == {"status": 0}


def test_a_child_that_ends_normally_leaves_its_parent_alone(box: Any) -> None:
    code = """
    warnings.simplefilter("ignore", DeprecationWarning)
    import multiprocessing
    batch = client.submit_batch([f"Prompt {n}" for n in range(500)])
    def work(queue, n):
        queue.put((n, batch.wait(0.01).results(), client.get_response(str(n))))
    if __name__ == "__main__":
        signal.alarm(30)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        children = [context.Process(target=work, args=(queue, n)) for n in range(3)]
        for child in children:
            child.start()
        found = sorted(queue.get() for _ in children)
        for child in children:
            child.join()
        own = batch.wait(0.01).results()
        tell(same=all(results == own for _, results, _ in found), texts=[text for _, _, text in found],
             codes=[child.exitcode for child in children], count=len(own))
    """
    told = run(code, box.options("openai"))
    assert told == {"same": True, "texts": ["0", "1", "2"], "codes": [0, 0, 0], "count": 500}


def test_a_fork_beside_a_sandbox_and_a_call_in_flight() -> None:
    code = """
    warnings.simplefilter("ignore", DeprecationWarning)
    box = llmbackend.sandbox()
    box.fault("stall:1@POST /v1/responses")
    client = llmbackend.client("openai", "m", **box.options("openai"), timeout=2, max_retries=0)
    texts = []
    def call():
        try:
            client.get_response("stalled")
        except llmbackend.APITimeoutError:
            texts.append("timed out")
    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.3)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        assert client.get_response("child") == "child"
        box.close()
        sys.exit(0)
    signal.alarm(30)
    _, status = os.waitpid(pid, 0)
    assert client.get_response("parent") == "parent"
    thread.join()
    box.close()
    tell(status=status, texts=texts)
    """
    assert run(code, {"api_key": "k"}) == {"status": 0, "texts": ["timed out"]}


@pytest.mark.parametrize("what", ["client.get_response('a')", "client.submit_batch(['a']).wait()"])
def test_the_interpreter_ends_beside_a_call_in_flight(what: str) -> None:
    with llmbackend.sandbox(speed=0.01, faults=["stall@POST /v1/responses"]) as slow:
        code = f"""
        threading.Thread(target=lambda: {what}, daemon=True).start()
        time.sleep(0.4)
        tell(now=True)
        """
        started = time.monotonic()
        assert run(code, slow.options("openai")) == {"now": True}
        assert time.monotonic() - started < 5


def test_temporary_files_are_where_they_belong_and_go(box: Any, tmp_path: Path) -> None:
    code = """
    folder = os.environ["TMPDIR"]
    def in_use():
        links = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                 if os.path.lexists(f"/proc/self/fd/{n}")]
        return len([link for link in links if link.startswith(folder)])
    used = []
    def inputs():
        for n in range(3000):
            if n == 2500:
                used.append(in_use())
            yield f"Prompt {n}"
    batch = client.submit_batch(inputs()).wait(0.01)
    results = batch.results()
    used.append(in_use())
    assert len(results) == 3000
    listed = os.listdir(folder)
    del batch, results
    tell(used=used, listed=listed, left=in_use())
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("/proc")
    told = run(code, box.options("openai"), TMPDIR=str(tmp_path))
    assert told == {"used": [1, 1], "listed": [], "left": 0}
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_batch_leaves_no_file(box: Any, tmp_path: Path) -> None:
    box.fault("stall@POST /v1/files")
    process = start("interrupted(lambda: client.submit_batch(['a']))", box.options("openai"), TMPDIR=str(tmp_path))
    interrupt_when(process, lambda: posts(box, "/v1/files"))
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_that_is_not_there(box: Any, tmp_path: Path) -> None:
    code = """
    try:
        client.submit_batch(["a"])
    except llmbackend.LLMBackendError as error:
        tell(kind=type(error).__name__, message=str(error))
    """
    told = run(code, box.options("openai"), TMPDIR=str(tmp_path / "none"))
    assert told["kind"] == "LLMBackendError"
    assert str(tmp_path / "none") in told["message"]
    assert "TMPDIR" in told["message"]
    assert box.requests() == []


LIMITED = """
import resource
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
"""


def test_a_full_disk_while_rows_are_built(box: Any, tmp_path: Path) -> None:
    code = """
    limit(1_000_000)
    try:
        client.submit_batch("x" * 1000 for _ in range(3000))
    except llmbackend.LLMBackendError as error:
        first = str(error)
    limit(resource.RLIM_INFINITY)
    client.submit_batch("x" * 1000 for _ in range(3000))
    tell(message=first)
    """
    message = run(LIMITED + textwrap.dedent(code), box.options("openai"), TMPDIR=str(tmp_path))["message"]
    for words in ("Writing", "bytes of requests", str(tmp_path), "Free some space", "TMPDIR"):
        assert words in message
    assert posts(box) == [200]


def test_a_full_disk_while_results_come(box: Any, client: Any, tmp_path: Path) -> None:
    batch = client.submit_batch(["x" * 1000] * 2000).wait(POLL)
    code = """
    batch = client.get_batch(os.environ["BATCH"])
    limit(1_000_000)
    try:
        batch.results()
    except llmbackend.LLMBackendError as error:
        first = str(error)
    limit(resource.RLIM_INFINITY)
    tell(message=first, count=len(batch.results()))
    """
    told = run(LIMITED + textwrap.dedent(code), box.options("openai"), TMPDIR=str(tmp_path), BATCH=batch.id)
    assert "Saving a download" in told["message"]
    assert str(tmp_path) in told["message"]
    assert told["count"] == 2000


def test_memory_does_not_grow_with_the_rows(box: Any) -> None:
    code = """
    import resource
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    def inputs(count):
        for n in range(count):
            yield f"{n} " + "x" * 4000
    batch = client.submit_batch(inputs(100)).wait(0.01)
    assert len([item for item in batch.items()]) == 100
    before = peak()
    batch = client.submit_batch(inputs(40_000))
    built = peak()
    batch.wait(0.1)
    count = 0
    for item in batch.items():
        assert item.value.startswith(f"{count} x") and item.index == count
        count += 1
    tell(count=count, built=built - before, read=peak() - built)
    """
    told = run(code, box.options("openai"))
    assert told["count"] == 40_000
    # Of 160 MB in and 190 MB out.
    assert told["built"] < 30, told
    assert told["read"] < 50, told


def test_long_prompts_do_not_pile_up(box: Any) -> None:
    code = """
    import resource
    client.get_response("a")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    client.submit_batch(f"{n}" + "x" * 1_000_000 for n in range(150))
    tell(grown=(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    assert run(code, box.options("openai"))["grown"] < 50
    assert posts(box) == [200]


def test_signal_handlers_of_the_caller_run(box: Any) -> None:
    """An interrupt that the caller handles does not end the call."""
    code = """
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    batch = client.submit_batch(["a"])
    batch.wait(0.6)
    tell(heard=heard, results=batch.results())
    """
    assert run(code, box.options("openai")) == {"heard": [1], "results": ["a"]}


def test_a_callback_may_end_a_wait(client: Any) -> None:
    class Enough(Exception):
        pass

    def callback(state: str) -> None:
        raise Enough(state)

    batch = client.submit_batch(prompts(2))
    with pytest.raises(Enough):
        batch.wait(POLL, callback=callback)
    assert batch.wait(POLL).results() == prompts(2)
