"""Ctrl-C: heard at once, except while a job is being created, of which it then tells."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import pytest
from scripts import end, interrupt_when, run, start, wait_until
from support import POLL, Drop, Exchange, Proxy, Reply, is_create, jobs, posts, prompts

import llmbackend

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


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


def answering(count: int) -> Any:
    """A hook that answers so many calls, and none after them."""

    def hook(exchange: Exchange) -> Reply:
        if any(b'Prompt %d"' % number in exchange.body for number in range(count)):
            return exchange.forward()
        time.sleep(30)
        raise Drop

    return hook


# Interrupted by `ERROR` in the middle of an immediate batch, a script does as the note on it says.
GO_ON = r"""
import gc, re
print("ready", flush=True)
try:
    options = {"native": False, "concurrency": CONCURRENCY}
    client.submit_batch(["Prompt %d" % n for n in range(6)], batch_options=options)
except ERROR as error:
    (note,) = error.__notes__
    gc.collect()
    items = list(eval(re.search(r"client.get_batch.*", note)[0]))
    (kept,) = re.findall(r"immediate-\w+", note)
    tell(
        note=note,
        kind=type(error).__name__,
        texts=[item.text for item in items],
        statuses=[item.status for item in items],
        errors=[str(item.error) for item in items if item.error],
        state=client.get_batch_status(kept)["state"],
    )
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_interrupted_immediate_batch_keeps_its_answers(box: Any, concurrency: int) -> None:
    code = GO_ON.replace("ERROR", "KeyboardInterrupt").replace("CONCURRENCY", str(concurrency))
    with Proxy(box, answering(3)) as proxy:
        told = interrupt_when(start(code, proxy.options), lambda: len(proxy.seen) == 3 + concurrency)
    assert told["after"] < 2
    assert "3 of 6 inputs were answered" in told["note"]
    assert told["texts"] == [*prompts(3), None, None, None]
    assert told["statuses"] == ["succeeded"] * 3 + ["cancelled"] * 3
    assert len(told["errors"]) == 3
    assert all("interrupted before" in error for error in told["errors"])
    assert told["state"] == "completed"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
def test_what_a_signal_handler_raises_leaves_an_immediate_batch_its_answers(box: Any) -> None:
    handler = """
    class Enough(Exception):
        pass
    def enough(*_):
        raise Enough("enough")
    signal.signal(signal.SIGINT, enough)
    """
    code = textwrap.dedent(handler) + GO_ON.replace("ERROR", "Enough").replace("CONCURRENCY", "1")
    with Proxy(box, answering(1)) as proxy:
        told = interrupt_when(start(code, proxy.options), lambda: len(proxy.seen) == 2)
    assert told["kind"] == "Enough"
    assert told["texts"] == ["Prompt 0", *[None] * 5]


def test_an_immediate_batch_without_an_answer_leaves_nothing(box: Any) -> None:
    with Proxy(box, answering(0)) as proxy:
        code = "interrupted(lambda: client.submit_batch(['Prompt 0'], batch_options={'native': False}))"
        told = interrupt_when(start(code, proxy.options), lambda: proxy.seen)
    assert told["after"] < 1
    assert told["notes"] == []


def test_signal_handlers_of_the_caller_run() -> None:
    """An interrupt that the caller handles does not end the call."""
    code = """
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    batch = client.submit_batch(["a"])
    threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    batch.wait()
    tell(heard=heard, results=batch.results())
    """
    with llmbackend.sandbox(speed=60) as slow:  # the job takes more than a second
        assert run(code, slow.options("openai")) == {"heard": [1], "results": ["a"]}


def test_a_callback_may_end_a_wait(client: Any) -> None:
    class Enough(Exception):
        pass

    def callback(state: str) -> None:
        raise Enough(state)

    batch = client.submit_batch(prompts(2))
    with pytest.raises(Enough):
        batch.wait(POLL, callback=callback)
    assert batch.wait(POLL).results() == prompts(2)
