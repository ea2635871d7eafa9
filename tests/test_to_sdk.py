"""`Response.to_sdk()`: the vendor's own typed object."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import pytest
from support import Exchange, Proxy, Reply
from table import ALL, ANTHROPIC, GEMINI, OPENAI, Provider

import llmbackend

EXTRAS = {"openai": "[openai]", "anthropic": "[anthropic]", "gemini": "[google-genai"}


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


def sdk_type(provider: Provider) -> Any:
    place, name = {
        "openai": ("openai.types.responses", "Response"),
        "anthropic": ("anthropic.types", "Message"),
        "gemini": ("google.genai.types", "GenerateContentResponse"),
    }[provider.name]
    return getattr(importlib.import_module(place), name)


def text_of(provider: Provider, native: Any) -> Any:
    if provider is OPENAI:
        return native.output_text
    if provider is ANTHROPIC:
        return "".join(block.text for block in native.content if block.type == "text")
    return native.text


def test_type_and_text(provider: Provider, box: Any) -> None:
    kind = sdk_type(provider)
    response = provider.client(box).generate('Hello "there" \u2028 日本')
    native = response.to_sdk()
    assert type(native) is kind
    assert text_of(provider, native) == response.text
    assert response.to_sdk() is not native


def test_a_structured_answer(provider: Provider, box: Any) -> None:
    kind = sdk_type(provider)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    response = provider.client(box).generate("Hello", schema=schema)
    native = response.to_sdk()
    assert type(native) is kind
    assert json.loads(text_of(provider, native)) == response.value


def test_counts_and_ids(provider: Provider, box: Any) -> None:
    sdk_type(provider)
    response = provider.client(box).generate("Hello")
    assert response.usage is not None
    native: Any = response.to_sdk()
    if provider is GEMINI:
        assert (native.response_id, native.model_version) == (response.id, response.model)
        assert native.usage_metadata.prompt_token_count == response.usage.input_tokens
        assert native.candidates[0].finish_reason.value == "STOP"
    else:
        assert (native.id, native.model) == (response.id, response.model)
        assert native.usage.input_tokens == response.usage.input_tokens
        assert native.usage.output_tokens == response.usage.output_tokens


def add_unknown(value: Any) -> Any:
    """New fields everywhere, as a server that is ahead of its SDK sends them."""
    if isinstance(value, dict):
        return {key: add_unknown(one) for key, one in value.items()} | {"brand_new_field": {"deep": [1, None]}}
    if isinstance(value, list):
        return [add_unknown(one) for one in value]
    return value


def test_what_the_sdk_does_not_know(provider: Provider, box: Any) -> None:
    kind = sdk_type(provider)

    def newer(exchange: Exchange) -> Reply:
        return Reply.of(add_unknown(exchange.forward().json))

    with Proxy(box, newer) as proxy:
        response = provider.through(proxy, box).generate("Hello")
    native = response.to_sdk()
    assert type(native) is kind
    assert text_of(provider, native) == response.text == "Hello"
    assert response.raw["brand_new_field"]  # the reply itself stays as it was


@pytest.mark.filterwarnings("ignore:.*BRAND_NEW:UserWarning")  # google-genai tells of them
def test_new_words_in_known_fields(provider: Provider, box: Any) -> None:
    kind = sdk_type(provider)

    def newer(exchange: Exchange) -> Reply:
        body = exchange.forward().json
        if provider is OPENAI:
            body["output"].insert(0, {"type": "brand_new_item", "id": "x"})
        elif provider is ANTHROPIC:
            body["content"].insert(0, {"type": "brand_new_block", "data": 1})
        else:
            body["candidates"][0]["content"]["parts"].insert(0, {"brandNewPart": {"a": 1}})
            body["candidates"][0]["safetyRatings"] = [{"category": "BRAND_NEW", "probability": "BRAND_NEW"}]
        return Reply.of(body)

    with Proxy(box, newer) as proxy:
        response = provider.through(proxy, box).generate("Hello")
        native = response.to_sdk()
        assert type(native) is kind
        assert text_of(provider, native) == response.text == "Hello"


def test_without_the_sdk(provider: Provider, box: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("openai", "anthropic", "google")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("openai", "anthropic", "google", "google.genai", "google.generativeai", "google.ai"):
        monkeypatch.setitem(sys.modules, name, None)
    response = provider.client(box).generate("Hello")
    with pytest.raises(llmbackend.MissingDependencyError) as caught:
        response.to_sdk()
    assert isinstance(caught.value, ImportError)
    assert f"pip install llmbackend{EXTRAS[provider.name]}" in str(caught.value)
    assert response.text == "Hello"
