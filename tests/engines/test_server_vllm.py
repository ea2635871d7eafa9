"""Our client against vLLM's server, on OpenAI's wire and on Anthropic's. It enforces schemas, heeds seeds and stop
strings, and says what cut an answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field
from server import serve

import llmbackend

KEY = "sk-only-for-this-test"
BOTH = ["openai", "anthropic"]
GREEDY = {"max_tokens": 24, "temperature": 0}
WINDOW = 512


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ok: bool
    size: int = Field(ge=0, le=9)
    color: str = Field(pattern="^(red|green)$")


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory, random_model: str) -> Iterator[str]:
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", random_model]
    command += ["--served-model-name", "tiny", "--api-key", KEY, "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", str(WINDOW), "--max-num-seqs", "32", "--kv-cache-memory-bytes", str(64 << 20)]
    # One process less. vLLM takes it beside VLLM_ENABLE_V1_MULTIPROCESSING=0 alone.
    command += ["--distributed-executor-backend", "uni"]
    # Not pinned to a core, which somebody else may be using.
    env = {**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with serve(command, tmp_path_factory.mktemp("server") / "log", env) as url:
        yield f"{url}/v1"


@pytest.fixture(params=BOTH)
def client(request: pytest.FixtureRequest, base_url: str) -> llmbackend.Client:
    return open_client(request.param, base_url)


@pytest.fixture
def openai(base_url: str) -> llmbackend.Client:
    return open_client("openai", base_url)


def open_client(provider: str, base_url: str, model: str = "tiny", key: str = KEY) -> llmbackend.Client:
    # Whatever the wire, vLLM reads a bearer token.
    name = {"openai": "api_key", "anthropic": "auth_token"}[provider]
    return llmbackend.Client(provider, model, base_url=base_url, **{name: key})


def ask(client: llmbackend.Client, prompt: Any, **extra: Any) -> str:
    text = client.get_response(prompt, {**GREEDY, "extra": extra})
    assert isinstance(text, str)
    return text


def test_a_text(client: llmbackend.Client) -> None:
    reply = client.generate("Write a haiku about oceans.", GREEDY)
    assert reply.text
    assert (reply.model, reply.finish_reason) == ("tiny", "length")
    assert reply.id
    assert reply.usage is not None
    assert reply.usage.output_tokens == 24
    assert 10 < reply.usage.input_tokens < 60


def test_both_wires_reach_the_same_model(base_url: str) -> None:
    openai, anthropic = (ask(open_client(provider, base_url), "Hello", system="Be brief") for provider in BOTH)
    assert openai == anthropic


def test_every_part_of_a_prompt_reaches_the_model(client: llmbackend.Client) -> None:
    said = [("user", "Hi"), ("assistant", "Yes?"), ("user", "Go")]
    turns = [{"role": role, "content": content} for role, content in said]
    answers = [
        ask(client, "Go"),
        ask(client, "Go", system="Be brief"),
        ask(client, turns),
        ask(client, turns, system="Be brief"),
        ask(client, turns[:1]),
    ]
    assert len(set(answers)) == len(answers)
    # In whatever form it is given.
    assert ask(client, [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Go"}]) == answers[1]
    assert ask(client, [{"role": "user", "content": [{"type": "text", "text": "Go"}]}]) == answers[0]
    assert ask(client, "ignored", conversation=turns) == answers[2]


def test_a_seed_repeats_an_answer(openai: llmbackend.Client) -> None:
    def sample(seed: int) -> Any:
        return openai.get_response("Hello", {"max_tokens": 24, "temperature": 1.0, "seed": seed})

    answers = [sample(seed) for seed in (1, 2, 3)]
    assert answers == [sample(seed) for seed in (1, 2, 3)]
    assert len(set(answers)) == 3


def test_anthropic_has_no_seed(base_url: str) -> None:
    client = open_client("anthropic", base_url)
    with pytest.warns(llmbackend.UnsupportedParameterWarning, match="no seed"):
        client.get_response("Hello", {"max_tokens": 4, "seed": 1})


def test_stop_strings_cut_the_answer(client: llmbackend.Client) -> None:
    whole = ask(client, "Hello")
    stop = whole[8:11]
    reply = client.generate("Hello", {**GREEDY, "extra": {"stop": [stop]}})
    assert reply.text == whole[: whole.index(stop)]
    assert reply.finish_reason == "stop"
    assert reply.usage is not None
    # The server stopped: it is not we alone who cut.
    assert reply.usage.output_tokens < 24


def test_max_tokens(client: llmbackend.Client) -> None:
    whole = ask(client, "Hello")
    reply = client.generate("Hello", {**GREEDY, "max_tokens": 6})
    assert reply.usage is not None
    assert (reply.finish_reason, reply.usage.output_tokens) == ("length", 6)
    # A character may be cut in two.
    assert whole.startswith(reply.text.rstrip("\ufffd"))
    with pytest.raises(llmbackend.TruncatedError, match="raise max_tokens") as caught:
        client.get_response("Hello", {**GREEDY, "max_tokens": 3}, Thing)
    assert caught.value.text


def test_a_schema_is_enforced(openai: llmbackend.Client) -> None:
    """By the server: the model says gibberish."""
    for seed in range(3):
        thing = openai.get_response("Hello", {"max_tokens": 200, "temperature": 1.0, "seed": seed}, Thing)
        assert isinstance(thing, Thing)


def test_a_schema_without_bounds_is_enforced_on_anthropics_wire_too(base_url: str) -> None:
    """Anthropic takes none of the bounds, so that those stay with our validation."""
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "color": {"enum": ["red", "green"]}},
        "required": ["ok", "color"],
        "additionalProperties": False,
    }
    value = open_client("anthropic", base_url).get_response("Hello", {"max_tokens": 200, "temperature": 0}, schema)
    assert value.keys() == {"ok", "color"}


def test_the_wrong_key(client: llmbackend.Client, base_url: str) -> None:
    wrong = open_client(client.provider, base_url, key="sk-something-else")
    with pytest.raises(llmbackend.AuthenticationError, match="Unauthorized") as caught:
        wrong.get_response("Hello", GREEDY)
    assert caught.value.status == 401
    with pytest.raises(llmbackend.AuthenticationError):
        wrong.submit_batch(["a", "b"], GREEDY, batch_options={"native": False})


def test_anthropics_own_header_for_the_key(base_url: str) -> None:
    client = llmbackend.Client("anthropic", "tiny", base_url=base_url, api_key=KEY)
    with pytest.raises(llmbackend.AuthenticationError, match="bearer token, give the key as auth_token"):
        client.get_response("Hello", GREEDY)


def test_an_unknown_model(client: llmbackend.Client, base_url: str) -> None:
    unknown = open_client(client.provider, base_url, "nope")
    with pytest.raises(llmbackend.NotFoundError, match="`nope` does not exist"):
        unknown.get_response("Hello", GREEDY)


def test_a_bad_parameter(client: llmbackend.Client) -> None:
    with pytest.raises(llmbackend.InvalidRequestError, match="top_k") as caught:
        client.get_response("Hello", {**GREEDY, "extra": {"top_k": -7}})
    assert caught.value.status == 400


def test_a_prompt_that_is_too_long(client: llmbackend.Client) -> None:
    with pytest.raises(llmbackend.InvalidRequestError, match=f"context length is {WINDOW}"):
        client.get_response("Hello " * WINDOW, GREEDY)


def test_anthropics_default_of_max_tokens_may_be_beyond_the_window(base_url: str) -> None:
    with pytest.raises(llmbackend.InvalidRequestError, match="8192 cannot be greater"):
        open_client("anthropic", base_url).get_response("Hello")


def test_an_immediate_batch(client: llmbackend.Client) -> None:
    prompts = [f"Number {n}" for n in range(32)]
    batch = client.submit_batch(prompts, GREEDY, batch_options={"native": False, "concurrency": 8})
    answers = batch.results(return_exceptions=True)
    assert answers == [ask(client, prompt) for prompt in prompts]
    assert len(set(answers)) > 16


def test_an_immediate_batch_of_conversations_with_a_schema(openai: llmbackend.Client) -> None:
    conversations = [[{"role": "user", "content": f"Number {n}"}] for n in range(4)]
    batch = openai.submit_batch(
        conversations, {"max_tokens": 200, "temperature": 0}, Thing, {"native": False, "concurrency": 4, "system": "Hm"}
    )
    assert all(isinstance(thing, Thing) for thing in batch.results())


def test_it_has_no_batch_api(client: llmbackend.Client) -> None:
    with pytest.raises(llmbackend.NotFoundError, match='no batch API.*"native": False'):
        client.submit_batch(["Hello"], GREEDY, batch_options={"native": True})
