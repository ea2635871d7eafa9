"""What can go to another process, and what says why it cannot."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

import llmbackend
from llmbackend import GenerationConfig, StructuredOutput, Usage


class Model(BaseModel):
    said: str


def shout(value: Any) -> str:
    return str(value).upper()


WAYS: list[Callable[[Any], Any]] = [
    *(lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol)) for protocol in range(2, 6)),
    copy.copy,
    copy.deepcopy,
]
IDS = ["pickle 2", "pickle 3", "pickle 4", "pickle 5", "copy", "deepcopy"]


@pytest.fixture(params=WAYS, ids=IDS)
def way(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_config(way: Any) -> None:
    config = GenerationConfig(temperature=0.5, max_tokens=7, seed=2**40, extra={"stop": ["a"], "n": 2**70})
    assert way(config) == config
    assert way(GenerationConfig()) == GenerationConfig()


def test_usage(way: Any) -> None:
    usage = Usage(input_tokens=2**60, output_tokens=2, cached_tokens=3, reasoning_tokens=4)
    assert way(usage) == usage


@pytest.mark.parametrize(
    ("shape", "text", "value"),
    [
        (StructuredOutput(pydantic_model=Model), '{"said": "a"}', Model(said="a")),
        (StructuredOutput(pydantic_model=list[int], name="numbers"), "[1]", [1]),
        (StructuredOutput(schema={"type": "object"}, strict=False), '{"a": 1}', {"a": 1}),
        (StructuredOutput(schema={"type": "object", "title": "T"}, parser=shout), "{}", "{}"),
    ],
    ids=["model", "type", "schema", "parser"],
)
def test_a_shape(way: Any, shape: Any, text: str, value: Any) -> None:
    other = way(shape)
    assert (other.name, other.strict, other.schema) == (shape.name, shape.strict, shape.schema)
    assert (other.pydantic_model, other.parser) == (shape.pydantic_model, shape.parser)
    assert other.read(text) == value
    with pytest.raises(llmbackend.InvalidOutputError):
        other.read("7 or so")


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_a_response(box: Any, way: Any, provider: str) -> None:
    client = llmbackend.client(provider, "m", **box.options(provider))
    for schema in (None, Model):
        response = client.generate("日本語", schema=schema)
        other = way(response)
        for name in ("text", "value", "finish_reason", "usage", "model", "id", "raw"):
            assert getattr(other, name) == getattr(response, name), name
        assert type(other.to_sdk()) is type(response.to_sdk())
        assert "sandbox" not in repr(other)


def test_items(box: Any, client: Any, way: Any) -> None:
    box.fault("fail_lines")
    items = list(client.submit_batch(["a", "b", "c"], schema=Model).wait(0.01).items())
    assert {item.error is None for item in items} == {True, False}
    for item in items:
        other = way(item)
        for name in ("index", "custom_id", "status", "value", "text", "usage", "finish_reason"):
            assert getattr(other, name) == getattr(item, name), name
        assert type(other.error) is type(item.error)
        assert str(other.error) == str(item.error)


def test_what_holds_a_key_says_so(box: Any, way: Any) -> None:
    client = llmbackend.client("openai", "gpt-4o-mini", **box.options("openai"))
    with pytest.raises(TypeError, match=r"a Client holds a key.*llmbackend\.client\('openai', 'gpt-4o-mini', \.\.\.\)"):
        way(client)
    job, done = client.submit_batch(["a"]), client.submit_batch(["a"], batch_options={"native": False})
    with pytest.raises(TypeError, match=r"a Batch holds a client.*pass batch\.id.*get_batch\(id\)"):
        way(job)
    with pytest.raises(TypeError, match=r"a CompletedBatch holds a client.*pass list\(batch\.items\(\)\)"):
        way(done)
    with pytest.raises(TypeError, match=r"a Sandbox is a server in this process.*box\.options\(provider\)"):
        way(box)
    with pytest.raises(TypeError, match="a Client holds a key"):
        pickle.dumps({"in": ["a", client]})


def test_a_local_client_cannot_be_pickled_either(way: Any) -> None:
    class Local(llmbackend.Client):
        def __init__(self) -> None:
            self.provider, self.model = "transformers", "a/b"

    with pytest.raises(TypeError, match=r"llmbackend\.client\('transformers', 'a/b', \.\.\.\)"):
        way(Local())


def test_what_a_pickle_holds_is_no_secret(box: Any) -> None:
    client = llmbackend.client("openai", "m", api_key="sk-very-secret-key", base_url=box.url("openai"))
    response = client.generate("a")
    assert b"very-secret" not in pickle.dumps(response)
    assert json.dumps(response.raw)
