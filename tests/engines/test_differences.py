"""Small print: where engines differ by themselves, and what one of them may do to another."""

from __future__ import annotations

import json
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import mlx_lm.sample_utils
import numpy as np
import pytest
import small
import tiny_models
from small import prompts, told

import llmbackend

SCRIPT = tiny_models.SCRIPT


def test_the_end_that_only_the_tokenizer_knows(models: Path, provider: str, scripted_model: str) -> None:
    folder = models / f"end-of-tokenizer-{provider}"
    shutil.copytree(scripted_model, folder)
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 1}))
    with small.client(provider, str(folder), apply_chat_template=True) as client:
        answer = client.generate("Hello", {"max_tokens": 30})
        assert (answer.text, answer.finish_reason) == (SCRIPT, "stop")


@pytest.mark.parametrize("extra", [{"repetition_penalty": 1.5}, {"no_repeat_ngram_size": 1}])
def test_padding_is_not_what_the_model_said(no_pad_model: str, extra: dict[str, Any]) -> None:
    config = {"max_tokens": 40, "extra": extra}
    with small.client("transformers", no_pad_model) as client:
        alone = [told(client.generate(prompt, config)) for prompt in prompts(20)]
        assert [told(item) for item in client.submit_batch(prompts(20), config).items()] == alone


def test_the_name_of_a_special_token_is_no_stop_string(random_client: llmbackend.Client) -> None:
    config = {"max_tokens": 30, "temperature": 1.2, "seed": 3, "extra": {"stop": ["<|im_start|>"]}}
    alone = [told(random_client.generate(prompt, config)) for prompt in prompts(12)]
    assert [told(item) for item in random_client.submit_batch(prompts(12), config).items()] == alone
    del config["extra"]
    assert [told(random_client.generate(prompt, config)) for prompt in prompts(12)] == alone


def test_next_to_no_temperature_is_greedy(random_client: llmbackend.Client) -> None:
    greedy = random_client.get_response("Hello", {"max_tokens": 6})
    assert random_client.get_response("Hello", {"max_tokens": 6, "temperature": 1e-40, "seed": 1}) == greedy


@pytest.mark.parametrize("key", ["conversation", "conversations"])
def test_a_conversation_that_is_none(random_client: llmbackend.Client, key: str) -> None:
    plain = random_client.get_response("Hello", {"max_tokens": 4})
    assert random_client.get_response("Hello", {"max_tokens": 4, "extra": {key: None}}) == plain


@pytest.mark.parametrize("turns", ["hi", {"role": "user", "content": "hi"}])
def test_a_conversation_that_is_no_list(random_client: llmbackend.Client, turns: Any) -> None:
    for ask in (random_client.get_response, lambda text, config: random_client.submit_batch([text], config)):
        with pytest.raises(llmbackend.ConfigurationError, match='extra\\["conversation"\\] must be'):
            ask("Hello", {"extra": {"conversation": turns}})


def test_a_batch_that_needs_a_template(provider: str, no_template_model: str) -> None:
    with small.client(provider, no_template_model) as client:
        with pytest.raises(llmbackend.ConfigurationError, match="no chat template"):
            client.submit_batch(["Hello"], {"extra": {"system": "Be brief."}})
        assert client.submit_batch(["Hello"], {"max_tokens": 2}).results()


def test_a_schema_for_what_is_there_already(random_client: llmbackend.Client) -> None:
    batch = random_client.submit_batch(["Hello"], {"max_tokens": 2})
    for ask in (random_client.get_batch, random_client.fetch_batch_results):
        with pytest.raises(ValueError, match="take no schema"):
            ask(batch.id, {"type": "object"})


def test_a_sampler_that_breaks_mlx_breaks_nothing_else(random_model: str, clients: small.Clients) -> None:
    client = clients.of("mlx", random_model)
    for extra in (
        {"min_p": 0.1, "min_tokens_to_keep": 9999},
        {"sampler": mlx_lm.sample_utils.make_sampler(temp=0.7, top_k=10_000)},
    ):
        with pytest.raises(llmbackend.LLMBackendError):
            client.get_response("Hello", {"max_tokens": 3, "extra": extra})
    expected = client.get_response("Hello", {"max_tokens": 4})
    ours = {"max_tokens": 4, "extra": {"sampler": mlx_lm.sample_utils.make_sampler(temp=0.7, top_k=3)}}
    assert client.get_response("Hello", ours)
    for engine in ("mlx", "transformers"):
        with small.client(engine, random_model) as other:
            assert other.get_response("Hello", {"max_tokens": 4}) == expected


@pytest.mark.parametrize("config", [{}, {"temperature": 1.0, "seed": 3}, {"temperature": 1.0}])
def test_numbers_drawn_meanwhile_do_not_come_again(random_client: llmbackend.Client, config: dict[str, Any]) -> None:
    random_client.get_response("Hello", {"max_tokens": 1})
    drawn: list[float] = []
    done = threading.Event()

    def draw() -> None:
        while not done.wait(0.001):
            drawn.append(random.random())

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        for _ in range(5):
            random_client.get_response("Hello", {"max_tokens": 8, **config})
    finally:
        done.set()
        thread.join()
    assert drawn
    assert len(set(drawn)) == len(drawn)


def test_parameters_of_a_pipeline_that_change_nothing(scripted_model: str) -> None:
    neutral = {"return_full_text": False, "clean_up_tokenization_spaces": False, "num_workers": 2}
    options = {"apply_chat_template": True, "pipeline_kwargs": neutral}
    with small.client("transformers", scripted_model, **options) as client:
        assert client.get_response("Hello", {"extra": neutral}) == SCRIPT
        with pytest.raises(llmbackend.ConfigurationError, match="max_tokens"):
            client.get_response("Hello", {"extra": {"max_length": 3}})


@pytest.mark.filterwarnings("ignore:max_rollback_tokens:DeprecationWarning")  # as an error it undoes the grammar
def test_structured_outputs_of_vllm_as_a_dict(clients: small.Clients, random_model: str) -> None:
    client = clients.of("vllm", random_model)
    config = {"extra": {"structured_outputs": {"choice": ["yes", "no"]}}}
    assert client.get_response("Hello", config) in ("yes", "no")
    with pytest.raises(llmbackend.ConfigurationError, match="structured_outputs"):
        client.get_response("Hello", {"extra": {"structured_outputs": {"chioce": ["yes"]}}})


def test_what_failed_is_counted(random_client: llmbackend.Client, capsys: pytest.CaptureFixture[str]) -> None:
    batch = random_client.submit_batch(["Hello", "", "Hello"], {"max_tokens": 2})
    assert batch.wait(progress=True)._core.look() == ("completed", "completed", (3, 3, 1))
    assert "3/3" in capsys.readouterr().err


def test_values_as_numpy_and_json_have_them(provider: str, random_client: llmbackend.Client) -> None:
    config: dict[str, Any] = {"max_tokens": 8, "temperature": 1.0, "seed": 4, "extra": {"top_k": 3}}
    expected = random_client.get_response("Hello", config)
    assert random_client.get_response("Hello", {**config, "extra": {"top_k": np.int64(3)}}) == expected
    if provider != "transformers":  # which calls it sequence_bias, and takes no dict from JSON
        only = {"max_tokens": 3, "extra": {"logit_bias": {str(tiny_models.END): 1000.0}}}
        assert random_client.generate("Hello", only).finish_reason == "stop"


def test_paths_of_pathlib(random_model: str, lora: str, clients: small.Clients) -> None:
    with small.client("transformers", random_model, tokenizer=Path(random_model)) as client:
        expected = client.get_response("Hello", {"max_tokens": 4})
    assert clients.of("mlx", random_model).get_response("Hello", {"max_tokens": 4}) == expected
    adapted = small.client("vllm", random_model, lora_path=Path(lora))
    with adapted:
        assert adapted.get_response("Hello", {"max_tokens": 4}) != expected
