"""A config that contradicts itself, or that an engine does not have, is an error before any token; it works on."""

from __future__ import annotations

from typing import Any

import pytest
import small

import llmbackend

CONFIGS: dict[str, list[tuple[dict[str, Any], str]]] = {
    "transformers": [
        (
            {"max_tokens": 5, "extra": {"max_new_tokens": 6}},
            r"config.max_tokens is 5 and config.extra\[.max_new_tokens",
        ),
        ({"temperature": 0.5, "extra": {"do_sample": False}}, "do_sample"),
        ({"extra": {"do_sample": True}, "temperature": 0}, "do_sample"),
        ({"extra": {"num_return_sequences": 2}}, "num_return_sequences"),
        ({"temperature": 1, "extra": {"num_beams": 2}}, "num_beams"),
        ({"extra": {"num_beams": 0}}, "num_beams"),
        ({"extra": {"batch_size": "8"}}, "batch_size"),
        ({"extra": {"repetition_penality": 1.1}}, "repetition_penalty"),
        ({"temperature": 1, "extra": {"top_k": -3}}, "top_k"),
        ({"temperature": 1, "extra": {"top_k": "all"}}, "top_k"),
        ({"temperature": 1, "extra": {"min_p": 2}}, "min_p"),
        ({"temperature": 1, "extra": {"typical_p": "hot"}}, "typical_p"),
        ({"extra": {"stop_strings": 3}}, "stop_strings"),
        ({"extra": {"stop_strings": ["a", ""]}}, "stop_strings"),
        ({"extra": {"sampler": {"temp": 1}}}, "sampler"),
        ({"extra": {"presence_penalty": 0.5}}, "presence_penalty"),
    ],
    "vllm": [
        ({"temperature": 0.5, "extra": {"temperature": 0.6}}, "config.temperature is 0.5"),
        ({"temperature": 3}, "temperature"),
        ({"extra": {"n": 2}}, "n is 2|answer"),
        ({"extra": {"presence_penality": 0.5}}, "presence_penalty"),
        ({"extra": {"presence_penalty": 5}}, "presence_penalty"),
        ({"extra": {"presence_penalty": "high"}}, "presence_penalty"),
        ({"extra": {"top_k": "all"}}, "top_k"),
        ({"extra": {"min_p": "hot"}}, "min_p"),
        ({"extra": {"stop_token_ids": ["x"]}}, "stop_token_ids"),
        ({"extra": {"bad_words": 3}}, "bad_words"),
        ({"extra": {"sampler": {"temp": 1}}}, "sampler"),
    ],
    "mlx": [
        (
            {"temperature": 0.5, "extra": {"sampler": {"temp": 0.6}}},
            r"config.temperature is 0.5 and config.extra\[.sampler",
        ),
        ({"top_p": 0.5, "extra": {"sampler": {"top_p": 0.6}}}, "config.top_p is 0.5"),
        ({"temperature": 0.5, "extra": {"temp": 0.6}}, "config.temperature is 0.5"),
        ({"extra": {"temp": 0.5, "sampler": {"temp": 0.6}}}, "temp"),
        ({"extra": {"sampler": {"temperatur": 0.6}}}, "Known: temp,"),
        ({"extra": {"sampler": {"temp": "hot"}}}, "hot"),
        ({"extra": {"sampler": {"temp": -1}}}, "-1"),
        ({"extra": {"sampler": {"top_p": 7}}}, "top_p"),
        ({"extra": {"sampler": {"top_k": 384, "temp": 1}}}, "top_k is 384"),
        ({"extra": {"sampler": {"top_k": "all", "temp": 1}}}, "top_k"),
        ({"extra": {"sampler": {"top_k": 1.5, "temp": 1}}}, "top_k"),
        ({"extra": {"sampler": {"min_p": 2}}}, "min_p"),
        ({"extra": {"min_p": "hot"}}, "min_p"),
        ({"extra": {"sampler": {"min_p": 0.1}, "min_p": 0.2}}, "min_p"),
        ({"extra": {"sampler": {"xtc_special_tokens": "x", "xtc_probability": 1, "temp": 1}}}, "xtc_special_tokens"),
        ({"extra": {"sampler": "greedy"}}, "sampler"),
        ({"temperature": 1, "extra": {"sampler": lambda logprobs: logprobs.argmax(-1)}}, "function"),
        ({"extra": {"repetition_penality": 1.1}}, "repetition_penalty"),
        ({"extra": {"repetition_penalty": -1}}, "repetition_penalty|penalty"),
        ({"extra": {"repetition_penalty": "high"}}, "penalty"),
        ({"extra": {"logit_bias": 3}}, "logit_bias"),
        ({"extra": {"logit_bias": {"x": 1.0}}}, "logit_bias"),
        ({"extra": {"prefill_step_size": "all"}}, "prefill_step_size"),
        ({"extra": {"completion_batch_size": 0}}, "completion_batch_size"),
        ({"extra": {"logits_processors": 3}}, "logits_processors"),
        ({"extra": {"presence_penality": 0.5}}, "presence_penalty"),
    ],
}
CASES = [(provider, config, words) for provider, cases in CONFIGS.items() for config, words in cases]


@pytest.mark.parametrize(("provider", "config", "words"), CASES)
def test_a_wrong_config(clients: small.Clients, random_model: str, provider: str, config: Any, words: str) -> None:
    client = clients.of(provider, random_model)
    for ask in (
        lambda: client.get_response("Hello", {"max_tokens": 4, **config}),
        lambda: client.submit_batch(["Hello", "Hi"], {"max_tokens": 4, **config}),
    ):
        with pytest.raises(llmbackend.ConfigurationError, match=words):
            ask()
    check_that_it_works(client)


# What the engine finds out only when it has begun.
LATE: list[tuple[str, dict[str, Any]]] = [
    ("transformers", {"repetition_penalty": -1.0}),
    ("transformers", {"repetition_penalty": "high"}),
    ("transformers", {"eos_token_id": "three"}),
    ("vllm", {"logit_bias": 3}),
    ("mlx", {"sampler": lambda logprobs: logprobs.nothing}),
    ("mlx", {"logits_processors": [lambda tokens, logits: 1 / 0]}),
]


@pytest.mark.parametrize(("provider", "extra"), LATE)
def test_a_wrong_value_that_the_engine_finds(
    clients: small.Clients, random_model: str, provider: str, extra: dict[str, Any]
) -> None:
    client = clients.of(provider, random_model)
    (name,) = extra
    with pytest.raises(llmbackend.EngineError, match=f"{provider} failed on model .*config.extra: {name}=") as caught:
        client.get_response("Hello", {"extra": extra})
    assert caught.value.__cause__ is not None
    items = list(client.submit_batch(["Hello", "Hi"], {"extra": extra}).items())
    assert [type(item.error) for item in items] == [llmbackend.EngineError] * 2
    assert name in str(items[1].error)
    check_that_it_works(client)


def check_that_it_works(client: llmbackend.Client) -> None:
    sampled = {"max_tokens": 4, "temperature": 1.0, "seed": 1}
    assert client.get_response("Hello", {"max_tokens": 4})
    assert client.get_response("Hello", sampled) == client.submit_batch(["Hello"], sampled).results()[0]
