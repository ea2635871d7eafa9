"""What goes wrong is told in terms of what the caller gave, and the engine works on."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import small
import tiny_models
from small import prompts, told

import llmbackend

LIMIT = {"max_tokens": 6}
PACKAGE = str(Path(__file__).parents[2] / "python")


def test_a_wrong_path(provider: str, tmp_path: Path) -> None:
    client = small.client(provider, str(tmp_path / "absent"))
    for ask in (lambda: client.get_response("Hello"), lambda: client.submit_batch(["Hello"])):
        with pytest.raises(llmbackend.ConfigurationError, match="absent.* there is no such folder"):
            ask()


@pytest.mark.parametrize("model", ["", "no/such/model", "nowhere"])
def test_a_wrong_name(provider: str, model: str) -> None:
    with pytest.raises(llmbackend.LLMBackendError, match=f"{provider}.*'{model}'"):
        small.client(provider, model).get_response("Hello")


def test_a_folder_that_holds_no_model_can_be_filled(provider: str, tmp_path: Path) -> None:
    """A load that fails leaves a client that loads later."""
    with small.client(provider, str(tmp_path), apply_chat_template=True) as client:
        with pytest.raises(llmbackend.EngineError, match=f"{provider} failed on model '{tmp_path}'") as caught:
            client.get_response("Hello")
        assert caught.value.__cause__ is not None
        tiny_models.make_scripted(tmp_path)
        assert client.get_response("Hello") == tiny_models.SCRIPT


WRONG_OPTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("transformers", {"pipeline_kwargs": {"device_map": "nowhere"}}, "nowhere"),
    ("transformers", {"pipeline_kwargs": {"torch_dtype": "float99"}}, "float99"),
    ("transformers", {"model_kwargs": {"bogus": 1}}, "bogus"),
    ("transformers", {"tokenizer": "/no/such/tokenizer"}, "/no/such/tokenizer"),
    ("transformers", {"tokenizer": 3}, "option tokenizer .* is a int; give"),
    ("transformers", {"pipeline_kwargs": {"bogus": 1}}, "pipeline_kwargs.*bogus"),
    ("vllm", {"llm_kwargs": {"bogus": 1}}, "bogus"),
    ("vllm", {"llm_kwargs": {"dtype": "float99"}}, "float99"),
    ("mlx", {"load_kwargs": {"bogus": 1}}, "bogus"),
]


@pytest.mark.parametrize(("provider", "options", "words"), WRONG_OPTIONS)
def test_an_option_that_the_engine_refuses(
    random_model: str, provider: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(llmbackend.LLMBackendError, match=f"(?s){words}") as caught:
        small.client(provider, random_model, **options).get_response("Hello", LIMIT)
    assert provider in str(caught.value)


STEPS = {
    "transformers": ("transformers.generation.utils", "GenerationMixin", "generate"),
    "vllm": ("vllm.v1.worker.cpu_model_runner", "CPUModelRunner", "execute_model"),
    "mlx": ("mlx_lm.generate", "BatchGenerator", "next_generated"),
}


@pytest.fixture
def breakdowns(monkeypatch: pytest.MonkeyPatch, provider: str) -> list[BaseException]:
    """What the inside of the engine raises, one at each of its next steps."""
    coming: list[BaseException] = []
    module, kind, name = STEPS[provider]
    owner = getattr(importlib.import_module(module), kind)
    step = getattr(owner, name)

    def breaking(*given: Any, **options: Any) -> Any:
        if coming:
            raise coming.pop()
        return step(*given, **options)

    monkeypatch.setattr(owner, name, breaking)
    return coming


def test_an_engine_that_breaks_down(
    random_client: llmbackend.Client, provider: str, breakdowns: list[BaseException]
) -> None:
    expected = told(random_client.generate("Hello", LIMIT))
    breakdowns.append(RuntimeError("out of luck"))
    with pytest.raises(llmbackend.EngineError, match=f"{provider} failed on model .*RuntimeError: out of luck"):
        random_client.generate("Hello", LIMIT)
    assert told(random_client.generate("Hello", LIMIT)) == expected


def test_a_breakdown_in_a_batch_costs_no_item(
    random_client: llmbackend.Client, breakdowns: list[BaseException]
) -> None:
    asked = prompts(9)
    expected = [told(item) for item in random_client.submit_batch(asked, LIMIT).items()]
    breakdowns.append(RuntimeError("out of luck"))
    assert [told(item) for item in random_client.submit_batch(asked, LIMIT).items()] == expected
    assert not breakdowns


def test_an_engine_that_stays_broken_fails_each_item(
    random_client: llmbackend.Client, breakdowns: list[BaseException]
) -> None:
    breakdowns += [RuntimeError("out of luck")] * 100
    items = list(random_client.submit_batch(prompts(5), LIMIT).items())
    assert [item.status for item in items] == ["failed"] * 5
    assert all(isinstance(item.error, llmbackend.EngineError) and "out of luck" in str(item.error) for item in items)
    breakdowns.clear()
    assert random_client.submit_batch(prompts(5), LIMIT).results()


def test_an_interrupt_inside_of_the_engine(random_client: llmbackend.Client, breakdowns: list[BaseException]) -> None:
    asked = prompts(9)
    expected = [told(item) for item in random_client.submit_batch(asked, LIMIT).items()]
    breakdowns.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        random_client.submit_batch(asked, LIMIT)
    assert [told(item) for item in random_client.submit_batch(asked, LIMIT).items()] == expected


def test_ctrl_c_in_a_batch(chat_client: llmbackend.Client) -> None:
    chat_client.get_response("Hello")
    threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        while True:
            chat_client.submit_batch(["Hello"] * 300)
    assert chat_client.get_response("Hello") == tiny_models.SCRIPT
    assert chat_client.submit_batch(["Hello"] * 3).results() == [tiny_models.SCRIPT] * 3


def test_nothing_heavy_is_imported_before_the_first_prompt() -> None:
    code = """
import sys, llmbackend
for provider in ("transformers", "vllm", "mlx"):
    with llmbackend.client(provider, "model"):
        pass
print(sorted({"torch", "numpy", "transformers", "vllm", "mlx_lm", "mlx.core"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": PACKAGE}, capture_output=True)
    assert done.stdout == b"[]\n", done.stderr


def test_seeded_prompts_beyond_a_step_of_vllm(random_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, vLLM fails on a seeded prompt that a step has room for in part only."""
    engine = importlib.import_module("llmbackend.local.vllm").Engine
    failures = []
    generate = engine._outputs

    def watched(*given: Any) -> Any:
        try:
            return generate(*given)
        except Exception as error:
            failures.append(error)
            raise

    monkeypatch.setattr(engine, "_outputs", watched)
    asked = [f"Prompt {n}" + " and so on" * (n % 9) for n in range(120)]
    config = {**LIMIT, "temperature": 1.0, "seed": 5}
    options = {"llm_kwargs": {"max_model_len": 256, "max_num_batched_tokens": 300}}
    with small.client("vllm", random_model, **options) as client:
        texts = client.submit_batch(asked, config).results()
        assert texts[::10] == [client.get_response(prompt, config) for prompt in asked[::10]]
    assert failures == []
