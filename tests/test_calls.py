"""The verbs of a single call, the types that they give back, and what is true of all of them."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from recorder import ANSWER, Recorder, Reply, Stopwatch, answer

import llmbackend
from llmbackend import Client, Response, Usage


class Word(BaseModel):
    word: str


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Recorder() as recorder:
        yield recorder


def options(recorder: Recorder) -> dict[str, Any]:
    return {"api_key": "sk-test-1", "base_url": recorder.url}


def test_get_response(recorder: Recorder) -> None:
    assert llmbackend.get_response("openai", "m", "x", **options(recorder)) == "ok"
    config = {"temperature": 0.5}
    assert llmbackend.get_response("openai", "m", "x", config, **options(recorder)) == "ok"
    assert recorder.requests[-1].json["temperature"] == 0.5
    recorder.replies = [Reply(answer('{"word": "w"}'))]
    for word in (
        llmbackend.get_response("openai", "m", "x", None, Word, **options(recorder)),
        llmbackend.get_response(provider="openai", model="m", input="x", config=None, schema=Word, **options(recorder)),
        llmbackend.client("openai", "m", **options(recorder)).get_response("x", schema=Word),
        llmbackend.client(provider="openai", model="m", **options(recorder)).get_response(input="x", schema=Word),
    ):
        assert word == Word(word="w")


def test_the_signatures_are_those_of_the_documentation() -> None:
    def names(function: Any) -> list[str]:
        return list(inspect.signature(function).parameters)

    assert names(llmbackend.get_response) == ["provider", "model", "input", "config", "schema", "provider_options"]
    assert names(llmbackend.client) == ["provider", "model", "provider_options"]
    assert names(Client.get_response) == ["self", "input", "config", "schema"]
    assert names(Client.generate) == ["self", "input", "config", "schema"]
    assert names(llmbackend.StructuredOutput) == ["schema", "pydantic_model", "name", "strict", "parser"]
    assert names(llmbackend.GenerationConfig) == ["temperature", "top_p", "max_tokens", "seed", "extra"]


def test_generate(recorder: Recorder) -> None:
    client = Client("openai", "m", **options(recorder))
    reply = client.generate("x")
    assert type(reply) is Response
    assert (reply.text, reply.value, reply.finish_reason) == ("ok", "ok", "stop")
    assert (reply.id, reply.model) == ("resp_1", "gpt-4o-mini-2024-07-18")
    assert reply.raw == ANSWER
    assert reply.usage == Usage(input_tokens=3, output_tokens=1)
    assert reply.usage.total_tokens == 4
    assert repr(reply) == "Response(text='ok', finish_reason='stop', model='gpt-4o-mini-2024-07-18')"
    recorder.replies = [Reply(answer(' {"word": "w"} '))]
    reply = client.generate("x", schema=Word)
    assert (reply.text, reply.value) == ('{"word": "w"}', Word(word="w"))
    recorder.replies = [Reply(answer("hi", usage=None, id=None, model=None))]
    reply = client.generate("x")
    assert (reply.usage, reply.id, reply.model) == (None, None, None)


def test_raw_of_odd_bytes(recorder: Recorder) -> None:
    recorder.replies = [Reply(b'\xef\xbb\xbf{"output_text": "a\nb", "x": NaN, "y": "\xff"}')]
    reply = Client("openai", "m", **options(recorder)).generate("x")
    assert reply.text == "a\nb"
    assert reply.raw["y"] == "\ufffd"


def test_usage_adds_up() -> None:
    total = Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40)
    assert total == Usage(11, 22, 33, 44)
    assert total.total_tokens == 33
    assert "input_tokens=11" in repr(total)


def test_a_client_is_a_context_and_goes_on_after_it(recorder: Recorder) -> None:
    with Client("openai", "m", **options(recorder)) as client:
        assert client.get_response("x") == "ok"
    assert client.get_response("x") == "ok"
    assert repr(client) == "Client('openai', 'm')"


def test_a_client_says_hello_on_one_connection(recorder: Recorder) -> None:
    client = Client("openai", "m", **options(recorder))
    for _ in range(20):
        client.get_response("x")
    assert len(recorder._connections) == 1


def test_threads_share_a_client_and_wait_together(recorder: Recorder) -> None:
    recorder.replies = [Reply(silence=0.4)]
    client = Client("openai", "m", **options(recorder))
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(client.get_response("x"))) for _ in range(16)]
    with Stopwatch() as watch:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == ["ok"] * 16
    assert watch.seconds < 3  # one after another would take 6.4 s


def test_a_prompt_of_any_kind_arrives_as_it_is(recorder: Recorder) -> None:
    client = Client("openai", "m", **options(recorder))
    for prompt in ("", " ", "é", "漢字", "😀", "\u2028", "\x00\x1f\x7f", '"\\/', "x" * 3_000_000, "€" * 1_000_000):
        client.get_response(prompt)
        assert recorder.requests[-1].json["input"] == prompt


class Text(str):
    """Somebody's own kind of str."""


def test_a_subclass_of_str_is_a_str(recorder: Recorder) -> None:
    Client("openai", Text("m"), **options(recorder)).get_response(Text("x"))
    assert recorder.requests[-1].json["input"] == "x"


def test_importing_is_light() -> None:
    script = (
        "import sys, llmbackend; "
        "print([name for name in ('pydantic', 'openai', 'httpx', 'json', 'asyncio') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
