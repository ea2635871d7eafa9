"""Answers that are of no use are paid for all the same: what they said, why they ended and what they cost is kept, in
single calls and in batches, immediate or at the provider."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from support import POLL, prompts
from table import ALL, Provider

import llmbackend
from llmbackend import StructuredOutput, Usage

SCHEMA = {"type": "object", "properties": {"t": {"type": "string"}}, "required": ["t"], "additionalProperties": False}


class Picky(BaseModel):
    t: str

    @field_validator("t")
    @classmethod
    def never(cls, text: str) -> str:
        raise ValueError("never good enough")


def no_parser_takes_it(value: Any) -> Any:
    raise KeyError("gone")


# Gemini blocks the prompt, so that nothing begins that could end.
REFUSED = {"openai": "stop", "anthropic": "refusal", "gemini": None}
FILTERED = {"openai": "content_filter", "anthropic": "refusal", "gemini": "SAFETY"}
STOPPED = dict.fromkeys(("openai", "anthropic", "gemini"), "stop")
CUT = dict.fromkeys(("openai", "anthropic", "gemini"), "length")

# The sandbox's fault, the schema, and what becomes of the answer: its status, and why it ended.
ANSWERS: dict[str, tuple[str | None, Any, str, Any]] = {
    "refused": ("refusal", None, "refused", REFUSED),
    "filtered": ("content_filter", None, "refused", FILTERED),
    "thinking only": ("reasoning_only", None, "truncated", CUT),
    "cut, with a schema": ("truncated", SCHEMA, "truncated", CUT),
    "nothing": ("null_output", None, "failed", STOPPED),
    "no JSON": ("invalid_json", SCHEMA, "invalid", STOPPED),
    "unfit": ("unfit_json", SCHEMA, "invalid", STOPPED),
    "a validator": (None, Picky, "invalid", STOPPED),
    "a parser": (None, StructuredOutput(schema=SCHEMA, parser=no_parser_takes_it), "invalid", STOPPED),
}
WITHOUT_TEXT = ("thinking only", "nothing")


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


def check(provider: Provider, name: str, kept: Any) -> None:
    """`kept` is a BatchItem or an OutputError."""
    *_, finish_reasons = ANSWERS[name]
    assert kept.finish_reason == finish_reasons[provider.name]
    assert type(kept.usage) is Usage
    assert kept.usage.input_tokens > 0
    if name == "thinking only":
        assert kept.usage.output_tokens >= kept.usage.reasoning_tokens > 0
    if name in WITHOUT_TEXT:
        assert kept.text is None
    elif name not in ("refused", "filtered", "no JSON"):
        assert "Pr" in kept.text  # of the prompt, which is echoed


def check_error(provider: Provider, name: str, error: Any) -> None:
    assert isinstance(error, llmbackend.OutputError)
    check(provider, name, error)
    again = pickle.loads(pickle.dumps(error))
    assert (again.usage, again.finish_reason) == (error.usage, error.finish_reason)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_single_call(provider: Provider, box: Any, name: str) -> None:
    fault, schema, *_ = ANSWERS[name]
    if fault is not None:
        box.fault(f"{fault}:1@{provider.call}")
    with pytest.raises(llmbackend.OutputError) as caught:
        provider.client(box).generate("Prompt 0", schema=schema)
    check_error(provider, name, caught.value)
    assert caught.value.response


@pytest.mark.parametrize("native", [True, False], ids=["native", "immediate"])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_batch(provider: Provider, box: Any, name: str, native: bool) -> None:
    fault, schema, status, _ = ANSWERS[name]
    if fault is not None:
        box.fault(f"{fault}@{provider.create if native else provider.call}")
    batch = provider.client(box).submit_batch(prompts(2), schema=schema, batch_options={"native": native})
    batch.wait(POLL)
    for item in batch.items():
        assert (item.status, item.value) == (status, None)
        check(provider, name, item)
        check_error(provider, name, item.error)
        assert isinstance(item.error, llmbackend.OutputError)
        assert (item.error.text, item.error.usage) == (item.text, item.usage)
