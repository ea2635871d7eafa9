"""The four remote examples of the project's first specification, as they were written, against a sandbox that only the
environment variables know of."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import llmbackend

EXAMPLE_1 = r"""
import llmbackend

prompt = "Explain photosynthesis in one sentence."
providers = [
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-3-5-sonnet-latest"),
    ("gemini", "gemini-1.5-flash"),
]

for provider, model in providers:
    response = llmbackend.get_response(
        provider=provider,
        model=model,
        input=prompt,
        config={"max_tokens": 100, "temperature": 0.5}
    )
    print(f"\n{provider}:")
    print(response)
"""

EXAMPLE_2 = r"""
import llmbackend

client = llmbackend.client("openai", "gpt-4o-mini")

prompts = ["Prompt 1", "Prompt 2", "Prompt 3"]
batch = client.submit_batch(prompts)

try:
    # Wait with timeout
    batch.wait(timeout=300)
    results = batch.results()
    print(f"✓ Got {len(results)} results")
except TimeoutError:
    print(f"⚠ Batch {batch.id} timed out")
    # Save for later retrieval
    save_batch_id(batch.id)
except RuntimeError as e:
    print(f"✗ Batch failed: {e}")
"""

EXAMPLE_3 = r"""
import llmbackend
from pydantic import BaseModel

class ProductInfo(BaseModel):
    name: str
    category: str
    price_range: str
    features: list[str]

# Product descriptions to analyze
descriptions = [
    "iPhone 15 Pro with titanium design, A17 chip, and advanced camera system. $999-1199",
    "Sony WH-1000XM5 wireless headphones with noise cancellation. Premium audio. $399",
    # ... hundreds more
]

client = llmbackend.client("openai", "gpt-4o-mini")
schema = llmbackend.StructuredOutput(pydantic_model=ProductInfo)

batch = client.submit_batch(
    inputs=[f"Extract product info: {desc}" for desc in descriptions],
    schema=schema,
    batch_options={
        "display_name": "product-extraction",
        "custom_ids": [f"prod_{i}" for i in range(len(descriptions))]
    }
)

# Process when ready
products = batch.wait().results()
for product in products:
    print(f"{product.name} - {product.category}: {product.price_range}")
"""

EXAMPLE_4 = r'''
import llmbackend

def get_response_with_fallback(prompt, config=None):
    """Try multiple providers with fallback."""
    providers = [
        ("openai", "gpt-4o-mini"),
        ("anthropic", "claude-3-5-sonnet-latest"),
        ("gemini", "gemini-1.5-flash"),
    ]

    for provider, model in providers:
        try:
            return llmbackend.get_response(
                provider=provider,
                model=model,
                input=prompt,
                config=config
            )
        except Exception as e:
            print(f"✗ {provider} failed: {e}")
            continue

    raise RuntimeError("All providers failed")

# Use it
response = get_response_with_fallback(
    "Explain machine learning",
    config={"max_tokens": 200}
)
'''


def run(code: str, environment: dict[str, str]) -> str:
    for name in ("GEMINI_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        assert name not in environment
    inherited = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_AUTH_TOKEN"))}
    command = [sys.executable, "-W", "error", "-X", "utf8", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env={**inherited, **environment})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_compare_responses_across_providers(box: Any) -> None:
    said = "Explain photosynthesis in one sentence."
    expected = "".join(f"\n{provider}:\n{said}\n" for provider in ("openai", "anthropic", "gemini"))
    assert run(EXAMPLE_1, box.environment()) == expected


def test_batch_processing_with_error_handling(box: Any) -> None:
    assert run(EXAMPLE_2, box.environment()) == "✓ Got 3 results\n"
    box.fault("fail_job")
    assert run(EXAMPLE_2, box.environment()).startswith("✗ Batch failed: batch batch_")


def test_batch_processing_that_takes_too_long() -> None:
    with llmbackend.sandbox(speed=1) as slow:
        code = "def save_batch_id(id): print('saved', id)\n" + EXAMPLE_2.replace("timeout=300", "timeout=0.2")
        said = run(code, slow.environment())
    told, saved, _ = said.split("\n")
    batch_id = saved.removeprefix("saved ")
    assert told == f"⚠ Batch {batch_id} timed out"
    assert batch_id.startswith("batch_")


def test_structured_data_extraction_at_scale(box: Any) -> None:
    lines = run(EXAMPLE_3, box.environment()).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Extract product info: iPhone 15 Pro")
    assert lines[1].startswith("Extract product info: Sony WH-1000XM5")


SHOWN = "\nprint(response)"


@pytest.mark.parametrize("broken", [[], ["openai"], ["openai", "anthropic"]])
def test_multi_provider_fallback(box: Any, broken: list[str]) -> None:
    paths = {"openai": "/v1/responses", "anthropic": "/v1/messages"}
    for provider in broken:
        box.fault(f"auth@{paths[provider]}")
    *told, said = run(EXAMPLE_4 + SHOWN, box.environment()).splitlines()
    assert said == "Explain machine learning"
    assert len(told) == len(broken)
    for provider, line in zip(broken, told, strict=True):
        assert line.startswith(f"✗ {provider} failed: {provider}: ")


def test_multi_provider_fallback_without_keys(box: Any) -> None:
    """A provider without a key is one that failed."""
    environment = {name: value for name, value in box.environment().items() if not name.startswith("OPENAI")}
    told, said = run(EXAMPLE_4 + SHOWN, environment).splitlines()
    assert said == "Explain machine learning"
    assert told.startswith("✗ openai failed: ")
    assert "OPENAI_API_KEY" in told
