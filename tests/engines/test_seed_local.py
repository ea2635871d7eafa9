"""The examples for local engines of the project's first specification, as they were written: only names of models are
swapped, and vLLM runs on one CPU of this machine in place of two GPUs."""

from __future__ import annotations

from typing import Any

import pytest
import small
import tiny_models

import llmbackend

TRANSFORMERS = r"""
client = llmbackend.client(
    provider="transformers",
    model="mistralai/Mistral-7B-Instruct-v0.3",  # HF repo or local path
    pipeline_kwargs={"device_map": "auto"},      # GPU/CPU allocation
    apply_chat_template=True,                    # Auto-wrap in chat format
)

# Use conversations for chat models
response = client.get_response(
    "Write a poem",
    config={
        "max_tokens": 200,
        "extra": {
            "conversation": [
                {"role": "system", "content": "You are a poet."},
                {"role": "user", "content": "Write a poem about the ocean"}
            ]
        }
    }
)

# Batch with per-prompt conversations
batch = client.submit_batch(
    ["Prompt 1", "Prompt 2"],
    config={
        "extra": {
            "conversations": [
                [{"role": "user", "content": "Prompt 1"}],
                [{"role": "user", "content": "Prompt 2"}],
            ]
        }
    }
)
"""

VLLM = r"""
client = llmbackend.client(
    provider="vllm",
    model="facebook/opt-125m",  # Or local path
    llm_kwargs={"tensor_parallel_size": 2}  # vLLM-specific options
)

# Sampling parameters via config.extra
response = client.get_response(
    "Generate creative ideas",
    config={
        "temperature": 0.9,
        "extra": {
            "stop": ["\n\n"],
            "presence_penalty": 0.5,
            "frequency_penalty": 0.3,
        }
    }
)
"""

MLX = r"""
client = llmbackend.client(
    provider="mlx",
    model="mlx-community/Llama-3.2-3B-Instruct-4bit",
    load_kwargs={},                    # Passed to mlx_lm.load()
    apply_chat_template=True,          # Auto-wrap in chat format
)

# Per-prompt conversations
batch = client.submit_batch(
    ["Question 1", "Question 2"],
    config={
        "max_tokens": 150,
        "extra": {
            "system": "You are concise.",
            "conversations": [
                [{"role": "user", "content": "Explain AI"}],
                [{"role": "user", "content": "Explain ML"}],
            ],
            "sampler": {"temp": 0.7, "top_p": 0.9}  # MLX sampler params
        }
    }
)
"""

EXAMPLE_5 = r"""
import llmbackend

client = llmbackend.client(
    provider="transformers",
    model="mistralai/Mistral-7B-Instruct-v0.3",
    pipeline_kwargs={"device_map": "auto"},
    apply_chat_template=True
)

# Multi-turn conversation
conversation = [
    {"role": "system", "content": "You are a helpful coding assistant."},
    {"role": "user", "content": "How do I sort a list in Python?"},
]

response = client.get_response(
    "irrelevant",  # Not used when conversation is provided
    config={"extra": {"conversation": conversation}}
)
print(response)
"""

CONFIGURATION = r"""
config = {
    "temperature": 0.7,        # Randomness (0.0 = deterministic, 1.0+ = creative)
    "top_p": 0.9,              # Nucleus sampling
    "max_tokens": 500,         # Maximum tokens to generate
    "seed": 42,                # Random seed for reproducibility
    "extra": {                 # Provider-specific extras
        "stop": ["\n\n"],      # Stop sequences
        "system": "You are helpful and concise."  # System prompt
    }
}

response = client.get_response("Tell me about AI", config=config)
"""

CONFIG_CLASS = r"""
from llmbackend import GenerationConfig

config = GenerationConfig(
    temperature=0.8,
    max_tokens=200,
    extra={"stop": ["</response>"]}
)
"""

SYSTEM = r"""
config = {
    "extra": {
        "system": "You are a helpful assistant specialized in Python programming."
    }
}

response = client.get_response(
    "How do I read a CSV file?",
    config=config
)
"""

SYSTEM_INSTRUCTION = r"""
config = {
    "extra": {
        "system_instruction": "You are a data scientist."
    }
}
"""


def run(example: str, swaps: dict[str, str], **names: Any) -> dict[str, Any]:
    for old, new in swaps.items():
        assert example.count(old) == 1
        example = example.replace(old, new)
    names["llmbackend"] = llmbackend
    exec(example, names)
    return names


def test_transformers(scripted_model: str) -> None:
    done = run(TRANSFORMERS, {"mistralai/Mistral-7B-Instruct-v0.3": scripted_model})
    assert done["response"] == tiny_models.SCRIPT
    assert done["batch"].results() == [tiny_models.SCRIPT] * 2


def test_vllm(random_model: str) -> None:
    machine = {"tensor_parallel_size": 1, **small.SMALL_VLLM}
    done = run(VLLM, {"facebook/opt-125m": random_model, '{"tensor_parallel_size": 2}': repr(machine)})
    assert isinstance(done["response"], str) and done["response"] and "\n\n" not in done["response"]


def test_mlx(scripted_model: str) -> None:
    done = run(MLX, {"mlx-community/Llama-3.2-3B-Instruct-4bit": scripted_model})
    # At this temperature each token of the script is all but certain.
    assert done["batch"].results() == [tiny_models.SCRIPT] * 2


def test_example_5(scripted_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(EXAMPLE_5, {"mistralai/Mistral-7B-Instruct-v0.3": scripted_model})
    assert capsys.readouterr().out == tiny_models.SCRIPT + "\n"


def test_configuration(random_client: llmbackend.Client, chat_client: llmbackend.Client) -> None:
    texts = {run(CONFIGURATION, {}, client=random_client)["response"] for _ in range(2)}
    assert len(texts) == 1 and "\n\n" not in texts.pop()
    config = run(CONFIG_CLASS, {})["config"]
    assert random_client.get_response("Tell me about AI", config=config)
    assert run(SYSTEM, {}, client=chat_client)["response"] == tiny_models.SCRIPT
    config = run(SYSTEM_INSTRUCTION, {})["config"]
    assert chat_client.get_response("Hello", config=config) == tiny_models.SCRIPT
