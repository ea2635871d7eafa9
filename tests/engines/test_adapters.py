"""LoRA adapters on vLLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import small
import tiny_models
from small import prompts

import llmbackend

LIMIT = {"max_tokens": 12}


@pytest.fixture(scope="session")
def other_lora(models: Path, random_model: str) -> str:
    """Another adapter, of the same rank as `lora`."""
    return str(tiny_models.make_lora(models / "other-lora", random_model, seed=2))


@pytest.fixture(scope="session")
def adapting(clients: small.Clients, random_model: str) -> llmbackend.Client:
    return clients.of("vllm", random_model, llm_kwargs={"enable_lora": True, "max_loras": 1, "max_lora_rank": 8})


def with_lora(path: Any, **more: Any) -> dict[str, Any]:
    return {**LIMIT, "extra": {"lora_path": path, **more}}


def test_two_adapters_of_one_rank_and_none_are_three_texts(
    adapting: llmbackend.Client, random_client_of_vllm: llmbackend.Client, lora: str, other_lora: str
) -> None:
    plain = random_client_of_vllm.get_response("Hello", LIMIT)
    said = [adapting.get_response("Hello", with_lora(path)) for path in (lora, other_lora, lora, other_lora)]
    assert said[:2] == said[2:] and len({plain, *said}) == 3
    # Also under one name, in a batch, and without an adapter after one.
    assert adapting.get_response("Hello", with_lora(lora, lora_name="a")) == said[0]
    assert adapting.submit_batch(["Hello"] * 3, with_lora(other_lora, lora_name="a")).results() == [said[1]] * 3
    assert adapting.get_response("Hello", LIMIT) == plain
    assert (
        adapting.submit_batch(prompts(4), LIMIT).results()
        == random_client_of_vllm.submit_batch(prompts(4), LIMIT).results()
    )


@pytest.fixture(scope="session")
def random_client_of_vllm(clients: small.Clients, random_model: str) -> llmbackend.Client:
    return clients.of("vllm", random_model)


def test_an_adapter_of_the_client(
    clients: small.Clients, adapting: llmbackend.Client, random_model: str, lora: str, other_lora: str
) -> None:
    client = clients.of("vllm", random_model, lora_path=lora, lora_name="mine")
    expected = [adapting.get_response("Hello", with_lora(path)) for path in (lora, other_lora)]
    assert client.get_response("Hello", LIMIT) == expected[0] == client.submit_batch(["Hello"], LIMIT).results()[0]
    # A call may name another.
    assert client.get_response("Hello", with_lora(other_lora)) == expected[1]
    assert client.get_response("Hello", LIMIT) == expected[0]


def broken(folder: Path, config: str | None, *, weights: bool = True) -> Path:
    folder.mkdir()
    if config is not None:
        (folder / "adapter_config.json").write_text(config)
    if weights:
        (folder / "adapter_model.safetensors").write_bytes(b"not weights")
    return folder


def test_a_wrong_adapter_leaves_an_engine_that_works(adapting: llmbackend.Client, lora: str, tmp_path: Path) -> None:
    expected = adapting.get_response("Hello", with_lora(lora))
    big = json.dumps({**json.loads((Path(lora) / "adapter_config.json").read_text()), "r": 64})
    for path, words in [
        (str(tmp_path / "absent"), "absent.*adapter_config.json cannot be read .*No such file"),
        (str(broken(tmp_path / "a", None)), "adapter_config.json cannot be read"),
        (broken(tmp_path / "b", "{"), "names no rank"),
        (broken(tmp_path / "c", '{"r": null}'), "names no rank"),
        (broken(tmp_path / "d", '{"r": 4}', weights=False), "no adapter_model.safetensors"),
        (broken(tmp_path / "e", big), "has rank 64, and the engine takes 8"),
        (3, "lora_path and lora_name are each a str"),
    ]:
        with pytest.raises(llmbackend.ConfigurationError, match=words):
            adapting.get_response("Hello", with_lora(path))
        with pytest.raises(llmbackend.ConfigurationError, match=words):
            adapting.submit_batch(["Hello"], with_lora(path))
    with pytest.raises(llmbackend.ConfigurationError, match="lora_path"):
        adapting.get_response("Hello", {"extra": {"lora_name": "mine"}})
    assert adapting.get_response("Hello", with_lora(lora)) == expected


def test_weights_that_only_the_engine_finds_wrong(adapting: llmbackend.Client, lora: str, tmp_path: Path) -> None:
    expected = adapting.get_response("Hello", with_lora(lora))
    path = broken(tmp_path / "a", (Path(lora) / "adapter_config.json").read_text())
    with pytest.raises(llmbackend.EngineError, match="vllm failed on model .*lora"):
        adapting.get_response("Hello", with_lora(str(path)))
    items = list(adapting.submit_batch(["Hello", "Hi"], with_lora(str(path))).items())
    assert [type(item.error) for item in items] == [llmbackend.EngineError] * 2
    assert adapting.get_response("Hello", with_lora(lora)) == expected


def test_an_engine_without_adapters(random_client_of_vllm: llmbackend.Client, lora: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="loaded without adapters; make the client with"):
        random_client_of_vllm.get_response("Hello", with_lora(lora))
    assert random_client_of_vllm.get_response("Hello", LIMIT)
