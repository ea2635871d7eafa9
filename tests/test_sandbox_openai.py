"""The official openai package, unchanged, against the sandbox: what it accepts, what it refuses, in which shapes."""

from __future__ import annotations

import datetime
import enum
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Literal

import pydantic
import pytest

import llmbackend

openai = pytest.importorskip("openai")

from openai.types import Batch, FileDeleted, FileObject, Model  # noqa: E402
from openai.types.responses import Response  # noqa: E402

ENDPOINT = "/v1/responses"


@pytest.fixture(scope="module")
def box():
    with llmbackend.sandbox() as box:
        yield box


@pytest.fixture(scope="module")
def client(box):
    with openai.OpenAI(**box.options("openai"), max_retries=0, timeout=20) as client:
        yield client


def strictly(kind: type[pydantic.BaseModel], raw: Any) -> Any:
    """The reply's own bytes, read strictly and without a key that the SDK does not know."""
    value = kind.model_validate_json(raw.http_response.content, strict=True)
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
    # OpenAI sends "store"; its package has no field for it.
    assert set(unknown) <= {"Response.store"}
    return value


def line(custom_id: str, prompt: str, **body: Any) -> dict[str, Any]:
    body = {"model": "gpt-4o-mini", "input": prompt, **body}
    return {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}


def upload(client: Any, lines: list[Any], purpose: str = "batch", name: str = "rows.jsonl") -> Any:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in lines)
    return client.files.create(file=(name, text.encode()), purpose=purpose)


def submit(client: Any, lines: list[Any], **options: Any) -> Any:
    file = upload(client, lines)
    return client.batches.create(completion_window="24h", endpoint=ENDPOINT, input_file_id=file.id, **options)


def wait(client: Any, batch: Any) -> Any:
    end = time.monotonic() + 20
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < end, batch
        time.sleep(0.01)
        batch = client.batches.retrieve(batch.id)
    return batch


def read(client: Any, file_id: str) -> dict[str, Any]:
    lines = client.files.content(file_id).content.split(b"\n")
    assert lines.pop() == b""
    rows = [json.loads(text) for text in lines]
    return {row["custom_id"]: row for row in rows}


# Responses


def test_a_plain_answer_is_an_echo(client):
    raw = client.responses.with_raw_response.create(
        model="gpt-4o-mini",
        input='Grüße 你好 🦀\n"quoted"',
        instructions="Be kind.",
        temperature=0,
        top_p=1,
        max_output_tokens=100,
        metadata={"a": "b"},
    )
    response = strictly(Response, raw)
    assert response.output_text == 'Grüße 你好 🦀\n"quoted"'
    assert (response.status, response.model, response.instructions) == ("completed", "gpt-4o-mini", "Be kind.")
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    assert raw.headers["x-request-id"].startswith("req_")
    assert client.responses.retrieve(response.id).output_text == response.output_text
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_the_last_user_text_counts(client):
    messages = [
        {"role": "developer", "content": "Answer briefly."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "an answer"},
        {"role": "user", "content": [{"type": "input_text", "text": "sec"}, {"type": "input_text", "text": "ond"}]},
    ]
    assert client.responses.create(model="any", input=messages).output_text == "second"


def test_max_output_tokens_cuts(client):
    raw = client.responses.with_raw_response.create(model="any", input="x" * 1000, max_output_tokens=16)
    response = strictly(Response, raw)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.output_text == "x" * 64
    assert response.usage.output_tokens == 16


def test_a_thinking_model(client):
    raw = client.responses.with_raw_response.create(model="o4-mini", input="Hi", reasoning={"effort": "low"})
    response = strictly(Response, raw)
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.usage.output_tokens_details.reasoning_tokens == 64
    short = client.responses.create(model="o4-mini", input="Hi", max_output_tokens=32)
    assert (short.status, short.output_text) == ("incomplete", "")
    with pytest.raises(openai.BadRequestError, match="not supported with this model"):
        client.responses.create(model="gpt-5-mini", input="Hi", temperature=0.5)
    assert client.responses.create(model="gpt-5.1", input="Hi", temperature=0.5).output_text == "Hi"


class Mood(str, enum.Enum):
    glad = "glad"
    sad = "sad"


class Address(pydantic.BaseModel):
    city: str
    zip: str = pydantic.Field(pattern=r"^\d{5}$")


class Tree(pydantic.BaseModel):
    name: str
    children: list[Tree]
    parent: Tree | None = None


class Person(pydantic.BaseModel):
    name: str
    mood: Mood
    kind: Literal["a", "b"]
    age: int = pydantic.Field(ge=18, le=99)
    score: float = pydantic.Field(gt=0, lt=1)
    born: datetime.date
    home: Address | None = None
    addresses: list[Address] = pydantic.Field(min_length=2, max_length=3)
    tags: list[str] | None
    level: int = 5
    either: int | str | None


@pytest.mark.parametrize("kind", [Person, Tree, Address])
def test_parse_gives_the_model(client, kind):
    seen = set()
    for number in range(20):
        response = client.responses.parse(model="gpt-4o-mini", input=f"Prompt {number}", text_format=kind)
        value = response.output_parsed
        assert isinstance(value, kind)
        assert f"Prompt {number}" in (getattr(value, "name", None), getattr(value, "city", None))
        seen.add(value.model_dump_json(exclude={"name", "city"}))
    assert len(seen) > 1
    again = client.responses.parse(model="gpt-4o-mini", input="Prompt 19", text_format=kind)
    assert again.output_parsed == value


def test_a_schema_is_repeated_in_the_reply(client):
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}},
              "required": ["a", "b"], "additionalProperties": False}  # fmt: skip
    text = {"format": {"type": "json_schema", "strict": True, "name": "Ab", "schema": schema}, "verbosity": "low"}
    raw = client.responses.with_raw_response.create(model="any", input="Hi", text=text)
    response = strictly(Response, raw)
    assert response.output_text == '{"b":"Hi","a":"Hi"}'
    assert response.text.format.schema_ == schema


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "items": {"type": "string"}}, "got 'type: \"array\"'"),
        ({"anyOf": [closed()]}, "got 'type: \"None\"'"),
        ({**closed(x={"type": "string"}), "required": []}, "Missing 'x'"),
        ({"type": "object", "properties": {}, "required": []}, "'additionalProperties' is required"),
        (closed(x={"type": "object", "additionalProperties": {"type": "string"}}), "context=('properties', 'x')"),
        (closed(x={"oneOf": [{"type": "string"}]}), "'oneOf' is not permitted"),
        (closed(x={"type": "string", "format": "uri"}), "'uri' is not a valid format"),
        (
            {**closed(x={"$ref": "#/$defs/X", "description": "d"}), "$defs": {"X": closed()}},
            "$ref cannot have keywords",
        ),
    ],
)
def test_strict_schema_rules(client, schema, words):
    form = {"type": "json_schema", "strict": True, "name": "X", "schema": schema}
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="any", input="Hi", text={"format": form})
    assert words in caught.value.body["message"]
    assert caught.value.body["message"].startswith("Invalid schema for response_format 'X': ")
    assert caught.value.param == "text.format.schema"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"stop": ["x"]}, "unknown_parameter", "Unknown parameter: 'stop'. Did you mean 'store'?"),
        ({"seed": 1}, "unknown_parameter", "Unknown parameter: 'seed'."),
        ({"messages": []}, "unsupported_parameter", "has moved to 'input'"),
        ({"max_output_tokens": 5}, "integer_below_min_value", "Expected a value >= 16, but got 5 instead"),
        ({"max_output_tokens": "9"}, "invalid_type", "expected an integer, but got a string"),
        ({"max_output_tokens": 20.5}, "invalid_type", "got a decimal number"),
        ({"temperature": 3}, "decimal_above_max_value", "Expected a value <= 2"),
        ({"top_p": -1}, "decimal_below_min_value", "Expected a value >= 0"),
        ({"model": None}, "invalid_type", "'model'"),
        ({"input": 5}, "invalid_type", "'input'"),
        ({"input": []}, "empty_array", "empty array"),
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_value", "'tool'"),
        ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "text"}]}]}, "invalid_value", "'input_text'"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata.a"),
        ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties", "at most 16"),
        ({"text": {"format": {"type": "json_object"}}}, None, "the word 'json'"),
        ({"text": {"format": {"type": "xml"}}}, "invalid_value", "'json_schema'"),
        ({"text": {"formt": {}}}, "unknown_parameter", "Did you mean 'text.format'?"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "missing_required_parameter", "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "schema": {}, "name": "a b"}}}, "invalid_value", "pattern"),
        ({"text": {"format": {"type": "json_schema", "schema": {}, "name": "a" * 65}}}, "string_above_max_length", ""),
        ({"stream": True}, "unsupported_parameter", "does not stream yet"),
    ],
)  # fmt: skip
def test_refusals(client, body, code, words):
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/responses", body={"model": "any", "input": "Hi", **body}, cast_to=object)
    error = caught.value.body
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert words in error["message"]


def test_missing_model(client):
    with pytest.raises(openai.BadRequestError, match="Missing required parameter: 'model'"):
        client.post("/responses", body={"input": "Hi"}, cast_to=object)


# Files


def test_files(client):
    content = ("Zeile \u2028 eins\r\n--boundary\r\n" * 50_000).encode()
    raw = client.files.with_raw_response.create(file=("a b.txt", content), purpose="user_data")
    file = strictly(FileObject, raw)
    assert (file.bytes, file.filename, file.purpose) == (len(content), "a b.txt", "user_data")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).content == content
    part = client.files.content(file.id, extra_headers={"Range": "bytes=10-19"})
    assert (part.response.status_code, part.content) == (206, content[10:20])
    assert part.response.headers["content-range"] == f"bytes 10-19/{len(content)}"
    with pytest.raises(openai.APIStatusError) as caught:
        client.files.content(file.id, extra_headers={"Range": f"bytes={len(content)}-"})
    assert caught.value.status_code == 416
    assert strictly(FileDeleted, client.files.with_raw_response.delete(file.id)).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="No such File object"):
            call(file.id)


def test_file_lists(client):
    made = [upload(client, [f"row {number}"], purpose="evals").id for number in range(5)]
    newest = [file.id for file in client.files.list(purpose="evals", limit=2)]
    assert newest == made[::-1]
    assert [file.id for file in client.files.list(purpose="evals", limit=2, order="asc")] == made
    page = client.files.list(purpose="evals", limit=2)
    assert page.has_more and [file.id for file in page.data] == made[:2:-1]
    assert all(file.purpose != "evals" for file in client.files.list(purpose="batch"))
    with pytest.raises(openai.BadRequestError, match="limit"):
        client.files.list(limit=10_001)


def test_file_rules(client):
    with pytest.raises(openai.BadRequestError, match="Must be .jsonl"):
        upload(client, ["x"], name="rows.txt")
    with pytest.raises(openai.BadRequestError, match="File is empty"):
        upload(client, [])
    with pytest.raises(openai.BadRequestError, match="Supported values"):
        upload(client, ["x"], purpose="fun")
    with pytest.raises(openai.BadRequestError, match=">= 3600"):
        client.files.create(
            file=("a.jsonl", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 1}
        )
    file = client.files.create(
        file=("a.jsonl", b"x"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    plain = upload(client, ["x"])
    assert plain.expires_at == plain.created_at + 30 * 86_400


def test_a_file_over_the_limit(client):
    with pytest.raises(openai.BadRequestError, match="File is too large"):
        client.files.create(file=("a.jsonl", bytes(200_000_001)), purpose="batch")


# Batches


def test_a_batch_to_its_end(client):
    rows = [line(f"row-{number}", f"Prompt {number}") for number in range(50)]
    rows[7]["body"]["stop"] = ["x"]
    raw = client.batches.with_raw_response.create(
        completion_window="24h", endpoint=ENDPOINT, input_file_id=upload(client, rows).id, metadata={"a": "b"}
    )
    batch = strictly(Batch, raw)
    assert (batch.status, batch.output_file_id, batch.metadata) == ("validating", None, {"a": "b"})
    assert (batch.request_counts.total, batch.usage) == (0, None)
    seen = [batch.status]
    while seen[-1] != "completed":
        time.sleep(0.005)
        batch = strictly(Batch, client.batches.with_raw_response.retrieve(batch.id))
        if batch.status != seen[-1]:
            seen.append(batch.status)
    assert seen == [state for state in ("validating", "in_progress", "finalizing", "completed") if state in seen]
    assert "in_progress" in seen
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (50, 49, 1)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at < batch.expires_at
    output = read(client, batch.output_file_id)
    assert set(output) == {row["custom_id"] for row in rows} - {"row-7"}
    assert list(output) != [row["custom_id"] for row in rows if row["custom_id"] in output]
    usage = 0
    for number in set(range(50)) - {7}:
        row = output[f"row-{number}"]
        assert (row["error"], row["response"]["status_code"]) == (None, 200)
        response = Response.model_validate_json(json.dumps(row["response"]["body"]), strict=True)
        assert response.output_text == f"Prompt {number}"
        usage += response.usage.total_tokens
    assert batch.usage.total_tokens == usage
    errors = read(client, batch.error_file_id)
    assert list(errors) == ["row-7"]
    assert errors["row-7"]["error"] is None
    assert errors["row-7"]["response"]["status_code"] == 400
    assert errors["row-7"]["response"]["body"]["error"]["code"] == "unknown_parameter"
    result = client.files.retrieve(batch.output_file_id)
    assert (result.purpose, result.filename) == ("batch_output", f"{batch.id}_output.jsonl")


def test_the_order_depends_on_the_seed_alone():
    def order(seed: int) -> list[str]:
        with llmbackend.sandbox(seed=seed, speed=100_000) as box:
            client = openai.OpenAI(**box.options("openai"))
            batch = wait(client, submit(client, [line(str(number), "x") for number in range(30)]))
            return list(read(client, batch.output_file_id))

    assert order(1) == order(1) != order(2)


@pytest.mark.parametrize(
    ("row", "code", "param"),
    [
        ("{oops", "invalid_json_line", None),
        ("", "invalid_json_line", None),
        ("[]", "invalid_json_line", None),
        (line("row-0", "again"), "duplicate_custom_id", "custom_id"),
        (line("", "x"), "missing_required_parameter", "custom_id"),
        ({**line("b", "x"), "url": "/v1/chat/completions"}, "url_mismatch", "url"),
        ({**line("b", "x"), "method": "GET"}, "invalid_method", "method"),
        ({**line("b", "x"), "body": {"input": "x"}}, "missing_required_parameter", "body.model"),
        ({**line("b", "x"), "body": {"model": "gpt-4o-mini"}}, "missing_required_parameter", "body.input"),
        (line("b", "x", model="gpt-4o"), "model_mismatch", "body.model"),
    ],
)
def test_one_bad_line_fails_the_batch(client, row, code, param):
    batch = wait(client, submit(client, [line("row-0", "x"), line("row-1", "x"), row]))
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert [(error.code, error.line, error.param) for error in batch.errors.data] == [(code, 3, param)]
    assert batch.errors.data[0].message
    assert (batch.request_counts.total, batch.usage) == (0, None)
    assert batch.failed_at and batch.in_progress_at is None


def test_a_file_that_is_not_there_fails_later(client):
    batch = client.batches.create(completion_window="24h", endpoint=ENDPOINT, input_file_id="file-none")
    assert batch.status == "validating"
    batch = wait(client, batch)
    assert batch.status == "failed" and "Cannot find file file-none" in batch.errors.data[0].message


def test_too_many_rows_fail_later(client):
    row = json.dumps(line("ID", "x"))
    batch = wait(client, submit(client, [row.replace("ID", str(number)) for number in range(50_001)]))
    assert [error.code for error in batch.errors.data] == ["too_many_tasks"]


def test_fifty_thousand_rows(client):
    row = json.dumps(line("ID", "Prompt ID", instructions="Be kind."))
    started = time.monotonic()
    batch = wait(client, submit(client, [row.replace("ID", f"{number:05}") for number in range(50_000)]))
    assert time.monotonic() - started < 20
    assert batch.request_counts.completed == 50_000
    raw = client.files.content(batch.output_file_id).content
    found = re.findall(rb'"custom_id":"(\d+)".*"text":"Prompt (\d+)"', raw)
    assert len(found) == raw.count(b"\n") == 50_000
    assert all(custom_id == echo for custom_id, echo in found)
    assert len({custom_id for custom_id, _ in found}) == 50_000


@pytest.mark.parametrize(
    ("options", "code", "param"),
    [
        ({"completion_window": "48h"}, "invalid_value", "completion_window"),
        ({"endpoint": "/responses"}, "invalid_value", "endpoint"),
        ({"input_file_id": None}, "missing_required_parameter", "input_file_id"),
        ({"metadata": {"k": "x" * 513}}, "string_above_max_length", "metadata.k"),
        ({"metadata": {"k" * 65: "x"}}, "string_above_max_length", "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 10}}, "integer_below_min_value",
         "output_expires_after.seconds"),
        ({"display_name": "x"}, "unknown_parameter", "display_name"),
    ],
)  # fmt: skip
def test_batch_refusals(client, options, code, param):
    body = {"completion_window": "24h", "endpoint": ENDPOINT, "input_file_id": "file-x", **options}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/batches", body=body, cast_to=object)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_cancel_and_lists():
    with llmbackend.sandbox(speed=50) as box:
        client = openai.OpenAI(**box.options("openai"), max_retries=0)
        rows = [line(str(number), "x") for number in range(100)]
        early = submit(client, rows)
        assert client.batches.cancel(early.id).status == "cancelling"
        batch = submit(client, rows)
        while client.batches.retrieve(batch.id).request_counts.completed < 10:
            time.sleep(0.01)
        raw = client.batches.with_raw_response.cancel(batch.id)
        assert strictly(Batch, raw).status == "cancelling"
        assert client.batches.cancel(batch.id).status == "cancelling"
        batch = wait(client, batch)
        assert batch.status == "cancelled" and batch.cancelled_at >= batch.cancelling_at
        output, errors = read(client, batch.output_file_id), read(client, batch.error_file_id)
        counts = batch.request_counts
        assert (counts.total, counts.completed, counts.failed) == (100, len(output), 0)
        assert 10 <= len(output) < 100 and len(output) + len(errors) == 100
        assert {row["error"]["code"] for row in errors.values()} == {"batch_cancelled"}
        assert all(row["response"] is None for row in errors.values())
        early = wait(client, early)
        assert (early.status, early.output_file_id) == ("cancelled", None)
        made = [early.id, batch.id, *(submit(client, rows[:1]).id for _ in range(5))]
        assert [found.id for found in client.batches.list(limit=3)] == made[::-1]
        page = client.batches.list(limit=2, after=made[3])
        assert [found.id for found in page.data] == made[2:0:-1] and page.has_more
        with pytest.raises(openai.BadRequestError, match="limit"):
            client.batches.list(limit=101)
        with pytest.raises(openai.NotFoundError, match="No batch found"):
            client.batches.retrieve("batch_none")


def test_a_finished_batch_cannot_be_cancelled(client):
    batch = wait(client, submit(client, [line("a", "x")]))
    with pytest.raises(openai.BadRequestError, match="status 'completed'"):
        client.batches.cancel(batch.id)


# The rest


def test_models(client):
    found = [model.id for model in client.models.list()]
    assert "gpt-4o-mini" in found
    strictly(Model, client.models.with_raw_response.retrieve("gpt-4o-mini"))
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("none")
    assert caught.value.code == "model_not_found"


def fetch(url: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, method=method, headers=headers or {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_routes(box):
    root = box.url("openai").split("/api.openai.com")[0]
    assert fetch(root + "/")[0] == 200 and "sandbox" in fetch(root + "/")[1]
    key = {"Authorization": "Bearer any"}
    status, text = fetch(box.url("openai") + "/models")
    assert (status, json.loads(text)["error"]["type"]) == (401, "invalid_request_error")
    for method, path, expected in [
        ("GET", "/api.openai.com/v1/nothing", 404),
        ("GET", "/api.openai.com/v1/files//content", 404),
        ("PUT", "/api.openai.com/v1/files", 405),
        ("GET", "/api.openai.com/v1/responses", 405),
        ("GET", "/nowhere/v1/models", 404),
        ("GET", "/eu.api.openai.com/v1/models", 200),
    ]:
        status, text = fetch(root + path, method, key)
        assert status == expected, path
        if expected != 200:
            assert set(json.loads(text)["error"]) == {"message", "type", "param", "code"}


def test_the_log(client, box):
    client.models.list()
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve("file-none")
    assert box.requests()[-2:] == [
        ("GET", "/api.openai.com/v1/models", 200),
        ("GET", "/api.openai.com/v1/files/file-none", 404),
    ]


def test_options_and_environment(box):
    options = box.options("openai")
    assert options["base_url"].startswith("http://127.0.0.1:") and options["base_url"].endswith("/api.openai.com/v1")
    variables = {"OPENAI_API_KEY": options["api_key"], "OPENAI_BASE_URL": options["base_url"]}
    assert variables.items() <= box.environment().items()
    with pytest.raises(llmbackend.errors.ConfigurationError, match="openai"):
        box.url("openia")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speed": 0}, "speed"),
        ({"speed": float("nan")}, "speed"),
        ({"speed": "fast"}, "speed"),
        ({"host": "localhost"}, "host"),
        ({"port": 70_000}, "port"),
        ({"seed": -1}, "seed"),
        ({"faults": "stall"}, r"\['stall'\]"),
        ({"faults": ["stal"]}, 'did you mean "stall"'),
        ({"faults": ["stall:0"]}, "TIMES"),
        ({"faults": [5]}, "faults"),
        ({"directory": 5}, "directory"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(llmbackend.errors.ConfigurationError, match=words):
        llmbackend.sandbox(**options)


def test_a_taken_port(box):
    port = int(box.url("openai").split(":")[2].split("/")[0])
    with pytest.raises(OSError):
        llmbackend.sandbox(port=port)


def test_files_live_in_the_folder(tmp_path):
    folder = tmp_path / "made"
    with llmbackend.sandbox(directory=folder) as box:
        file = upload(openai.OpenAI(**box.options("openai")), ["x"])
        assert (folder / file.id).read_bytes() == b"x\n"
    assert (folder / file.id).exists()


def test_the_temporary_folder_goes_with_the_interpreter(tmp_path):
    code = "import llmbackend, os; box = llmbackend.sandbox(); print(len(os.listdir(os.environ['TMPDIR'])))"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=20)
    assert (done.stdout.strip(), os.listdir(tmp_path)) == (b"1", [])


def test_it_stops_with_open_connections():
    box = llmbackend.sandbox(faults=["stall@/v1/models"])
    client = openai.OpenAI(**box.options("openai"), max_retries=0, timeout=0.2)
    client.responses.create(model="any", input="x")
    with pytest.raises(openai.APITimeoutError):
        client.models.list()
    started = time.monotonic()
    box.close()
    box.close()
    assert time.monotonic() - started < 1
    with pytest.raises(openai.APIConnectionError):
        client.models.list()
    with pytest.raises(RuntimeError, match="closed"):
        box.requests()


def test_a_forked_child_can_drop_it():
    code = """if True:
        import os, sys, llmbackend
        box = llmbackend.sandbox()
        child = os.fork()
        if child == 0:
            box.close()
            del box
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        box.clear_faults()
        box.close()
    """
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=20)
