"""The official anthropic package, unchanged, against the sandbox: what it accepts, what it refuses, in which shapes."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from typing import Any

import pydantic
import pytest

import llmbackend

anthropic = pytest.importorskip("anthropic")

from anthropic.types import Message, MessageTokensCount, ModelInfo  # noqa: E402
from anthropic.types.messages import DeletedMessageBatch, MessageBatch, MessageBatchIndividualResponse  # noqa: E402

OLD, NEW = "2023-06-01", "2026-10-21"
SCHEMA = {"type": "object", "properties": {"t": {"type": "string"}}, "required": ["t"], "additionalProperties": False}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}
TOOL = {"name": "respond", "input_schema": {**SCHEMA, "properties": {"t": {"type": "string", "minLength": 3}}}}
FORCED = {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "respond", "disable_parallel_tool_use": True}}


@pytest.fixture(scope="module")
def server():
    with llmbackend.sandbox(speed=2_000) as box:
        yield box


@pytest.fixture
def box(server):
    yield server
    server.clear_faults()


@pytest.fixture
def client(box):
    with anthropic.Anthropic(**box.options("anthropic"), max_retries=0, timeout=20) as client:
        yield client


def strictly(kind: type[pydantic.BaseModel], content: bytes | str) -> Any:
    """The reply's own bytes, read strictly and without a key that the SDK does not know."""
    value = kind.model_validate_json(content, strict=True)
    unknown = []

    def look(value: Any, path: str) -> None:
        if isinstance(value, pydantic.BaseModel):
            unknown.extend(f"{path}.{key}" for key in value.model_extra or {})
            for name in type(value).model_fields:
                look(getattr(value, name), f"{path}.{name}")
        elif isinstance(value, list):
            for item in value:
                look(item, path)

    look(value, kind.__name__)
    # Packages before 2.0 know less of a model than the API sends.
    is_old = int(anthropic.__version__.split(".")[0]) < 2
    assert unknown == [] or (is_old and kind is ModelInfo)
    return value


def read(kind: type[pydantic.BaseModel], raw: Any) -> Any:
    assert raw.headers["request-id"].startswith("req_")
    return strictly(kind, raw.http_response.content)


def request(prompt: str = "Hello there", **options: Any) -> dict[str, Any]:
    return {"model": "any", "max_tokens": 1000, "messages": [{"role": "user", "content": prompt}], **options}


def ask(client: Any, prompt: str = "Hello there", **options: Any) -> Any:
    """One message, with any options, known to the package or not."""
    version = options.pop("version", None)
    headers = {"anthropic-version": version} if version else None
    reply = client.post(
        "/v1/messages",
        body=request(prompt, **options),
        cast_to=Message,
        options={"headers": headers} if headers else {},
    )
    return strictly(Message, reply.to_json())


def refused(client: Any, words: str, **options: Any) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(client, **options)
    body = caught.value.body
    assert set(body) == {"type", "error", "request_id"} and body["type"] == "error"
    assert set(body["error"]) == {"type", "message"} and body["error"]["type"] == "invalid_request_error"
    assert body["request_id"] == caught.value.request_id
    assert words in body["error"]["message"]


def text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


# Messages


@pytest.mark.parametrize("version", [OLD, NEW])
def test_a_plain_answer_is_an_echo(client, version):
    raw = client.messages.with_raw_response.create(
        model="claude-haiku-4-5",
        max_tokens=100,
        system="Be kind.",
        stop_sequences=["STOP"],
        metadata={"user_id": "u"},
        messages=[{"role": "user", "content": 'Grüße 你好 🦀\n"quoted"'}],
        extra_headers={"anthropic-version": version},
    )
    message = read(Message, raw)
    assert text(message) == 'Grüße 你好 🦀\n"quoted"'
    assert (message.stop_reason, message.stop_sequence, message.model) == ("end_turn", None, "claude-haiku-4-5")
    usage = message.usage
    assert usage.input_tokens > 2 and usage.output_tokens > 2 and usage.service_tier == "standard"
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (0, 0)


def test_the_last_user_text_counts(client):
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": [{"type": "text", "text": "an answer"}]},
        {"role": "user", "content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond"}]},
    ]
    system = [{"type": "text", "text": "Be kind to all.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    message = client.messages.create(model="any", max_tokens=10, messages=messages, system=system)
    assert text(message) == "second"
    assert message.usage.cache_read_input_tokens == 4


def test_stops_and_limits(client):
    message = ask(client, "one STOP two END three", stop_sequences=["END", "STOP"])
    assert (text(message), message.stop_reason, message.stop_sequence) == ("one ", "stop_sequence", "STOP")
    message = ask(client, "x" * 1000, max_tokens=16)
    assert (text(message), message.stop_reason, message.usage.output_tokens) == ("x" * 64, "max_tokens", 16)
    assert ask(client, "STOP", stop_sequences=["STOP"]).content == []


def test_thinking(client):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    message = ask(client, model="claude-haiku-4-5", max_tokens=2000, thinking=thinking)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking and message.content[0].signature
    assert message.usage.output_tokens_details.thinking_tokens == 64 < message.usage.output_tokens
    message = ask(client, model="claude-opus-5-5")
    assert (message.content[0].type, message.content[0].thinking, text(message)) == ("thinking", "", "Hello there")
    message = ask(client, model="claude-opus-5-5", max_tokens=50)
    assert ([block.type for block in message.content], message.stop_reason) == (["thinking"], "max_tokens")
    assert [block.type for block in ask(client, model="claude-sonnet-4-6").content] == ["text"]


class Address(pydantic.BaseModel):
    city: str
    zip: str | None = None


class Person(pydantic.BaseModel):
    name: str
    age: int
    address: Address
    tags: list[str]


def test_parse_gives_the_model(client):
    seen = set()
    for number in range(10):
        parsed = client.messages.parse(**request(f"Prompt {number}", output_format=Person)).parsed_output
        assert isinstance(parsed, Person) and parsed.name == parsed.address.city == f"Prompt {number}"
        seen.add(parsed.age)
    assert len(seen) > 1
    numbers = client.messages.parse(**request("Hi", output_format=list[int])).parsed_output
    assert all(isinstance(number, int) for number in numbers)


def test_structured_outputs(client):
    message = read(Message, client.messages.with_raw_response.create(**request("Hi", output_config=FORMAT)))
    assert text(message) == '{"t":"Hi"}'
    message = ask(client, "Hi", model="claude-opus-5-5", output_config={"effort": "low", **FORMAT})
    assert [block.type for block in message.content] == ["thinking", "text"]


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (closed(x={"type": "integer", "minimum": 1}), "For 'integer' type, property 'minimum' is not supported"),
        (
            closed(x={"type": "array", "items": {"type": "string"}, "minItems": 2}),
            "'minItems' values other than 0 or 1",
        ),
        (closed(x={"type": "array", "maxItems": 2}), "For 'array' type, property 'maxItems' is not supported"),
        (closed(x={"type": "string", "maxLength": 2}), "property 'maxLength'"),
        (closed(x={"type": "object", "additionalProperties": {"type": "string"}}), "'additionalProperties' must be"),
        ({**closed(x={"$ref": "#/$defs/X"}), "$defs": {"X": closed(x={"$ref": "#/$defs/X"})}}, "Circular reference"),
        (closed(x={"oneOf": [{"type": "string"}]}), "Schema must have a 'type'"),
        ({**closed(**{f"p{n}": {"type": "string"} for n in range(25)}), "required": []}, "optional parameters (25)"),
        (closed(**{f"p{n}": {"type": ["string", "null"]} for n in range(17)}), "union types (17 parameters"),
    ],
)
def test_schema_rules(client, schema, words):
    refused(client, words, output_config={"format": {"type": "json_schema", "schema": schema}})
    tool = {"name": "x", "input_schema": schema, "strict": True}
    refused(client, words, tools=[tool])
    del tool["strict"]
    assert text(ask(client, tools=[tool])) == "Hello there"


def test_limits_count_all_schemas(client):
    def half(*names: str) -> dict[str, Any]:
        return {**closed(**{name: {"type": "string"} for name in names}), "required": []}

    tools = [{"name": "x", "strict": True, "input_schema": half(*"abcdefghijklm")}]
    form = {"format": {"type": "json_schema", "schema": half(*"abcdefghijklm")}}
    refused(client, "optional parameters (26)", tools=tools, output_config=form)
    assert ask(client, tools=tools).content


def test_tools(client):
    message = ask(client, "Hi!", **FORCED)
    (block,) = message.content
    assert (message.stop_reason, block.type, block.name, block.input) == (
        "tool_use",
        "tool_use",
        "respond",
        {"t": "Hi!"},
    )
    assert ask(client, tools=[TOOL], tool_choice={"type": "any"}).stop_reason == "tool_use"
    assert ask(client, tools=[TOOL], tool_choice={"type": "auto"}).stop_reason == "end_turn"
    cut = ask(client, "x" * 100, max_tokens=5, **FORCED)
    assert (cut.stop_reason, cut.content[0].input) == ("max_tokens", {})
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block.id, "content": "seen"}]}
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [block.model_dump()]}, result]
    assert text(ask(client, tools=[TOOL], messages=turns)) == "seen"


REFUSALS: list[tuple[dict[str, Any], str]] = [
    (
        {"model": "claude-opus-5", "thinking": {"type": "disabled"}, "output_config": {"effort": "max"}},
        "not supported at this effort",
    ),
    ({"seed": 1}, "seed: Extra inputs are not permitted"),
    ({"response_format": {}}, "response_format: Extra inputs are not permitted"),
    ({"output_config": {"formt": {}}}, "output_config.formt: Extra inputs are not permitted"),
    (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA, "name": "x"}}},
        "output_config.format.name: Extra inputs are not permitted",
    ),
    ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema: Field required"),
    ({"output_config": {"effort": "huge"}}, "output_config.effort: Input should be 'low', "),
    ({"metadata": {"user": "x"}}, "metadata.user: Extra inputs are not permitted"),
    ({"messages": [{"role": "user", "content": "x", "name": "y"}]}, "messages.0.name: Extra inputs are not permitted"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "id": 1}]}]},
        "messages.0.content.0.id: Extra inputs are not permitted",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]},
        "Input tag 'input_text' found",
    ),
    (
        {"messages": [{"role": "tool", "content": "x"}]},
        "messages.0.role: Input should be 'user', 'assistant' or 'system'",
    ),
    ({"messages": []}, "at least one message is required"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    ({"messages": [{"role": "user", "content": ""}]}, "text content blocks must be non-empty"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": " \n"}]}]},
        "must contain non-whitespace text",
    ),
    ({"system": [{"type": "text", "text": ""}]}, "text content blocks must be non-empty"),
    ({"system": None}, "system: Input should be"),
    ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
    ({"max_tokens": 1.5}, "max_tokens: Input should be a valid integer"),
    ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
    (
        {"model": "claude-haiku-4-5", "max_tokens": 64_001},
        "64001 > 64000, which is the maximum allowed number of output",
    ),
    ({"model": ""}, "model: String should have at least 1 character"),
    ({"temperature": 1.1}, "temperature: Input should be less than or equal to 1"),
    ({"temperature": None}, "temperature: Input should be a valid number"),
    ({"top_p": -0.1}, "top_p: Input should be greater than or equal to 0"),
    ({"top_k": "many"}, "top_k: Input should be a valid integer"),
    ({"model": "claude-opus-4-7", "temperature": 0.5}, "`temperature` is deprecated for this model."),
    ({"model": "claude-sonnet-4-5", "temperature": 0.5, "top_p": 0.5}, "cannot both be specified for this model"),
    ({"stop_sequences": "x"}, "stop_sequences: Input should be a valid list"),
    ({"stop_sequences": [""]}, "each stop sequence must be non-empty"),
    ({"stop_sequences": ["\n\n"]}, "stop_sequences: each stop sequence must contain non-whitespace"),
    ({"stream": True}, "stream: the sandbox does not stream yet"),
    ({"service_tier": "flex"}, "service_tier: Input should be 'auto' or 'standard_only'"),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 1000}},
        "budget_tokens: Input should be greater than or equal to 1024",
    ),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "`max_tokens` must be greater than"),
    ({"thinking": {"type": "adaptive", "budget_tokens": 1024}}, "budget_tokens: Extra inputs are not permitted"),
    ({"thinking": {"type": "on"}}, "Input tag 'on' found"),
    ({"thinking": {"type": "adaptive"}, "temperature": 0}, "`temperature` may only be set to 1"),
    ({"thinking": {"type": "disabled"}, "model": "claude-opus-5-5"}, '"disabled" is not supported for this model'),
    ({"model": "claude-opus-5-5", **FORCED}, 'tool_choice: type "tool" and "any" are not supported for this model.'),
    (
        {**FORCED, "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000},
        "Thinking may not be enabled",
    ),
    ({"tool_choice": {"type": "any"}}, "tool_choice may only be specified while providing tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "x"}}, "Tool 'x' not found in provided tools"),
    ({"tools": [TOOL], "tool_choice": {"type": "required"}}, "Input tag 'required' found"),
    ({"tools": [TOOL, TOOL]}, "Tool names must be unique"),
    ({"tools": [{**TOOL, "name": "a b"}]}, "tools.0.custom.name: String should match pattern"),
    ({"tools": [{"name": "x"}]}, "tools.0.custom.input_schema: Field required"),
    ({"tools": [{**TOOL, "function": {}}]}, "tools.0.custom.function: Extra inputs are not permitted"),
    (
        {
            "model": "claude-sonnet-4-6",
            "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        },
        "does not support assistant message prefill",
    ),
    ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y "}]}, "trailing whitespace"),
]


@pytest.mark.parametrize(("body", "words"), REFUSALS)
def test_refusals(client, body, words):
    refused(client, words, version=OLD, **body)


def test_missing_fields(client):
    for key in ("model", "max_tokens", "messages"):
        body = {name: value for name, value in request().items() if name != key}
        with pytest.raises(anthropic.BadRequestError, match=f"{key}: Field required"):
            client.post("/v1/messages", body=body, cast_to=object)


def test_versions(client, box):
    for key in ("temperature", "top_p", "top_k"):
        refused(client, f"{key}: Extra inputs are not permitted", version=NEW, **{key: 1})
        assert text(ask(client, version=OLD, **{key: 1})) == "Hello there"
    refused(client, "not a valid version", version="2023-01-01")
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [document]},
        {"role": "user", "content": "y"},
    ]
    assert text(ask(client, version=OLD, messages=turns)) == "y"
    refused(client, "document", version=NEW, messages=turns)
    url = box.url("anthropic") + "/v1/models"
    for headers, status, kind in [
        ({"anthropic-version": OLD}, 401, "authentication_error"),
        ({"x-api-key": "k"}, 400, "invalid_request_error"),
        ({"authorization": "Bearer k", "anthropic-version": NEW}, 200, None),
        ({"x-api-key": "k", "anthropic-version": OLD}, 200, None),
    ]:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as reply:
                found, body = reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                found, body = error.code, json.load(error)
        assert (found, body.get("error", {}).get("type")) == (status, kind)


def test_count_tokens(client):
    options = {key: value for key, value in request().items() if key != "max_tokens"}
    raw = client.messages.with_raw_response.count_tokens(**options, system="Be kind.", output_config=FORMAT)
    assert read(MessageTokensCount, raw).input_tokens == ask(client, system="Be kind.").usage.input_tokens
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Extra inputs are not permitted"):
        client.post("/v1/messages/count_tokens", body=request(), cast_to=object)


def test_models(client):
    names = [model.id for model in client.models.list(limit=3)]
    assert len(names) == len(set(names)) > 3
    assert [model.id for model in client.models.list(limit=3, before_id=names[-1])] == names[-4:-1] + names[
        1:-4
    ] + names[:1]
    raw = client.models.with_raw_response.retrieve("claude-opus-5-5")
    read(ModelInfo, raw)
    can = raw.http_response.json()["capabilities"]
    assert can["structured_outputs"]["supported"] and not can["thinking"]["types"]["disabled"]["supported"]
    with pytest.raises(anthropic.NotFoundError, match="model: claude-none"):
        client.models.retrieve("claude-none")


# Batches


def rows(count: int, **options: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"r{n}", "params": request(f"Prompt {n}", **options)} for n in range(count)]


def create(client: Any, count: int = 10, **options: Any) -> Any:
    return client.messages.batches.create(requests=rows(count, **options))


def look(client: Any, batch: Any) -> Any:
    return read(MessageBatch, client.messages.batches.with_raw_response.retrieve(batch.id))


def finish(client: Any, batch: Any) -> Any:
    end = time.monotonic() + 20
    while batch.processing_status != "ended":
        counts = batch.request_counts
        assert counts.processing > 0 == counts.succeeded + counts.errored + counts.canceled + counts.expired
        assert (batch.results_url, batch.ended_at) == (None, None)
        assert time.monotonic() < end, batch
        time.sleep(0.005)
        batch = look(client, batch)
    return batch


def counts(batch: Any) -> tuple[int, int, int, int]:
    found = batch.request_counts
    assert found.processing == 0
    return found.succeeded, found.errored, found.canceled, found.expired


def fetch(client: Any, batch: Any) -> bytes:
    headers = {"x-api-key": "k", "anthropic-version": OLD}
    url = f"{str(client.base_url).rstrip('/')}/v1/messages/batches/{batch.id}/results"
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as reply:
        return reply.read()


def lines(client: Any, batch: Any) -> list[Any]:
    content = fetch(client, batch)
    return [strictly(MessageBatchIndividualResponse, line) for line in content.split(b"\n") if line]


def results(client: Any, batch: Any) -> dict[str, Any]:
    found = lines(client, batch)
    assert len({line.custom_id for line in found}) == len(found)
    return {line.custom_id: line.result for line in found}


def test_a_batch_to_its_end(client, box):
    requests = rows(50)
    requests[7]["params"]["seed"] = 1
    requests[8]["params"]["max_tokens"] = 0
    requests[9]["params"]["stream"] = True
    raw = client.messages.batches.with_raw_response.create(requests=requests)
    batch = read(MessageBatch, raw)
    assert (batch.processing_status, batch.request_counts.processing) == ("in_progress", 50)
    with pytest.raises(anthropic.NotFoundError, match="no results yet"):
        client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object)
    with pytest.raises(anthropic.BadRequestError, match="cannot be deleted"):
        client.messages.batches.delete(batch.id)
    batch = finish(client, batch)
    assert counts(batch) == (47, 3, 0, 0)
    assert batch.created_at < batch.ended_at < batch.expires_at
    assert (batch.cancel_initiated_at, batch.archived_at) == (None, None)
    assert batch.results_url == f"{box.url('anthropic')}/v1/messages/batches/{batch.id}/results"
    found = {line.custom_id: line.result for line in client.messages.batches.results(batch.id)}
    assert found == results(client, batch)
    assert set(found) == {row["custom_id"] for row in requests} and list(found) != [f"r{n}" for n in range(50)]
    for number in range(50):
        result = found[f"r{number}"]
        if number in (7, 8, 9):
            assert (result.type, result.error.type, result.error.error.type) == (
                "errored",
                "error",
                "invalid_request_error",
            )
        else:
            assert (result.type, text(result.message)) == ("succeeded", f"Prompt {number}")
            assert result.message.usage.service_tier == "batch"
    assert found["r7"].error.error.message == "seed: Extra inputs are not permitted"
    gone = read(DeletedMessageBatch, client.messages.batches.with_raw_response.delete(batch.id))
    assert gone.id == batch.id
    for call in (client.messages.batches.retrieve, client.messages.batches.delete, client.messages.batches.cancel):
        with pytest.raises(anthropic.NotFoundError):
            call(batch.id)


def test_structured_rows(client):
    found = results(client, finish(client, create(client, output_config=FORMAT)))
    assert all(text(found[f"r{n}"].message) == f'{{"t":"Prompt {n}"}}' for n in range(10))
    found = results(client, finish(client, create(client, **FORCED)))
    assert all(found[f"r{n}"].message.content[0].input == {"t": f"Prompt {n}"} for n in range(10))


def test_the_create_calls_version_governs_all(client):
    hot = rows(1, temperature=0.5)
    for version, expected in [(OLD, "succeeded"), (NEW, "errored")]:
        batch = client.messages.batches.create(requests=hot, extra_headers={"anthropic-version": version})
        assert results(client, finish(client, batch))["r0"].type == expected


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "requests: Field required"),
        ({"requests": []}, "requests: List should have at least 1 item"),
        ({"requests": rows(1), "metadata": {}}, "metadata: Extra inputs are not permitted"),
        ({"requests": [{"params": {}}]}, "requests.0.custom_id: Field required"),
        ({"requests": [*rows(1), {"custom_id": "a"}]}, "requests.1.params: Field required"),
        ({"requests": [{"custom_id": "a", "params": []}]}, "requests.0.params: Input should be a valid dictionary"),
        (
            {"requests": [{"custom_id": "a" * 65, "params": {}}]},
            "requests.0.custom_id: String should have at most 64 characters",
        ),
        ({"requests": [{"custom_id": "a b", "params": {}}]}, "requests.0.custom_id: String should match pattern"),
        (
            {"requests": [{"custom_id": "", "params": {}}]},
            "requests.0.custom_id: String should have at least 1 character",
        ),
        ({"requests": [{"custom_id": 1, "params": {}}]}, "requests.0.custom_id: Input should be a valid string"),
        (
            {"requests": [{"custom_id": "a", "params": {}, "url": "/"}]},
            "requests.0.url: Extra inputs are not permitted",
        ),
        ({"requests": [*rows(2), *rows(1)]}, "requests.2.custom_id: custom_id 'r0' is not unique"),
        ({"requests": ["x"]}, "requests.0: Input should be a valid dictionary"),
        ({"requests": 5}, "not valid"),
    ],
)
def test_refused_batches(client, body, words):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.post("/v1/messages/batches", body=body, cast_to=object)
    assert words in caught.value.body["error"]["message"]


def post(client: Any, body: bytes) -> Any:
    return client.post(
        "/v1/messages/batches",
        content=body,
        cast_to=MessageBatch,
        options={"headers": {"content-type": "application/json"}},
    )


def many(count: int) -> bytes:
    params = '{"model":"any","max_tokens":9,"messages":[{"role":"user","content":"P%d"}]}'
    items = ",".join(f'{{"custom_id":"{n}","params":{params % n}}}' for n in range(count))
    return f'{{"requests":[{items}]}}'.encode()


def test_limits_of_a_batch(client):
    with pytest.raises(anthropic.BadRequestError, match="at most 100000 items"):
        post(client, many(100_001))
    batch = finish(client, post(client, many(20_000)))
    assert counts(batch) == (20_000, 0, 0, 0)
    seen = {}
    for line in fetch(client, batch).split(b"\n")[:-1]:
        row = json.loads(line)
        seen[row["custom_id"]] = row["result"]["message"]["content"][0]["text"]
    assert seen == {str(n): f"P{n}" for n in range(20_000)}
    padding = b'{"requests":[' + b" " * 256_000_000 + b"]}"
    with pytest.raises(anthropic.APIStatusError) as caught:
        post(client, padding)
    assert (caught.value.status_code, caught.value.body["error"]["type"]) == (413, "request_too_large")
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(client, "x" * 33_600_000)
    assert caught.value.status_code == 413


def test_cancel():
    # Slow enough that the job still runs when it is cancelled, however busy the machine is.
    with (
        llmbackend.sandbox(speed=60) as slow,
        anthropic.Anthropic(**slow.options("anthropic"), max_retries=0, timeout=20) as client,
    ):
        batch = create(client, 40)
        time.sleep(0.01)
        raw = client.messages.batches.with_raw_response.cancel(batch.id)
        batch = read(MessageBatch, raw)
        assert batch.processing_status == "canceling" and batch.cancel_initiated_at
        assert client.messages.batches.cancel(batch.id).cancel_initiated_at == batch.cancel_initiated_at
        batch = finish(client, batch)
        succeeded, errored, canceled, expired = counts(batch)
        assert succeeded + canceled == 40 and canceled > 0 == errored == expired
        found = results(client, batch)
        assert sum(result.type == "canceled" for result in found.values()) == canceled
        with pytest.raises(anthropic.BadRequestError, match="already ended"):
            client.messages.batches.cancel(batch.id)


def test_lists(client):
    made = [create(client, 1).id for _ in range(5)]
    newest = []
    for batch in client.messages.batches.list(limit=2):
        newest.append(batch.id)
    assert newest[:5] == made[::-1] and len(newest) == len(set(newest))
    page = client.messages.batches.list(limit=2)
    assert page.has_more and (page.first_id, page.last_id) == (made[4], made[3])
    page = client.messages.batches.list(limit=2, before_id=made[1])
    assert [batch.id for batch in page.data] == [made[3], made[2]] and page.has_more
    assert [batch.id for batch in page] == [made[3], made[2], made[4]]
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        client.messages.batches.list(limit=1001)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.list(after_id="msgbatch_none")


# Faults of requests


@pytest.mark.parametrize(
    ("fault", "error", "status", "kind"),
    [
        ("rate_limit", "RateLimitError", 429, "rate_limit_error"),
        ("spend_limit", "RateLimitError", 429, "rate_limit_error"),
        ("quota", "PaymentRequiredError", 402, "billing_error"),
        ("server_error", "InternalServerError", 500, "api_error"),
        ("overloaded", "OverloadedError", 529, "overloaded_error"),
        ("gateway_timeout", "GatewayTimeoutError", 504, "timeout_error"),
        ("auth", "AuthenticationError", 401, "authentication_error"),
        ("forbidden", "PermissionDeniedError", 403, "permission_error"),
        ("model_not_found", "NotFoundError", 404, "not_found_error"),
        ("conflict", "ConflictError", 409, "conflict_error"),
        ("request_timeout", "RequestTimeoutError", 408, "timeout_error"),
    ],
)
def test_error_replies(box, client, fault, error, status, kind):
    box.fault(f"{fault}:1")
    with pytest.raises(getattr(anthropic, error, anthropic.APIStatusError)) as caught:
        ask(client)
    body = caught.value.body
    assert (caught.value.status_code, body["error"]["type"], body["request_id"]) == (
        status,
        kind,
        caught.value.request_id,
    )
    assert (caught.value.response.headers.get("retry-after") == "1") == (fault == "rate_limit")
    code = {"error_code": "enforced_spend_limit_reached"} if fault == "spend_limit" else None
    assert body["error"].get("details") == code
    assert text(ask(client)) == "Hello there"


def test_bodies_and_connections(box, client):
    for fault in ("kill_connection:1", "lost_reply:1", "cut_body:1"):
        box.fault(fault)
        with pytest.raises(anthropic.APIConnectionError):
            ask(client)
    box.fault("stall:1")
    with pytest.raises(anthropic.APITimeoutError):
        client.with_options(timeout=0.2).models.list()
    for fault, start in [("html_body:1", b"<!DOCTYPE"), ("empty_body:1", b"")]:
        box.fault(fault)
        raw = client.messages.with_raw_response.create(**request())
        assert raw.http_response.content.startswith(start)
    before = len(list(client.messages.batches.list(limit=1000)))
    box.fault("lost_reply:1@POST /v1/messages/batches")
    with pytest.raises(anthropic.APIConnectionError):
        create(client, 1)
    assert len(list(client.messages.batches.list(limit=1000))) == before + 1


# Faults of jobs


def test_jobs_that_cannot_be_seen_yet(box, client):
    box.fault("not_found_after_create:2")
    box.fault("late_list:1")
    batch = create(client, 1)
    for _ in range(2):
        with pytest.raises(anthropic.NotFoundError):
            client.messages.batches.retrieve(batch.id)
    assert client.messages.batches.retrieve(batch.id).id == batch.id
    assert [batch.id in [found.id for found in client.messages.batches.list().data] for _ in "ab"] == [False, True]


@pytest.mark.parametrize(("fault", "fate"), [("expire_half", "expired"), ("cancel_half", "canceled")])
def test_half_a_job(box, client, fault, fate):
    box.fault(fault)
    batch = finish(client, create(client))
    assert counts(batch) == ((5, 0, 0, 5) if fate == "expired" else (5, 0, 5, 0))
    assert bool(batch.cancel_initiated_at) == (fate == "canceled")
    found = results(client, batch)
    assert sorted(result.type for result in found.values()) == sorted(["succeeded", fate] * 5)


def test_drop_and_duplicate_line(box, client):
    box.fault("drop_line:1")
    batch = finish(client, create(client))
    assert counts(batch) == (10, 0, 0, 0)
    assert set(results(client, batch)) == {f"r{n}" for n in range(10)} - {"r5"}
    box.fault("duplicate_line:1")
    found = [line.custom_id for line in lines(client, finish(client, create(client)))]
    assert sorted(found) == sorted([*(f"r{n}" for n in range(10)), "r5"])


def test_odd_files(box, client):
    box.fault("line_separator:1")
    raw = fetch(client, finish(client, create(client)))
    assert raw.count("\u2028".encode()) == raw.count("\u0085".encode()) == 10
    assert len(raw.decode().splitlines()) > len(raw.rstrip(b"\n").split(b"\n")) == 10
    box.fault("no_final_newline:1")
    raw = fetch(client, finish(client, create(client)))
    assert raw.endswith(b"}") and len(raw.split(b"\n")) == 10
    box.fault("lying_counts:1")
    batch = finish(client, create(client))
    assert counts(batch) == (0, 11, 0, 0) and len(lines(client, batch)) == 10


@pytest.mark.parametrize(
    ("fault", "errored", "kind"),
    [
        ("fail_lines", 3, "invalid_request_error"),
        ("failed_only", 10, "invalid_request_error"),
        ("fail_job", 10, "api_error"),
    ],
)
def test_failing_lines(box, client, fault, errored, kind):
    box.fault(f"{fault}:1")
    batch = finish(client, create(client))
    assert counts(batch) == (10 - errored, errored, 0, 0)
    failed = {name: result for name, result in results(client, batch).items() if result.type == "errored"}
    assert {result.error.error.type for result in failed.values()} == {kind}
    assert errored == 10 or set(failed) == {"r2", "r5", "r8"}


def test_refuse_and_truncate_lines(box, client):
    box.fault("refuse_lines:1")
    found = results(client, finish(client, create(client)))
    assert [found[f"r{n}"].message.stop_reason for n in range(3)] == ["end_turn", "end_turn", "refusal"]
    box.fault("truncate_lines:1")
    found = results(client, finish(client, create(client)))
    assert [found[f"r{n}"].message.stop_reason for n in range(3)] == ["end_turn", "end_turn", "max_tokens"]


def test_archived_results(box, client):
    box.fault("archived:1")
    batch = finish(client, create(client))
    assert (batch.archived_at, batch.results_url) == (batch.ended_at, None)
    with pytest.raises(anthropic.NotFoundError):
        client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=object)


def test_foreign_results_url(box, client):
    box.fault("foreign_results_url:1")
    batch = finish(client, create(client))
    assert batch.results_url.startswith("http://results.invalid/")
    assert len(lines(client, batch)) == 10


def test_answer_faults_reach_every_line_of_a_job(box, client):
    box.fault("pause_turn:1@POST /v1/messages/batches")
    found = results(client, finish(client, create(client)))
    assert {result.message.stop_reason for result in found.values()} == {"pause_turn"}
    box.fault("no_output_config:1@POST /v1/messages/batches")
    found = results(client, finish(client, create(client, output_config=FORMAT)))
    assert {result.error.error.message for result in found.values()} == {
        "output_config: Extra inputs are not permitted"
    }


# Faults of answers


def test_refusal(box, client):
    box.fault("refusal:1")
    message = ask(client, output_config=FORMAT)
    assert (message.stop_reason, message.content, message.stop_details.category) == ("refusal", [], "cyber")
    assert "Declined" in message.stop_details.explanation
    box.fault("content_filter:1")
    message = ask(client)
    assert (message.stop_reason, text(message), message.stop_details.category) == ("refusal", "Hello", None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("truncated", "max_tokens"), ("context_window", "model_context_window_exceeded"), ("pause_turn", "pause_turn")],
)
def test_half_an_answer(box, client, fault, reason):
    box.fault(fault)
    message = ask(client)
    assert (message.stop_reason, text(message)) == (reason, "Hello")
    assert ask(client, **FORCED).stop_reason == reason


def test_odd_answers(box, client):
    box.fault("reasoning_only:1")
    message = ask(client, max_tokens=40)
    assert ([block.type for block in message.content], message.stop_reason) == (["thinking"], "max_tokens")
    assert message.usage.output_tokens == message.usage.output_tokens_details.thinking_tokens == 40
    box.fault("null_output:1")
    assert (ask(client).content, ask(client).stop_reason) == ([], "end_turn")
    box.fault("split_text:1")
    assert [block.text for block in ask(client).content] == ["Hello", " there"]
    box.fault("failed_200:1")
    raw = client.messages.with_raw_response.create(**request())
    assert (raw.http_response.status_code, raw.http_response.json()["type"]) == (200, "error")


def test_invalid_and_unfit_json(box, client):
    box.fault("invalid_json:1")
    with pytest.raises(json.JSONDecodeError):
        json.loads(text(ask(client, output_config=FORMAT)))
    box.fault("unfit_json:2")
    assert json.loads(text(ask(client, output_config=FORMAT))) == {"unexpected": "Hello there"}
    assert ask(client, **FORCED).content[0].input == {"unexpected": "Hello there"}
    assert json.loads(text(ask(client, output_config=FORMAT))) == {"t": "Hello there"}


def test_a_server_without_structured_outputs(box, client):
    box.fault("no_output_config")
    assert text(ask(client)) == "Hello there"
    refused(client, "output_config: Extra inputs are not permitted", output_config=FORMAT)
    assert ask(client, **FORCED).content[0].input == {"t": "Hello there"}


# The server


def test_unknown_routes(client, box):
    for method, path, status in [
        ("GET", "/v1/v1/messages", 404),
        ("GET", "/v1/messages", 405),
        ("PUT", "/v1/messages/batches", 405),
        ("POST", "/v1/complete", 404),
    ]:
        with pytest.raises(anthropic.APIStatusError) as caught:
            getattr(client, method.lower())(path, cast_to=object)
        assert (caught.value.status_code, caught.value.body["type"]) == (status, "error")
    assert box.requests()[-1] == ("POST", "/api.anthropic.com/v1/complete", 404)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/api\.anthropic\.com", box.url("anthropic"))


def test_the_environment_is_enough(box, monkeypatch):
    for name, value in box.environment().items():
        monkeypatch.setenv(name, value)
    with anthropic.Anthropic() as client:
        assert text(ask(client)) == "Hello there"
