"""Our client against `transformers serve`, on OpenAI's wire. Other than OpenAI, it streams unless told not to, reports
errors as `{"detail": ...}`, refuses fields that it does not know, heeds no schema, and never calls an answer cut."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server import serve
from tiny_models import SCRIPT, make_scripted

import llmbackend

SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--device", "cpu"]
    with serve(command, tmp_path_factory.mktemp("server") / "log") as url:
        yield f"{url}/v1"


@pytest.fixture
def scripted(base_url: str, scripted_model: str) -> llmbackend.Client:
    return llmbackend.Client("openai", scripted_model, base_url=base_url)


@pytest.fixture
def random(base_url: str, random_model: str) -> llmbackend.Client:
    return llmbackend.Client("openai", random_model, base_url=base_url)


def test_a_text(scripted: llmbackend.Client) -> None:
    reply = scripted.generate("Count to ten", {"max_tokens": 60, "temperature": 0})
    assert (reply.text, reply.finish_reason) == (SCRIPT, "stop")
    assert reply.model == f"{scripted.model}@main"
    assert reply.usage is not None
    # The end of the turn counts.
    assert 10 < reply.usage.output_tokens < 20 and reply.usage.input_tokens > 10


def test_every_part_of_a_prompt_reaches_the_model(random: llmbackend.Client) -> None:
    def ask(prompt: Any, **extra: Any) -> str:
        text = random.get_response(prompt, {"max_tokens": 16, "temperature": 0, "extra": extra})
        assert isinstance(text, str)
        return text

    said = [("user", "Hi"), ("assistant", "Yes?"), ("user", "Go")]
    turns = [{"role": role, "content": content} for role, content in said]
    answers = [ask("Go"), ask("Go", system="Be brief"), ask(turns), ask(turns, system="Be brief"), ask(turns[:1])]
    assert len(set(answers)) == len(answers)
    # In whatever form it is given.
    assert ask([{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Go"}]) == answers[1]
    assert ask([{"role": "user", "content": [{"type": "text", "text": "Go"}]}]) == answers[0]


def test_a_seed_is_taken(random: llmbackend.Client) -> None:
    config = {"max_tokens": 16, "temperature": 1.0, "seed": 1}
    assert random.get_response("Hi", config) == random.get_response("Hi", config)


def test_a_cut_that_the_server_does_not_mention(scripted: llmbackend.Client) -> None:
    reply = scripted.generate("Count", {"max_tokens": 4})
    assert SCRIPT.startswith(reply.text) and len(reply.text) < len(SCRIPT)
    assert (reply.finish_reason, reply.raw["status"]) == ("length", "completed")
    with pytest.raises(llmbackend.TruncatedError, match="raise max_tokens") as caught:
        scripted.get_response("Count", {"max_tokens": 4}, SCHEMA)
    assert caught.value.text == reply.text


def test_a_schema_that_the_server_does_not_heed(scripted: llmbackend.Client) -> None:
    with pytest.raises(llmbackend.InvalidOutputError, match="no JSON") as caught:
        scripted.get_response("Count", {"max_tokens": 60}, SCHEMA)
    assert caught.value.text == SCRIPT


def test_a_model_that_says_json(base_url: str, tmp_path: Path) -> None:
    folder = make_scripted(tmp_path, script='{"ok": true}')
    client = llmbackend.Client("openai", str(folder), base_url=base_url)
    assert client.get_response("Hi", {"max_tokens": 60}, SCHEMA) == {"ok": True}


@pytest.mark.parametrize("extra", [{"stop": ["six"]}, {"frobnicate": 1}])
def test_fields_that_the_server_does_not_know(scripted: llmbackend.Client, extra: dict[str, Any]) -> None:
    with pytest.raises(llmbackend.InvalidRequestError, match="Unexpected fields") as caught:
        scripted.get_response("Hi", {"extra": extra})
    assert caught.value.status == 422
    assert str(set(extra)) in caught.value.message


def test_an_unknown_model(base_url: str) -> None:
    client = llmbackend.Client("openai", "/no/such/model", base_url=base_url, max_retries=0)
    with pytest.raises(llmbackend.ServerError, match="Internal Server Error") as caught:
        client.get_response("Hi")
    assert caught.value.status == 500


def test_the_wrong_wire(base_url: str, scripted_model: str) -> None:
    client = llmbackend.Client("anthropic", scripted_model, base_url=base_url)
    with pytest.raises(llmbackend.NotFoundError, match="Not Found"):
        client.get_response("Hi")


def test_an_immediate_batch(random: llmbackend.Client) -> None:
    prompts = [f"Number {n}" for n in range(32)]
    config = {"max_tokens": 8, "temperature": 0}
    batch = random.submit_batch(prompts, config, batch_options={"native": False, "concurrency": 8})
    answers = batch.results()
    assert answers == [random.get_response(prompt, config) for prompt in prompts]
    assert len(set(answers)) > 16


def test_it_has_no_batch_api(random: llmbackend.Client) -> None:
    with pytest.raises(llmbackend.NotFoundError, match='no batch API.*"native": False'):
        random.submit_batch(["Hi"], batch_options={"native": True})
