"""While one huge answer is parsed and checked, other calls of the process go on."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from recorder import ANSWER, Recorder, Request, answer
from scripts import interrupt_when, start
from wild_server import WildServer, whole

import llmbackend


class Meanwhile:
    """Small calls, one after the other, while something else happens; `longest` is the time between two answers."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._server = Recorder()
        self.answered: list[float] = []

    def __enter__(self) -> Meanwhile:
        self._server.__enter__()
        client = llmbackend.client("openai", "m", api_key="sandbox", base_url=self._server.url)
        client.get_response("hi")

        def ask() -> None:
            while not self._over.is_set():
                client.get_response("hi")
                self.answered.append(time.monotonic())

        self._caller = threading.Thread(target=ask)
        self._caller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._caller.join()
        self._server.__exit__()

    def longest(self, begin: float, end: float) -> float:
        times = [begin, *(moment for moment in self.answered if begin < moment < end), end]
        return max(later - earlier for earlier, later in itertools.pairwise(times))


def sent_by(body: bytes) -> tuple[Callable[[Request], Iterator[bytes]], list[float]]:
    """A script that sends `body`, and the moments at which the last byte of it was on its way."""
    moments: list[float] = []

    def script(_: Request) -> Iterator[bytes]:
        yield from whole(body)
        moments.append(time.monotonic())

    return script, moments


NUMBERS = json.dumps(answer(json.dumps({"a": list(range(3_000_000))}))).encode()
BROKEN = json.dumps(answer('{"a": [' + "1, " * 4_000_000)).encode()
OBJECTS = json.dumps({**ANSWER, "junk": [{"a": n} for n in range(900_000)]}).encode()
INTEGERS = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}


def held_up(body: bytes, call: Callable[[llmbackend.Client], Any]) -> tuple[float, float]:
    """How long `call` took after its reply had come, and how long other calls waited meanwhile."""
    script, sent = sent_by(body)
    with WildServer(script) as server, Meanwhile() as meanwhile:
        call(llmbackend.client("openai", "m", api_key="sandbox", base_url=server.url, max_retries=0))
        end = time.monotonic()
    [begin] = sent
    return end - begin, meanwhile.longest(begin, end)


def ask_for_numbers(client: llmbackend.Client) -> None:
    client._core.generate("hi", llmbackend.GenerationConfig(), llmbackend.StructuredOutput(INTEGERS)._core)


def ask_in_vain(client: llmbackend.Client) -> None:
    with pytest.raises(llmbackend.InvalidOutputError):
        client.get_response("hi", schema=INTEGERS)


def ask_for_text(client: llmbackend.Client) -> None:
    assert client.get_response("hi") == "ok"


def submit_in_vain(client: llmbackend.Client) -> None:
    batch = client.submit_batch(["hi"], schema=INTEGERS, batch_options={"native": False})
    assert [item.status for item in batch.items()] == ["invalid"]


def poll(client: llmbackend.Client) -> None:
    with pytest.raises(llmbackend.APIError, match="describes no batch"):
        client.get_batch("batch_1").status()


@pytest.mark.parametrize(
    ("body", "call"),
    [(NUMBERS, ask_for_numbers), (BROKEN, ask_in_vain), (OBJECTS, ask_for_text), (BROKEN, submit_in_vain)],
    ids=["a long list", "a broken list", "much beside a short text", "an immediate batch"],
)
def test_small_calls_are_answered_while_a_huge_answer_is_read(body: bytes, call: Any) -> None:
    took, waited = held_up(body, call)
    assert took > 0.15, "too small to show anything"
    assert waited < max(took / 3, 0.1)


def test_small_calls_are_answered_while_a_huge_state_is_read() -> None:
    job = json.dumps({"junk": [{"a": n} for n in range(1_000_000)]}).encode()
    took, waited = held_up(job, poll)
    assert took > 0.15
    assert waited < max(took / 3, 0.1)


# An answer of some dozen bytes that takes as long as its schema makes it.
NESTED = {
    "$defs": {"n": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/n"}}] * 3}},
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/n"}},
}


def nested(depth: int) -> bytes:
    return json.dumps(answer('{"a": ' + "[" * depth + "1" + "]" * depth + "}")).encode()


def test_small_calls_are_answered_while_a_schema_takes_long_to_check() -> None:
    def ask(client: llmbackend.Client) -> None:
        shape = llmbackend.StructuredOutput(NESTED, strict=False)
        with pytest.raises(llmbackend.InvalidOutputError):
            client.get_response("hi", schema=shape)

    took, waited = held_up(nested(10), ask)
    assert took > 0.15
    assert waited < max(took / 3, 0.1)


def test_other_rows_of_an_immediate_batch_go_on() -> None:
    """The rows of a batch share a task; a huge answer among them must not hold up the others."""
    arrived: list[float] = []

    def script(request: Request) -> Iterator[bytes]:
        if request.json["input"] == "huge":
            return whole(NUMBERS)
        arrived.append(time.monotonic())
        return whole(json.dumps(answer('{"a": [1]}')).encode())

    with WildServer(script) as server:
        client = llmbackend.client("openai", "m", api_key="sandbox", base_url=server.url)
        options = {"native": False, "concurrency": 2}
        batch = client.submit_batch(["huge", *["small"] * 300], schema=INTEGERS, batch_options=options)
        statuses = [batch.items().__next__().status]
    assert statuses == ["succeeded"]
    assert len(arrived) == 300
    assert max(later - earlier for earlier, later in itertools.pairwise(arrived)) < 0.3


def test_ctrl_c_is_heard_while_a_huge_answer_is_checked() -> None:
    code = """
    from json import loads
    shape = llmbackend.StructuredOutput(loads(os.environ["SCHEMA"]), strict=False)
    interrupted(lambda: client.get_response("hi", schema=shape))
    """
    script, sent = sent_by(nested(15))
    with WildServer(script) as server:
        options = {"api_key": "sandbox", "base_url": server.url}
        process = start(code, options, SCHEMA=json.dumps(NESTED))
        told = interrupt_when(process, lambda: bool(sent), pause=0.3)
    assert told["after"] < 0.6
    assert told["seconds"] > 0.25
