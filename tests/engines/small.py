"""What the tests of the engines share."""

from __future__ import annotations

from typing import Any

import llmbackend

# Unless told, vLLM takes nearly all of the memory and compiles for half a minute.
SMALL_VLLM = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 32, "kv_cache_memory_bytes": 64 << 20}


def client(provider: str, model: str, **options: Any) -> llmbackend.Client:
    """A client whose engine is small."""
    if provider == "vllm":
        options["llm_kwargs"] = {**SMALL_VLLM, **options.get("llm_kwargs", {})}
    return llmbackend.client(provider, model, **options)


class Clients:
    """One client for each provider, model and set of options."""

    def __init__(self) -> None:
        self._made: dict[str, llmbackend.Client] = {}

    def of(self, provider: str, model: str, **options: Any) -> llmbackend.Client:
        key = f"{provider} {model} {options}"
        if key not in self._made:
            self._made[key] = client(provider, model, **options)
        return self._made[key]


def told(answer: llmbackend.Response | llmbackend.BatchItem) -> tuple[Any, ...]:
    """All that an answer says, to be compared."""
    usage = answer.usage
    assert usage is not None
    return answer.text, answer.finish_reason, usage.input_tokens, usage.output_tokens


def prompts(count: int) -> list[str]:
    """Of different lengths."""
    return [f"Prompt {n}" + " and" * (n % 5) for n in range(count)]
