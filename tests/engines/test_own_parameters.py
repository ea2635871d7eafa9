"""Each engine's own options and parameters do what they do in its library."""

from __future__ import annotations

from typing import Any

import pytest
import small
import tiny_models
import torch
from small import prompts, told
from transformers import AutoTokenizer

import llmbackend

LIMIT = {"max_tokens": 12}
SCRIPT = tiny_models.SCRIPT


@pytest.mark.parametrize(
    "options",
    [
        {"pipeline_kwargs": {"device_map": "auto"}},
        {"pipeline_kwargs": {"torch_dtype": torch.float32}},
        {"pipeline_kwargs": {"torch_dtype": "float32", "device_map": "cpu", "batch_size": 2}},
        {"pipeline_kwargs": {"dtype": "float32"}, "model_kwargs": {"attn_implementation": "eager"}},
        {"pipeline_kwargs": {"model_kwargs": {"attn_implementation": "eager"}}},
        {"model_kwargs": {"dtype": torch.float32}},
    ],
)
def test_options_of_transformers(clients: small.Clients, random_model: str, options: dict[str, Any]) -> None:
    expected = clients.of("transformers", random_model).submit_batch(prompts(5), LIMIT).results()
    assert clients.of("transformers", random_model, **options).submit_batch(prompts(5), LIMIT).results() == expected


def test_half_precision_is_another_model(clients: small.Clients, random_model: str) -> None:
    asked = prompts(5)
    said = [
        clients.of("transformers", random_model, pipeline_kwargs={"torch_dtype": dtype}).submit_batch(asked).results()
        for dtype in ("float32", "bfloat16", torch.bfloat16)
    ]
    assert said[0] != said[1] == said[2]


def test_a_tokenizer_of_one_s_own(clients: small.Clients, no_template_model: str, random_model: str) -> None:
    expected = clients.of("transformers", random_model, apply_chat_template=True).get_response("Hello", LIMIT)
    for tokenizer in (random_model, AutoTokenizer.from_pretrained(random_model)):
        client = clients.of("transformers", no_template_model, tokenizer=tokenizer, apply_chat_template=True)
        assert client.get_response("Hello", LIMIT) == expected


def test_pipeline_kwargs_hold_defaults_for_the_generation(clients: small.Clients, scripted_model: str) -> None:
    client = clients.of("transformers", scripted_model, apply_chat_template=True, pipeline_kwargs={"max_new_tokens": 2})
    assert client.get_response("Hello") == " one two"
    assert client.get_response("Hello", {"max_tokens": 3}) == " one two thre"
    assert client.get_response("Hello", {"extra": {"max_new_tokens": 1}}) == " one"


def ids(model: str, text: str) -> list[int]:
    found = AutoTokenizer.from_pretrained(model).encode(text, add_special_tokens=False)
    assert isinstance(found, list)
    return found


def test_parameters_of_transformers_generation(clients: small.Clients, scripted_model: str) -> None:
    client = clients.of("transformers", scripted_model, apply_chat_template=True)
    three = ids(scripted_model, " three")
    for extra, text in [
        ({"stop_strings": " three"}, " one two"),
        ({"stop_strings": ["three"], "stop": "two"}, " one "),
        ({"max_new_tokens": 1}, " one"),
        ({"eos_token_id": three[0]}, " one two thre"),
        ({"num_beams": 2}, SCRIPT),
        ({"do_sample": False}, SCRIPT),
        ({"batch_size": 1, "top_k": 5, "use_cache": False}, SCRIPT),
        ({"repetition_penalty": 1.0, "num_return_sequences": 1}, SCRIPT),
    ]:
        assert client.get_response("Hello", {"extra": extra}) == text, extra
        assert client.submit_batch(["Hello"] * 3, {"extra": extra}).results() == [text] * 3, extra
    assert client.get_response("Hello", {"extra": {"bad_words_ids": [three[:1]]}}).startswith(" one two")
    assert client.get_response("Hello", {"extra": {"bad_words_ids": [three[:1]]}}) != SCRIPT


def test_sampling_parameters_of_vllm(clients: small.Clients, scripted_model: str) -> None:
    client = clients.of("vllm", scripted_model, apply_chat_template=True)
    three = ids(scripted_model, " three")
    for extra, text in [
        ({"stop": " three", "include_stop_str_in_output": True}, " one two three"),
        ({"stop_token_ids": [three[0]]}, " one two thre"),
        ({"presence_penalty": 0.5, "frequency_penalty": 0.3, "top_k": 3, "min_p": 0.1}, SCRIPT),
        ({"skip_special_tokens": False}, SCRIPT),
        ({"temperature": 0.0, "max_tokens": 1}, " one"),
        ({"n": 1}, SCRIPT),
        ({"top_k": None}, SCRIPT),
    ]:
        assert client.get_response("Hello", {"extra": extra}) == text, extra
        assert client.submit_batch(["Hello"] * 3, {"extra": extra}).results() == [text] * 3, extra
    assert client.get_response("Hello", {"extra": {"logit_bias": {three[0]: -100.0}}}) != SCRIPT


def test_parameters_of_mlx(clients: small.Clients, scripted_model: str, random_model: str) -> None:
    client = clients.of("mlx", scripted_model, apply_chat_template=True, load_kwargs={"lazy": True})
    three = ids(scripted_model, " three")
    for extra, text in [
        ({"sampler": {}}, SCRIPT),
        ({"sampler": {"temp": 0.01, "top_p": 0.9, "min_p": 0.0, "top_k": 3}}, SCRIPT),
        ({"sampler": {"temp": 0.0}, "temp": 0}, SCRIPT),
        ({"sampler": lambda logprobs: logprobs.argmax(-1)}, SCRIPT),
        ({"sampler": {"temp": 1.0, "top_k": 1}}, SCRIPT),
        ({"repetition_penalty": 1.0, "prefill_step_size": 8, "completion_batch_size": 2}, SCRIPT),
        ({"logits_processors": [lambda tokens, logits: logits * 2]}, SCRIPT),
    ]:
        given = {"extra": extra}
        assert client.get_response("Hello", given) == text, extra
        assert client.submit_batch(["Hello"] * 3, given).results() == [text] * 3, extra
    assert client.get_response("Hello", {"extra": {"logit_bias": {three[0]: -100.0}}}) != SCRIPT
    # A sampler is the config's twin, and is not changed by it.
    sampler = {"temp": 0.9, "top_p": 0.8}
    random = clients.of("mlx", random_model)
    config = {"temperature": 0.9, "top_p": 0.8, "seed": 4, **LIMIT}
    expected = [told(item) for item in random.submit_batch(prompts(8), config).items()]
    for config in ({"seed": 4}, {"seed": 4, "temperature": 0.9}, {"seed": 4, "extra": {"temp": 0.9}}):
        given = {**LIMIT, **config, "extra": {**config.get("extra", {}), "sampler": sampler}}
        assert [told(item) for item in random.submit_batch(prompts(8), given).items()] == expected
    assert sampler == {"temp": 0.9, "top_p": 0.8}


def test_a_client_of_vllm_with_its_settings(random_model: str) -> None:
    client = llmbackend.client("vllm", random_model, llm_kwargs={**small.SMALL_VLLM, "max_model_len": 64})
    with client, pytest.raises(llmbackend.ConfigurationError, match="the model takes 64"):
        client.get_response("and " * 65)
