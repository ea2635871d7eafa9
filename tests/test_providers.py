"""One table: the same single calls on all three providers give the same types, values and errors."""

from __future__ import annotations

import json
import pickle
import traceback
import warnings
from typing import Any

import pytest
from support import Exchange, Proxy, Reply
from table import ALL, Provider

import llmbackend
from llmbackend import Response, Usage


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(provider: Provider, box: Any) -> llmbackend.Client:
    return provider.client(box)


def test_a_plain_call(provider: Provider, client: Any) -> None:
    response = client.generate("Hello there")
    assert type(response) is Response
    assert (response.text, response.value, response.finish_reason) == ("Hello there", "Hello there", "stop")
    assert type(response.usage) is Usage
    assert response.usage.input_tokens >= 3
    assert response.usage.output_tokens == 3
    assert (response.usage.cached_tokens, response.usage.reasoning_tokens) == (0, 0)
    assert response.model == provider.model
    assert isinstance(response.id, str)
    assert response.id
    assert isinstance(response.raw, dict)
    assert client.get_response("Hello there") == "Hello there"


def test_without_a_client(provider: Provider, box: Any) -> None:
    said = llmbackend.get_response(
        provider=provider.name, model=provider.model, input="a", config={"temperature": 0}, **box.options(provider.name)
    )
    assert said == "a"


def test_config(provider: Provider, client: Any) -> None:
    config = llmbackend.GenerationConfig(temperature=0.5, top_p=0.9, max_tokens=16)
    response = client.generate("0123456789" * 30, config)
    assert (response.text, response.finish_reason) == (("0123456789" * 7)[:64], "length")
    assert response.value == response.text  # a cut text is a value
    assert response.usage.output_tokens == 16
    assert client.generate("short", config).finish_reason == "stop"


BAD_CONFIGS: list[Any] = [
    {"temperature": float("nan")},
    {"temperature": -1},
    {"top_p": 1.5},
    {"max_tokens": 0},
    {"max_tokens": 1.5},
    {"max_tokens": True},
    {"temprature": 1},
    {"extra": {"stop": 3}},
    {"extra": {"stop": [""]}},
    {"extra": {"system": 3}},
    {"extra": {"system": "a", "system_instruction": "b"}},
    {"extra": {"conversation": []}},
    {"extra": {"conversations": [[{"role": "user", "content": "a"}]]}},
    {"extra": {"conversation": [{"role": "user"}]}},
    {"extra": {"conversation": {"role": "user", "content": "a"}}},
    {"extra": {"conversation": 3}},
    {"extra": {"x": float("inf")}},
    {"extra": {"x": ...}},
]


@pytest.mark.parametrize("config", BAD_CONFIGS, ids=repr)
def test_a_wrong_config(client: Any, box: Any, config: Any) -> None:
    with pytest.raises(llmbackend.ConfigurationError):
        client.get_response("a", config)
    assert box.requests() == []


def test_a_conversation_of_openai(provider: Provider, client: Any, box: Any) -> None:
    """OpenAI's own parameter, which the others do not have."""
    if provider.name == "openai":
        return
    for own in ("conv_1", {"id": "conv_1"}):
        for call in (client.get_response, lambda _, config: client.submit_batch(["a"], config)):
            with pytest.raises(llmbackend.ConfigurationError, match="must be a list of"):
                call("a", {"extra": {"conversation": own}})
    assert client.get_response("a", {"extra": {"conversation": None}}) == "a"
    assert len(box.requests()) == 1


@pytest.mark.parametrize("bad", ["a\ud800", 3, None, b"a", [], [{"role": "user"}], ["a"], {"role": "user"}])
def test_a_wrong_input(client: Any, box: Any, bad: Any) -> None:
    with pytest.raises(llmbackend.ConfigurationError):
        client.get_response(bad)
    assert box.requests() == []


def test_an_empty_input(provider: Provider, client: Any, box: Any) -> None:
    """What a provider refuses is refused before anything is sent."""
    for text, refused_by in (("", ("anthropic", "gemini")), (" \n", ("anthropic",))):
        if provider.name in refused_by:
            with pytest.raises(llmbackend.ConfigurationError, match="input is empty"):
                client.get_response(text)
            assert box.requests() == []


def sent(proxy: Proxy) -> Any:
    return json.loads(proxy.seen[-1].body)


def system_of(provider: Provider, body: Any) -> str | None:
    """The system prompt as it stands in a request."""
    found = {
        "openai": lambda: body.get("instructions"),
        "anthropic": lambda: body.get("system"),
        "gemini": lambda: "".join(part["text"] for part in body.get("systemInstruction", {}).get("parts", [])),
    }[provider.name]()
    if isinstance(found, list):
        found = "".join(block["text"] for block in found)
    return found or None


def turns_of(provider: Provider, body: Any) -> list[tuple[str, str]]:
    """Role and text of each turn of a request."""

    def text(content: Any) -> str:
        return content if isinstance(content, str) else "".join(part["text"] for part in content)

    if provider.name == "gemini":
        return [(turn["role"], text(turn["parts"])) for turn in body["contents"]]
    turns = body["input" if provider.name == "openai" else "messages"]
    if isinstance(turns, str):
        return [("user", turns)]
    return [(turn["role"], text(turn["content"])) for turn in turns]


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One"},
    {"role": "assistant", "content": "Two"},
    {"role": "user", "content": "Three"},
]


@pytest.mark.parametrize(
    ("given", "config"),
    [
        ("Three", {"extra": {"system": "Be brief."}}),
        ("Three", {"extra": {"system_instruction": "Be brief."}}),
        ("Three", {"extra": {"system": "Be brief.", "system_instruction": "Be brief."}}),
        (CONVERSATION, None),
        (CONVERSATION[1:], {"extra": {"system": "Be brief."}}),
        (CONVERSATION, {"extra": {"system": "Be brief."}}),
        ("not used", {"extra": {"conversation": CONVERSATION}}),
        ("not used", {"extra": {"conversation": CONVERSATION[1:], "system": "Be brief."}}),
    ],
)
def test_system_and_conversations(provider: Provider, box: Any, given: Any, config: Any) -> None:
    with Proxy(box) as proxy:
        assert provider.through(proxy, box).get_response(given, config) == "Three"
        body = sent(proxy)
    turns = turns_of(provider, body)
    assistant = "model" if provider.name == "gemini" else "assistant"
    system = system_of(provider, body)
    if turns[0][0] in ("system", "developer"):  # a place for it inside the conversation
        assert system is None
        system = turns.pop(0)[1]
    assert system == "Be brief."
    assert turns == [("user", "One"), (assistant, "Two"), ("user", "Three")][-len(turns) :]


def test_two_different_system_texts(client: Any, box: Any) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="system"):
        client.get_response(CONVERSATION, {"extra": {"system": "Be long."}})
    assert box.requests() == []


@pytest.mark.parametrize("stop", ["STOP", ["STOP"], ["never", "STOP", "later"]], ids=repr)
def test_stop(client: Any, stop: Any) -> None:
    response = client.generate("before STOP after later", {"extra": {"stop": stop}})
    assert (response.text, response.finish_reason) == ("before ", "stop")
    assert client.get_response("nothing of it", {"extra": {"stop": stop}}) == "nothing of it"


def test_seed(provider: Provider, box: Any) -> None:
    with Proxy(box) as proxy:
        client = provider.through(proxy, box)
        if provider.name == "gemini":
            assert client.get_response("a", {"seed": 42}) == "a"
            assert sent(proxy)["generationConfig"]["seed"] == 42
            return
        with pytest.warns(llmbackend.UnsupportedParameterWarning, match="seed"):
            assert client.get_response("a", {"seed": 42}) == "a"
        assert "seed" not in sent(proxy)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert client.get_response("a", {"seed": 43}) == "a"  # once a client


ERRORS = {
    "auth": (llmbackend.AuthenticationError, 1),
    "forbidden": (llmbackend.PermissionDeniedError, 1),
    "model_not_found": (llmbackend.NotFoundError, 1),
    "quota": (llmbackend.QuotaExceededError, 1),
    "server_error": (llmbackend.ServerError, 2),
    "overloaded": (llmbackend.ServerError, 2),
    "request_timeout": (llmbackend.ServerError, 2),
    "gateway_timeout": (llmbackend.ServerError, 2),
    "conflict": (llmbackend.ServerError, 2),
    "rate_limit": (llmbackend.RateLimitError, 2),
    "html_body": (llmbackend.APIError, 1),
    "empty_body": (llmbackend.APIError, 1),
    "failed_200": (llmbackend.APIError, 1),
    "kill_connection": (llmbackend.APIConnectionError, 2),
    "stall": (llmbackend.APITimeoutError, 2),
    "stall_body": (llmbackend.APITimeoutError, 2),
    "cut_body": (llmbackend.APIConnectionError, 2),
    "lost_reply": (llmbackend.APIConnectionError, 2),
}
SECRET = "sk-very-secret-0123456789"


@pytest.mark.parametrize("fault", ERRORS)
def test_errors(provider: Provider, box: Any, fault: str) -> None:
    kind, tries = ERRORS[fault]
    client = provider.client(box, max_retries=1, timeout=0.5 if "stall" in fault else 30, api_key=SECRET)
    box.fault(f"{fault}@{provider.call}")
    with pytest.raises(llmbackend.LLMBackendError) as caught:
        client.get_response("a")
    error = caught.value
    if fault == "failed_200":
        # Where no error comes with it, there is just no answer; where one does, its class is that of its type.
        assert isinstance(error, llmbackend.OutputError if provider.name == "gemini" else kind)
        return
    assert type(error) is kind, repr(error)
    assert len(provider.calls(box)) == tries
    assert str(error).startswith(f"{provider.name}: ")
    told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)) + repr(client)
    assert SECRET not in told
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, str(error))
    if isinstance(error, llmbackend.APIError):
        assert error.provider == provider.name
        assert error.body or fault == "empty_body"
        assert error.request_id
        if fault not in ("html_body", "empty_body", "failed_200"):
            assert error.status is not None
            assert error.status >= 400
        if fault in ("auth", "forbidden", "model_not_found", "quota", "rate_limit"):
            assert error.code
    if fault == "rate_limit":
        assert error.retry_after >= 1  # type: ignore[attr-defined]
    if isinstance(error, llmbackend.APIConnectionError):
        assert isinstance(error, ConnectionError)
    box.clear_faults()
    assert client.get_response("a") == "a"


@pytest.mark.parametrize("fault", ["rate_limit", "server_error", "overloaded", "kill_connection", "cut_body"])
def test_trouble_that_passes(provider: Provider, client: Any, box: Any, fault: str) -> None:
    box.fault(f"{fault}:1@{provider.call}")
    assert client.get_response("a") == "a"
    assert len(provider.calls(box)) == 2


def test_a_key_that_the_server_quotes(provider: Provider, box: Any) -> None:
    def quote(exchange: Exchange) -> Reply:
        return Reply.of({"error": {"message": f"Wrong key {SECRET}", "type": SECRET, "status": SECRET}}, 401)

    with Proxy(box, quote) as proxy:
        client = provider.through(proxy, box, api_key=SECRET)
        with pytest.raises(llmbackend.AuthenticationError) as caught:
            client.get_response("a")
    error = caught.value
    assert "Wrong key" in str(error)
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(vars(error))


ANSWERS: dict[str, tuple[Any, ...]] = {
    "refusal": (llmbackend.RefusalError, llmbackend.ContentFilterError),
    "content_filter": (llmbackend.RefusalError, llmbackend.ContentFilterError),
    "reasoning_only": (llmbackend.TruncatedError,),
    "null_output": (llmbackend.OutputError,),
}


@pytest.mark.parametrize("schema", [None, {"type": "object", "properties": {"a": {"type": "string"}}}])
@pytest.mark.parametrize("fault", ANSWERS)
def test_replies_without_an_answer(provider: Provider, client: Any, box: Any, fault: str, schema: Any) -> None:
    box.fault(f"{fault}@{provider.call}")
    with pytest.raises(llmbackend.OutputError) as caught:
        client.generate("Hello there", {"max_tokens": 50}, schema)
    error = caught.value
    assert type(error) in ANSWERS[fault], repr(error)
    assert isinstance(error.response, str)
    assert json.loads(error.response)
    assert len(provider.calls(box)) == 1
    if fault == "reasoning_only":
        assert "max_tokens" in str(error)
        assert "reasoning" in str(error) or "thinking" in str(error)
