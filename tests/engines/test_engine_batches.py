"""Batches: any iterable in bounded memory, and an item that fails fails alone."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import small
import tiny_models
from small import prompts, told

import llmbackend

LIMIT = {"max_tokens": 6}
TOO_LONG = "and " * (tiny_models.WINDOW + 1)


def resident() -> int:
    """Bytes of memory that this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def test_a_thousand_prompts_from_a_generator(random_client: llmbackend.Client) -> None:
    asked = prompts(1000)
    # The engine's own buffers grow with its first full batch.
    random_client.submit_batch(asked[:600], LIMIT)
    gc.collect()
    before = resident()
    batch = random_client.submit_batch((prompt for prompt in asked), LIMIT)
    assert resident() - before < 64 << 20
    items = list(batch.items())
    assert [item.index for item in items] == list(range(1000))
    for n in (0, 255, 256, 511, 512, 999):
        assert told(items[n]) == told(random_client.generate(asked[n], LIMIT))


def test_one_bad_prompt_fails_alone(random_client: llmbackend.Client, random_model: str) -> None:
    good = prompts(6)
    bad: dict[int, tuple[Any, str]] = {
        1: ("", r"inputs\[1\]: the prompt is empty"),
        3: (TOO_LONG, r"inputs\[3\]: the prompt has .* tokens, and the model takes 2,048"),
        5: ([{"role": "user", "content": [{"type": "image"}]}], r"inputs\[5\]: .*more than text"),
    }
    asked = [bad[n][0] if n in bad else good[n] for n in range(6)]
    batch = random_client.submit_batch(asked, LIMIT)
    for item in batch.items():
        if item.index in bad:
            assert item.status == "failed" and isinstance(item.error, llmbackend.ConfigurationError)
            with pytest.raises(llmbackend.ConfigurationError, match=bad[item.index][1]):
                raise item.error
        else:
            assert told(item) == told(random_client.generate(good[item.index], LIMIT))
    with pytest.raises(llmbackend.BatchItemsError) as caught:
        batch.results()
    assert sorted(caught.value.errors) == [1, 3, 5]
    found = batch.results(return_exceptions=True)
    assert [isinstance(value, Exception) for value in found] == [False, True] * 3


@pytest.mark.parametrize(("prompt", "words"), [("", "empty"), (TOO_LONG, "the model takes 2,048")])
def test_a_bad_prompt_alone(random_client: llmbackend.Client, prompt: str, words: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=words):
        random_client.get_response(prompt, LIMIT)
    assert random_client.get_response("Hello", LIMIT)


def test_a_prompt_that_fills_the_window_is_answered_as_far_as_there_is_room(random_client: llmbackend.Client) -> None:
    prompt = "e" * (tiny_models.WINDOW - 3)
    answer = random_client.generate(prompt, {"max_tokens": 50})
    assert told(answer)[1:] == ("length", tiny_models.WINDOW - 3, 3)
    (item,) = random_client.submit_batch([prompt], {"max_tokens": 50}).items()
    assert told(item) == told(answer) and item.status == "truncated"


def test_a_template_that_refuses_one_conversation(tmp_path: Path, provider: str) -> None:
    model = tiny_models.make_scripted(tmp_path / "model")
    config = model / "tokenizer_config.json"
    strict = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('begin with a user turn') }}{% endif %}"
    config.write_text(config.read_text().replace('"chat_template": "', f'"chat_template": "{strict}'))
    turn = {"role": "user", "content": "Hello"}
    with small.client(provider, str(model)) as client:
        batch = client.submit_batch([[turn], [{"role": "tool", "content": "4"}, turn], [turn]])
        first, second, third = batch.items()
        assert first.value == third.value == tiny_models.SCRIPT
        assert isinstance(second.error, llmbackend.ConfigurationError)
        assert "chat template refuses the conversation: begin with a user turn" in str(second.error)
        with pytest.raises(llmbackend.ConfigurationError, match="begin with a user turn"):
            client.get_response("Hello", {"extra": {"system": "Be brief"}})


def test_the_handle(random_client: llmbackend.Client, provider: str, capsys: pytest.CaptureFixture[str]) -> None:
    batch = random_client.submit_batch(["Hello", "Hi"], LIMIT, batch_options={"custom_ids": ["a", "b"]})
    other = random_client.submit_batch(
        ["Hello"], LIMIT, batch_options={"display_name": "x", "completion_window": "24h"}
    )
    assert isinstance(batch, llmbackend.CompletedBatch) and batch.id != other.id
    assert capsys.readouterr() == ("", "")
    seen: list[str] = []
    assert batch.wait(progress=True, callback=seen.append) is batch
    assert seen == ["completed"] and batch.id[:12] in capsys.readouterr().err
    assert (batch.status(), batch.normalized_status()) == ("completed", "completed")
    assert [item.custom_id for item in batch.items()] == ["a", "b"]
    assert [item.custom_id for item in other.items()] == ["llmb-000000"]
    batch.cancel()
    model = random_client.model
    status = {"state": "completed", "provider": provider, "raw_state": "completed", "batch_id": batch.id}
    assert random_client.get_batch_status(batch.id) == status
    assert llmbackend.get_batch_status(batch.id, provider, model) == status
    assert llmbackend.fetch_batch_results(batch.id, provider, model) == batch.results()
    assert random_client.get_batch(batch.id).results() == batch.results()
    gone = batch.id
    del batch
    gc.collect()
    with pytest.raises(llmbackend.BatchError, match="lived as long as its object"):
        random_client.fetch_batch_results(gone)
    with pytest.raises(llmbackend.ConfigurationError, match=f"batch_123: {provider} runs here"):
        random_client.get_batch("batch_123")


def test_it_has_no_jobs_and_no_schemas(random_client: llmbackend.Client, provider: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="native"):
        random_client.submit_batch(["Hello"], batch_options={"native": True})
    assert random_client.submit_batch(["Hello"], LIMIT, batch_options={"native": False}).results()
    for ask in (random_client.get_response, lambda *given: random_client.submit_batch([given[0]], *given[1:])):
        with pytest.raises(ValueError, match=f"{provider} runs here, and local engines take no schema"):
            ask("Hello", LIMIT, {"type": "object"})


def test_no_inputs(random_client: llmbackend.Client) -> None:
    batch = random_client.submit_batch([])
    assert batch.wait().results() == [] == list(batch.items())


def test_a_mistake_in_the_inputs_is_found_before_the_first_answer(random_client: llmbackend.Client) -> None:
    def inputs() -> Iterator[Any]:
        yield "Hello"
        yield 3

    with pytest.raises(llmbackend.ConfigurationError, match=r"inputs\[1\]"):
        random_client.submit_batch(inputs(), LIMIT)
    with pytest.raises(llmbackend.ConfigurationError, match="custom_ids"):
        random_client.submit_batch(["Hello", "Hi"], LIMIT, batch_options={"custom_ids": ["a"]})


def test_without_a_client(provider: str, scripted_model: str, chat_client: llmbackend.Client) -> None:
    options: dict[str, Any] = {"apply_chat_template": True}
    if provider == "vllm":
        options["llm_kwargs"] = small.SMALL_VLLM
    assert llmbackend.get_response(provider, scripted_model, "Hello", **options) == tiny_models.SCRIPT
    batch = llmbackend.create_batch(["Hello"], provider, scripted_model, {"max_tokens": 1}, **options)
    assert batch.wait().results() == [" one"]
