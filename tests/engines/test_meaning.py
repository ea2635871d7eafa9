"""One meaning on all engines: a config gives the same text, counts and finish reason whichever engine runs it."""

from __future__ import annotations

import functools
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import small
import tiny_models
from small import prompts, told
from transformers import AutoModelForCausalLM, AutoTokenizer

import llmbackend

PROMPT = "Write a haiku"
SCRIPT = tiny_models.SCRIPT


@functools.cache
def loaded(model: str) -> tuple[Any, Any]:
    return AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)


def greedy(model: str, prompt: str, max_tokens: int = 256) -> tuple[str, str, int, int]:
    """What an engine must tell, by the library's own greedy generation."""
    tokenizer, network = loaded(model)
    asked = tokenizer(prompt, return_tensors="pt")
    length = asked["input_ids"].shape[1]
    ids = network.generate(**asked, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tiny_models.PAD)
    new = ids[0][length:].tolist()
    finish = "stop" if new[-1] == tiny_models.END else "length"
    return tokenizer.decode(new, skip_special_tokens=True), finish, length, len(new)


# What is asked for, and what the scripted model answers: text, finish reason, tokens (the end of the turn is one).
TABLE: list[tuple[dict[str, Any], str, str, int]] = [
    ({}, SCRIPT, "stop", 15),
    ({"temperature": 0}, SCRIPT, "stop", 15),
    ({"temperature": 0.0, "top_p": 0.5}, SCRIPT, "stop", 15),
    ({"top_p": 0.0}, SCRIPT, "stop", 15),
    ({"temperature": 0.01}, SCRIPT, "stop", 15),
    ({"temperature": 1, "top_p": 0.3, "seed": 3}, SCRIPT, "stop", 15),
    ({"temperature": 0, "seed": 5}, SCRIPT, "stop", 15),
    ({"seed": -1}, SCRIPT, "stop", 15),
    ({"max_tokens": 2}, " one two", "length", 2),
    ({"max_tokens": 1}, " one", "length", 1),
    ({"max_tokens": 15}, SCRIPT, "stop", 15),
    ({"max_tokens": 100_000}, SCRIPT, "stop", 15),
    ({"extra": {"stop": " three"}}, " one two", "stop", 4),
    ({"extra": {"stop": ["eight", "hr", "ten"]}}, " one two t", "stop", 3),
    ({"extra": {"stop": [" one two three"]}}, "", "stop", 4),
    ({"extra": {"stop": "absent"}}, SCRIPT, "stop", 15),
    ({"extra": {"stop": []}}, SCRIPT, "stop", 15),
    ({"extra": {"stop": None}}, SCRIPT, "stop", 15),
    ({"max_tokens": 4, "extra": {"stop": ["three"]}}, " one two ", "stop", 4),
    ({"max_tokens": 3, "extra": {"stop": ["three"]}}, " one two thre", "length", 3),
]


@pytest.mark.parametrize(("config", "text", "finish_reason", "output_tokens"), TABLE)
def test_the_table(
    chat_client: llmbackend.Client, config: dict[str, Any], text: str, finish_reason: str, output_tokens: int
) -> None:
    answer = chat_client.generate("Hello", config)
    assert told(answer)[:2] == (text, finish_reason)
    assert told(answer)[3] == output_tokens
    items = list(chat_client.submit_batch(["Hello"] * 3, config).items())
    assert [told(item) for item in items] == [told(answer)] * 3
    assert {item.status for item in items} == {"succeeded" if finish_reason == "stop" else "truncated"}


def test_greedy_text_is_that_of_the_model(random_client: llmbackend.Client, random_model: str) -> None:
    asked = prompts(20)
    expected = [greedy(random_model, prompt, 24) for prompt in asked]
    assert [told(random_client.generate(prompt, {"max_tokens": 24})) for prompt in asked] == expected
    assert [told(item) for item in random_client.submit_batch(asked, {"max_tokens": 24}).items()] == expected


def test_the_advice_of_a_model_s_author_is_not_followed(models: Path, provider: str, random_model: str) -> None:
    folder = models / f"with-advice-{provider}"
    shutil.copytree(random_model, folder)
    path = folder / "generation_config.json"
    advice = {"do_sample": True, "temperature": 2.0, "top_k": 3, "repetition_penalty": 5.0, "max_new_tokens": 5}
    path.write_text(json.dumps({**json.loads(path.read_text()), **advice}))
    with small.client(provider, str(folder)) as client:
        for prompt in prompts(3):
            assert told(client.generate(prompt, {"max_tokens": 24})) == greedy(random_model, prompt, 24)


def test_the_defaults_are_greedy_and_256_tokens(random_client: llmbackend.Client, random_model: str) -> None:
    prompt, expected = next((p, e) for p in prompts(20) if (e := greedy(random_model, p, 300))[3] == 300)
    expected = greedy(random_model, prompt)
    assert expected[1:] == ("length", expected[2], 256)
    assert told(random_client.generate(prompt)) == expected
    assert [told(item) for item in random_client.submit_batch([prompt]).items()] == [expected]


def texts(batch: llmbackend.Batch) -> list[str]:
    return [str(text) for text in batch.results()]


@pytest.mark.parametrize(
    "config",
    [
        {"temperature": 1.0, "seed": 7},
        {"temperature": 0.8, "top_p": 0.9, "seed": 0},
        {"top_p": 0.95, "seed": -3},
        {"temperature": 1.3, "seed": 2**63 - 1, "extra": {"stop": ["e"]}},
    ],
)
def test_a_seeded_batch_is_its_single_calls(random_client: llmbackend.Client, config: dict[str, Any]) -> None:
    asked = [f"Prompt {n}" + " and" * (n % 5) for n in range(31)]
    asked.append(asked[3])
    config = {"max_tokens": 12, **config}
    alone = [random_client.generate(prompt, config) for prompt in asked]
    batch = list(random_client.submit_batch(asked, config).items())
    assert [told(item) for item in batch] == [told(answer) for answer in alone]
    assert batch[3].text == batch[31].text
    assert len({answer.text for answer in alone}) > 20
    # In another order, among others.
    assert texts(random_client.submit_batch(asked[:3:-1], config))[::-1] == [answer.text for answer in alone][4:]


def test_another_seed_is_another_text(random_client: llmbackend.Client) -> None:
    said = [random_client.get_response(PROMPT, {"temperature": 1, "max_tokens": 12, "seed": seed}) for seed in range(8)]
    assert len(set(said)) == 8


def test_without_a_seed_it_is_chance(random_client: llmbackend.Client) -> None:
    config = {"temperature": 1, "max_tokens": 12}
    said = [random_client.get_response(PROMPT, config) for _ in range(3)]
    said += texts(random_client.submit_batch([PROMPT] * 5, config))
    assert len(set(said)) == 8


def test_top_p_alone_samples_at_temperature_1(random_client: llmbackend.Client) -> None:
    for seed in range(3):
        alone = random_client.get_response(PROMPT, {"top_p": 0.9, "max_tokens": 12, "seed": seed})
        both = random_client.get_response(PROMPT, {"top_p": 0.9, "temperature": 1, "max_tokens": 12, "seed": seed})
        assert alone == both
    assert len(set(texts(random_client.submit_batch([PROMPT] * 6, {"top_p": 0.9, "max_tokens": 12})))) > 1


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (1.0, 0.6), (0.6, 0.8)])
def test_what_is_drawn_has_the_model_s_distribution(
    random_client: llmbackend.Client, random_model: str, temperature: float, top_p: float
) -> None:
    """The first token of many answers: the temperature comes first, then the nucleus, as in the paper on top_p."""
    tokenizer, network = loaded(random_model)
    scores = network(**tokenizer(PROMPT, return_tensors="pt")).logits[0, -1].detach().double() / temperature
    chances = scores.softmax(-1).sort(descending=True)
    kept = (chances.values.cumsum(-1) - chances.values) < top_p
    nucleus = chances.values * kept / (chances.values * kept).sum()
    expected: Counter[str] = Counter()
    for token, chance in zip(chances.indices.tolist(), nucleus.tolist(), strict=True):
        expected[tokenizer.decode([token], skip_special_tokens=True)] += chance
    count = 600
    config = {"temperature": temperature, "top_p": top_p, "max_tokens": 1}
    drawn = Counter(texts(random_client.submit_batch([PROMPT] * count, config)))
    assert set(drawn) <= {text for text, chance in expected.items() if chance > 0}
    for text, chance in expected.items():
        # Five standard deviations, and a little.
        assert abs(drawn[text] - count * chance) <= 5 * (count * chance * (1 - chance)) ** 0.5 + 3, text
