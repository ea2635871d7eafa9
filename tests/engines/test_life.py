"""An engine is loaded once, on first use, is given back, and leaves the process that it lives in as it was."""

from __future__ import annotations

import gc
import importlib
import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import small
import tiny_models
import torch
from small import prompts, told

import llmbackend

LOADERS = {"transformers": ("transformers", "pipeline"), "vllm": ("vllm", "LLM"), "mlx": ("mlx_lm", "load")}
SAMPLED = {"temperature": 1.0, "max_tokens": 8}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, provider: str) -> list[Any]:
    """A reference to each model that is loaded during the test."""
    seen: list[Any] = []
    module, name = LOADERS[provider]
    load = getattr(importlib.import_module(module), name)

    def spy(*given: Any, **options: Any) -> Any:
        made = load(*given, **options)
        seen.append(weakref.ref(network(provider, made)))
        return made

    monkeypatch.setattr(importlib.import_module(module), name, spy)
    return seen


def network(provider: str, made: Any) -> Any:
    if provider == "transformers":
        return made.model
    if provider == "mlx":
        return made[0]
    return made.llm_engine.model_executor.driver_worker.worker.model_runner.get_model()


def test_loaded_once_freed_and_usable_again(provider: str, scripted_model: str, loads: list[Any]) -> None:
    client = small.client(provider, scripted_model, apply_chat_template=True)
    client.close()  # there is nothing to free
    assert not loads
    with client:
        assert client.get_response("Hello") == tiny_models.SCRIPT
        assert client.submit_batch(["Hello", "Hi"]).results() == [tiny_models.SCRIPT] * 2
        (first,) = loads
        assert first() is not None
    assert first() is None
    assert client.get_response("Hello") == tiny_models.SCRIPT
    assert len(loads) == 2
    client.close()
    client.close()
    assert loads[1]() is None


def test_a_client_that_is_forgotten_frees_its_model(provider: str, scripted_model: str, loads: list[Any]) -> None:
    client = small.client(provider, scripted_model)
    client.get_response("Hello", {"max_tokens": 1})
    del client
    gc.collect()
    assert [model() for model in loads] == [None]


def test_clients_of_one_engine_do_not_touch_each_other(
    random_client: llmbackend.Client, provider: str, scripted_model: str
) -> None:
    expected = told(random_client.generate("Hello", {"max_tokens": 6}))
    for ends in ("closed", "forgotten"):
        other = small.client(provider, scripted_model, apply_chat_template=True)
        for _ in range(2):
            assert other.get_response("Hello") == tiny_models.SCRIPT
            assert told(random_client.generate("Hello", {"max_tokens": 6})) == expected
        if ends == "closed":
            other.close()
        del other
        gc.collect()
        assert told(random_client.generate("Hello", {"max_tokens": 6})) == expected


def test_threads_share_a_client(provider: str, random_model: str, loads: list[Any]) -> None:
    asked = prompts(8)
    config = {"max_tokens": 6, "temperature": 1, "seed": 3}
    with small.client(provider, random_model) as client, ThreadPoolExecutor(8) as pool:
        barrier = threading.Barrier(8)

        def ask(prompt: str) -> Any:
            barrier.wait()
            return client.get_response(prompt, config), client.submit_batch([prompt, "Hello"], config).results()

        together = list(pool.map(ask, asked))
        assert len(loads) == 1
        assert together == [
            (client.get_response(prompt, config), client.submit_batch([prompt, "Hello"], config).results())
            for prompt in asked
        ]


def global_random_states() -> list[Any]:
    """What the four global generators would draw next, and how they stand."""
    return [
        random.getstate(),
        [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
        torch.get_rng_state().tolist(),
        [key.tolist() for key in mx.random.state],
    ]


@pytest.mark.parametrize("config", [{}, {"temperature": 1.0}, {"temperature": 1.0, "seed": 3}])
def test_the_caller_s_random_states_are_untouched(
    random_client: llmbackend.Client, provider: str, config: dict[str, Any]
) -> None:
    config = {"max_tokens": 6, **config}
    random_client.get_response("Hello", {"max_tokens": 1})
    before = global_random_states()
    random_client.get_response("Hello", config)
    random_client.submit_batch(prompts(40), config).results()
    assert global_random_states() == before


def test_also_by_loading(provider: str, random_model: str) -> None:
    before = global_random_states()
    with small.client(provider, random_model) as client:
        client.get_response("Hello", SAMPLED)
    assert global_random_states() == before


def test_chance_is_no_seed_of_the_caller_s(random_client: llmbackend.Client) -> None:
    """Texts without a seed differ, though the caller has seeded all there is."""
    said = set()
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        mx.random.seed(1)
        said.add(random_client.get_response("Hello", SAMPLED))
    assert len(said) == 2


def test_xtc_is_of_the_seed_too(clients: small.Clients, random_model: str) -> None:
    client = clients.of("mlx", random_model)
    config = {**SAMPLED, "seed": 5, "extra": {"sampler": {"xtc_probability": 0.5, "xtc_threshold": 0.05}}}
    before = global_random_states()
    alone = [client.get_response(prompt, config) for prompt in prompts(8)]
    assert client.submit_batch(prompts(8), config).results() == alone
    assert global_random_states() == before
    assert alone != [client.get_response(prompt, {**SAMPLED, "seed": 5}) for prompt in prompts(8)]
