"""What vLLM, `transformers serve` and llama.cpp's server answered on paths that they lack, or that are not ours,
recorded. Their answers to a call are read in test_openai_replies.py and test_anthropic_replies.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder, Reply

import llmbackend

FIXTURES = Path(__file__).parent / "fixtures"
SERVERS = ["llamacpp", "transformers", "vllm"]
ROWS = [json.loads(line) for line in (FIXTURES / "other_paths.jsonl").read_text().splitlines()]


def test_every_server_was_asked_the_same() -> None:
    """No recorded body is lost on the way to the tests."""
    for wire, count in (("openai", 23), ("anthropic", 14)):
        asked = {}
        for path in (FIXTURES / wire / "servers").glob("*.jsonl"):
            asked[path.stem] = [json.loads(line)["case"] for line in path.read_text().splitlines()]
        assert sorted(asked) == SERVERS
        assert all(cases == asked["vllm"] for cases in asked.values())
        assert len(set(asked["vllm"])) == len(asked["vllm"]) == count
    paths = {"/v1/chat/completions", "/v1/files", "/v1/batches"}
    assert {(row["server"], row["path"]) for row in ROWS} == {(name, path) for name in SERVERS for path in paths}
    assert len(ROWS) == 9


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def playing(server: str, path: str) -> Recorder:
    """A server that gives to every request the reply that was recorded for `path`."""
    [row] = [row for row in ROWS if (row["server"], row["path"]) == (server, path)]
    return Recorder(Reply(row["body"], row["status"], {"content-type": row["content_type"]}))


@pytest.fixture
def files(server: str) -> Iterator[Recorder]:
    with playing(server, "/v1/files") as recorder:
        yield recorder


@pytest.fixture
def batches(server: str) -> Iterator[Recorder]:
    with playing(server, "/v1/batches") as recorder:
        yield recorder


def open_client(recorder: Recorder) -> llmbackend.Client:
    return llmbackend.Client("openai", "tiny", base_url=recorder.url)


SAID = {"llamacpp": "File Not Found", "transformers": "Not Found", "vllm": "Not Found"}


def test_a_server_without_files_takes_no_batch(server: str, files: Recorder) -> None:
    with pytest.raises(llmbackend.NotFoundError) as caught:
        open_client(files).submit_batch(["a", "b"])
    hint = '. This server seems to have no batch API; batch_options={"native": False} does without'
    assert caught.value.message == SAID[server] + hint
    # And is not asked for anything else.
    assert [(request.method, request.path) for request in files.requests] == [("POST", "/v1/files")]


def test_a_server_without_batches_knows_none(server: str, batches: Recorder) -> None:
    with pytest.raises(llmbackend.NotFoundError, match=SAID[server]):
        open_client(batches).get_batch_status("batch_1")


def test_a_chat_completion_is_no_response(server: str) -> None:
    """What a base_url of a gateway that knows no Responses API may give."""
    with playing(server, "/v1/chat/completions") as recorder:
        for schema in (None, {"type": "object"}):
            with pytest.raises(llmbackend.APIError, match='no response object: it has no "output"') as caught:
                open_client(recorder).generate("hi", None, schema)
            assert type(caught.value) is llmbackend.APIError
            found: dict[str, Any] = json.loads(caught.value.body or "")
            assert found["object"] == "chat.completion"
