"""The official google-genai package, unchanged, against the sandbox: what it accepts and refuses, and each fault."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import time
import urllib.error
import urllib.request
from typing import Any

import pydantic
import pytest

import llmbackend

genai = pytest.importorskip("google.genai")

from google.genai import errors, types  # noqa: E402

MODEL = "gemini-2.5-flash-lite"
THINKER = "gemini-2.5-flash"
ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}

# The package warns of its own plans and of its own fields; neither is about the sandbox.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:google"),
    pytest.mark.filterwarnings("ignore::FutureWarning:google"),
]


class Answer(pydantic.BaseModel):
    text: str
    mood: str | None
    numbers: list[int]


@pytest.fixture(scope="module")
def server():
    with llmbackend.sandbox(speed=20_000) as box:
        yield box


@pytest.fixture
def box(server):
    yield server
    server.clear_faults()


@pytest.fixture(params=["v1", "v1beta"], scope="module")
def version(request):
    return request.param


def connect(box: Any, version: str = "v1beta", **options: Any) -> Any:
    given = box.options("gemini")
    options = {"base_url": given["base_url"], "api_version": version, "timeout": 20_000, **options}
    return genai.Client(api_key=given["api_key"], http_options=options)


@pytest.fixture
def client(box):
    with connect(box) as client:
        yield client


def http(
    box: Any, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, key: str | None = "k"
) -> tuple[int, dict[str, str], Any]:
    """Without the SDK: status, headers, and the body as JSON or bytes."""
    url = path if path.startswith("http") else box.url("gemini") + path
    given = {**({"x-goog-api-key": key} if key else {}), **(headers or {})}
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=given)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            status, found, content = reply.status, dict(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        status, found, content = error.code, dict(error.headers), error.read()
    found = {name.lower(): value for name, value in found.items()}
    if found.get("content-type", "").startswith("application/json"):
        return status, found, json.loads(content)
    return status, found, content


def generate(box: Any, body: Any, model: str = MODEL) -> Any:
    status, _, reply = http(box, "POST", f"/v1beta/models/{model}:generateContent", body)
    return reply["error"] if status != 200 else reply


def content(text: str, **config: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return {**body, "generation_config": config} if config else body


def strictly(kind: type[pydantic.BaseModel], raw: Any) -> Any:
    """A reply read by the SDK's own model, which forbids keys that it does not know."""
    if usage := raw.get("usageMetadata"):
        # Google sends it; its package has no field for it, and drops it.
        raw = {**raw, "usageMetadata": {key: value for key, value in usage.items() if key != "serviceTier"}}
    return kind.model_validate(raw)


def finish(client: Any, job: Any) -> Any:
    end = time.monotonic() + 20
    while job.state.value not in ENDED:
        assert time.monotonic() < end, job
        time.sleep(0.005)
        job = client.batches.get(name=job.name)
    return job


def operation(box: Any, name: str) -> Any:
    status, _, reply = http(box, "GET", f"/v1beta/{name}")
    assert status == 200, reply
    return reply


def prompts(count: int) -> list[dict[str, Any]]:
    return [
        {"contents": f"Prompt {n}", "metadata": {"key": f"k{n}", "index": str(n)}, "model": MODEL} for n in range(count)
    ]


def upload(client: Any, rows: list[Any], **config: Any) -> Any:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    config = {"mime_type": "application/jsonl", **config}
    return client.files.upload(file=io.BytesIO(text.encode()), config=config)


def lines(count: int) -> list[dict[str, Any]]:
    return [{"key": f"{n:06}:k", "request": content(f"Prompt {n}", max_output_tokens=50)} for n in range(count)]


def submit(client: Any, rows: list[Any]) -> Any:
    return client.batches.create(model=MODEL, src=upload(client, rows).name, config={"display_name": "by file"})


def inline(client: Any, count: int = 10) -> Any:
    return client.batches.create(model=MODEL, src=prompts(count), config={"display_name": "inline"})


def results(client: Any, job: Any) -> list[dict[str, Any]]:
    found = client.files.download(file=job.dest.file_name).split(b"\n")
    assert found.pop() == b""
    return [json.loads(row) for row in found]


def said(response: Any) -> str:
    return response["candidates"][0]["content"]["parts"][0]["text"]


# generateContent


def test_a_plain_answer_is_an_echo(box, version):
    with connect(box, version) as client:
        text = 'Grüße 你好 🦀\n"quoted"'
        config = types.GenerateContentConfig(
            system_instruction="Be kind.", temperature=0, top_p=1, top_k=3, seed=-5, max_output_tokens=100
        )
        response = client.models.generate_content(model=MODEL, contents=text, config=config)
    assert response.text == text
    assert (response.model_version, response.candidates[0].finish_reason) == (MODEL, types.FinishReason.STOP)
    usage = response.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count > 0
    path = f"/generativelanguage.googleapis.com/{version}/models/{MODEL}:generateContent"
    assert ("POST", path, 200) in box.requests()


def test_the_environment_is_enough(box, monkeypatch):
    for name, value in box.environment().items():
        monkeypatch.setenv(name, value)
    with genai.Client() as client:
        assert client.models.generate_content(model=MODEL, contents="Hi").text == "Hi"


def test_the_async_client(box):
    async def ask(client: Any) -> Any:
        async with client.aio as aio:
            file = await aio.files.upload(file=io.BytesIO(b"{}"), config={"mime_type": "text/plain"})
            answers = [aio.models.generate_content(model=MODEL, contents=f"Prompt {n}") for n in range(20)]
            return file, await asyncio.gather(*answers)

    with connect(box) as client:
        file, answers = asyncio.run(ask(client))
    assert file.size_bytes == 2
    assert [answer.text for answer in answers] == [f"Prompt {n}" for n in range(20)]


def test_replies_are_googles_own_models(box):
    raw = generate(box, content("Hi", thinking_config={"includeThoughts": True}), THINKER)
    response = strictly(types.GenerateContentResponse, raw)
    assert [part.thought for part in response.candidates[0].content.parts] == [True, None]
    assert (response.text, response.usage_metadata.thoughts_token_count) == ("Hi", 64)
    assert response.usage_metadata.total_token_count == 1 + 64 + 1
    _, headers, raw = http(box, "GET", "/v1beta/models/gemini-2.5-flash")
    assert headers["content-type"] == "application/json; charset=UTF-8"
    # The SDK's Model renames some keys; its converter reads the wire.
    assert raw["supportedGenerationMethods"][0] == "generateContent"


def test_the_last_user_text_counts(client):
    contents = [
        types.UserContent(parts=[types.Part(text="first")]),
        types.ModelContent(parts=[types.Part(text="an answer")]),
        types.UserContent(parts=[types.Part(text="sec"), types.Part(text="ond")]),
    ]
    assert client.models.generate_content(model=MODEL, contents=contents).text == "second"


def test_limits_and_stop_sequences_cut(client):
    def ask(text, **config):
        return client.models.generate_content(model=MODEL, contents=text, config=config)

    response = ask("x" * 1000, max_output_tokens=16)
    assert (response.text, response.candidates[0].finish_reason.value) == ("x" * 64, "MAX_TOKENS")
    assert response.usage_metadata.candidates_token_count == 16
    response = ask("one, two; three", stop_sequences=["; ", ", "])
    assert (response.text, response.candidates[0].finish_reason.value) == ("one", "STOP")


def test_thinking_eats_the_limit(client):
    response = client.models.generate_content(model=THINKER, contents="Hi", config={"max_output_tokens": 50})
    assert response.candidates[0].finish_reason.value == "MAX_TOKENS"
    assert (response.text, response.candidates[0].content.parts) == (None, None)
    assert response.usage_metadata.thoughts_token_count == 50
    config = {"max_output_tokens": 50, "thinking_config": {"thinking_budget": 0}}
    assert client.models.generate_content(model=THINKER, contents="Hi", config=config).text == "Hi"


def test_structured_answers_fit(client):
    for form in (Answer, list[Answer], {"type": "OBJECT", "properties": {"text": {"type": "STRING"}}}):
        config = {"response_mime_type": "application/json", "response_schema": form}
        response = client.models.generate_content(model=MODEL, contents="Hé", config=config)
        answer = response.parsed[0] if isinstance(response.parsed, list) else response.parsed
        assert (answer["text"] if isinstance(answer, dict) else answer.text) == "Hé"
    config = {"response_mime_type": "application/json", "response_json_schema": Answer.model_json_schema()}
    response = client.models.generate_content(model=MODEL, contents="Hé", config=config)
    assert Answer.model_validate_json(response.text).text == "Hé"
    config = {"response_mime_type": "text/x.enum", "response_schema": {"type": "STRING", "enum": ["a", "b"]}}
    assert client.models.generate_content(model=MODEL, contents="?", config=config).text in ("a", "b")
    config = {"response_mime_type": "application/json"}
    assert json.loads(client.models.generate_content(model=MODEL, contents="Hé", config=config).text) == {"echo": "Hé"}


def test_tokens_are_counted(box, client):
    assert client.models.count_tokens(model=MODEL, contents="12345678").total_tokens == 2
    whole = {"model": f"models/{MODEL}", "systemInstruction": {"parts": [{"text": "1234"}]}, **content("12345678")}
    path = f"/v1beta/models/{MODEL}:countTokens"
    status, _, reply = http(box, "POST", path, {"generateContentRequest": whole})
    assert (status, reply) == (200, {"totalTokens": 3, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}]})
    assert http(box, "POST", path, {"generateContentRequest": whole, **content("x")})[0] == 400
    assert http(box, "POST", path, {})[0] == 400


def test_models(client):
    listed = list(client.models.list(config={"page_size": 4, "query_base": True}))
    assert [model.name for model in listed][:2] == ["models/gemini-2.5-flash", "models/gemini-2.5-flash-lite"]
    model = client.models.get(model="gemini-2.5-pro")
    assert (model.input_token_limit, "generateContent" in model.supported_actions) == (1_048_576, True)
    with pytest.raises(errors.ClientError) as caught:
        client.models.get(model="gemini-1.5-pro")
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")


# Refusals


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "contents is not specified"),
        ({"contents": []}, "contents is not specified"),
        ({"contents": "Hi"}, "Invalid value at 'contents'"),
        ({**content("Hi"), "input": 1}, 'Unknown name "input": Cannot find field.'),
        ({**content("Hi"), "max_tokens": 1, "temp": 2}, 'Unknown name "temp": Cannot find field.'),
        (content("Hi", max_tokens=1), "Unknown name \"max_tokens\" at 'generation_config': Cannot find field."),
        ({"contents": [{"role": "system", "parts": [{"text": "x"}]}]}, "valid role: user, model"),
        ({"contents": [{"parts": [{"text": ""}]}]}, "contents[0].parts[0].data"),
        ({"contents": [{"parts": []}]}, "contents[0].parts"),
        ({"contents": [{"parts": [{"inlineData": {"data": ""}}]}]}, "inline_data.mime_type"),
        ({**content("Hi"), "systemInstruction": {"parts": [{"text": ""}]}}, "system_instruction.parts[0].data"),
        (content("Hi", seed=2**31), "Invalid value at 'generation_config.seed' (TYPE_INT32)"),
        (content("Hi", maxOutputTokens=1.5), "'generation_config.max_output_tokens' (TYPE_INT32)"),
        (content("Hi", temperature="hot"), "'generation_config.temperature' (TYPE_FLOAT)"),
        (content("Hi", temperature=2.5), "temperature must be in the range [0.0, 2.0]"),
        (content("Hi", topP=1.5), "top_p must be in the range"),
        (content("Hi", maxOutputTokens=0), "max_output_tokens must be positive"),
        (content("Hi", stopSequences=list("abcdef")), "generation_config.stop_sequences"),
        (content("Hi", stopSequences="a"), "Invalid value at 'generation_config.stop_sequences'"),
        (content("Hi", presencePenalty=1), f"Penalty is not enabled for models/{MODEL}"),
        (content("Hi", candidateCount=2), "Multiple candidates"),
        (content("Hi", thinkingConfig={"thinkingLevel": "LOW"}), "Thinking level is not supported"),
        (content("Hi", thinkingConfig={"thinkingLevel": "SOME"}), "ThinkingConfig.ThinkingLevel"),
        (content("Hi", responseSchema={"type": "STRING"}), "response_mime_type"),
        (
            content("Hi", responseMimeType="application/json", responseSchema={"type": "X"}),
            "'generation_config.response_schema.type'",
        ),
        (
            content("Hi", responseSchema={"type": "OBJECT", "additionalProperties": False}),
            "Unknown name \"additionalProperties\" at 'generation_config.response_schema'",
        ),
        (content("Hi", responseSchema={"type": ["STRING", "NULL"]}), "Proto field is not repeating"),
        (
            content("Hi", responseSchema={"type": "OBJECT", "properties": {"a": {"$ref": "#"}}}),
            "'generation_config.response_schema.properties[a]'",
        ),
        (
            content("Hi", responseMimeType="application/json", responseSchema={"type": "OBJECT", "properties": {}}),
            "should be non-empty for OBJECT type",
        ),
        (
            content(
                "Hi", responseMimeType="application/json", responseJsonSchema={"properties": {"a": {"$ref": "#/x"}}}
            ),
            "generation_config.response_json_schema.properties[a].$ref",
        ),
        (
            content(
                "Hi", responseMimeType="application/json", responseJsonSchema={}, responseSchema={"type": "STRING"}
            ),
            "Only one of",
        ),
        (
            content("Hi", responseFormat={"text": {"mimeType": "application/json"}}),
            "'generation_config.response_format.text.mime_type'",
        ),
        (content("Hi", responseMimeType="text/html"), "allowed mimetypes"),
    ],
)
def test_refusals(box, body, words):
    error = generate(box, body)
    assert words in error["message"]
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")


def test_a_refusal_as_the_sdk_raises_it(client):
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model=MODEL, contents="Hi", config={"http_options": {"extra_body": {"x": 1}}})
    error = caught.value
    assert (error.code, error.status) == (400, "INVALID_ARGUMENT")
    detail = error.details["error"]["details"][0]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert "Cannot find field" in detail["fieldViolations"][0]["description"]
    with pytest.raises(errors.ClientError, match="model turn"):
        prefill = [types.UserContent("Say A."), types.ModelContent("A")]
        client.models.generate_content(model="gemini-3.6-flash", contents=prefill)


def test_credentials(box):
    path = f"/v1beta/models/{MODEL}:generateContent"

    def ask(query="", key=None, **headers):
        status, _, reply = http(box, "POST", path + query, content("Hi"), headers, key)
        return status, reply.get("error", {}).get("status")

    assert ask() == (403, "PERMISSION_DENIED")
    assert ask(key=" ") == (403, "PERMISSION_DENIED")
    assert ask(query="?key=k") == (200, None)
    assert ask(query="?key=k", key="k") == (400, "INVALID_ARGUMENT")
    assert ask(key="k", Authorization="Bearer t") == (400, "INVALID_ARGUMENT")
    assert ask(Authorization="Bearer t") == (401, "UNAUTHENTICATED")


def test_bodies_and_paths(box, client):
    path = f"/v1beta/models/{MODEL}:generateContent"
    assert "Invalid JSON payload" in http(box, "POST", path, b"{")[2]["error"]["message"]
    big = json.dumps(content("x" * 21_000_000)).encode()
    assert "limit: 20971520 bytes" in http(box, "POST", path, big)[2]["error"]["message"]
    assert http(box, "POST", "/v1beta/models/a b:generateContent".replace(" ", "%20"), content("x"))[0] == 400
    assert http(box, "GET", "/v2/models")[0] == 404
    assert http(box, "PUT", "/v1beta/files/x")[0] == 404
    with pytest.raises(errors.ClientError, match="does not stream"):
        list(client.models.generate_content_stream(model=MODEL, contents="Hi"))


# Files


def test_files(box, version):
    with connect(box, version) as client:
        file = client.files.upload(
            file=io.BytesIO(b'{"a":1}\n'), config={"mime_type": "application/jsonl", "display_name": "rows"}
        )
        digest = hashlib.sha256(b'{"a":1}\n').hexdigest()
        assert base64.b64decode(file.sha256_hash).decode() == digest
        assert (file.display_name, file.size_bytes, file.mime_type) == ("rows", 8, "application/jsonl")
        assert (file.state.value, file.source.value) == ("ACTIVE", "UPLOADED")
        assert (file.expiration_time - file.create_time).total_seconds() == pytest.approx(48 * 3600)
        assert client.files.get(name=file.name).name == file.name
        strictly(types.File, http(box, "GET", f"/v1beta/{file.name}")[2])
        with pytest.raises(errors.ClientError, match="uploaded"):
            client.files.download(file=file.name)
        client.files.delete(name=file.name)
        with pytest.raises(errors.ClientError) as caught:
            client.files.get(name=file.name)
        assert (caught.value.code, caught.value.status) == (403, "PERMISSION_DENIED")


def test_file_names(client):
    named = upload(client, ["{}"], name="my-rows")
    assert named.name == "files/my-rows"
    with pytest.raises(errors.ClientError) as caught:
        upload(client, ["{}"], name="my-rows")
    assert caught.value.code == 409
    client.files.delete(name="my-rows")
    for wrong in ("-x", "X", "a" * 41):
        with pytest.raises(errors.ClientError, match="File ID"):
            upload(client, ["{}"], name=wrong)


def test_files_are_listed_in_pages(box, client):
    names = [upload(client, ["{}"]).name for _ in range(5)]
    pager = client.files.list(config={"page_size": 2})
    assert [file.name for file in pager.page] == names[:-3:-1]
    assert [file.name for file in pager][:5] == names[::-1]
    assert http(box, "GET", "/v1beta/files?pageToken=none")[0] == 400
    for name in names:
        client.files.delete(name=name)


def test_a_large_upload_comes_in_pieces(box, client):
    data = bytes(range(256)) * 32_768 * 2 + b"tail"
    file = client.files.upload(file=io.BytesIO(data), config={"mime_type": "text/plain"})
    assert base64.b64decode(file.sha256_hash).decode() == hashlib.sha256(data).hexdigest()
    assert file.size_bytes == len(data)
    sent = [path for method, path, _ in box.requests() if method == "POST" and "/upload/" in path]
    assert len(sent) >= 4
    empty = client.files.upload(file=io.BytesIO(b""), config={"mime_type": "text/plain"})
    assert not empty.size_bytes


def test_the_rules_of_an_upload(box):
    start = {
        "X-Goog-Upload-Protocol": "resumable",
        "X-Goog-Upload-Command": "start",
        "X-Goog-Upload-Header-Content-Type": "text/plain",
        "X-Goog-Upload-Header-Content-Length": "3",
    }
    status, headers, _ = http(box, "POST", "/upload/v1beta/files", {}, start)
    assert (status, headers["x-goog-upload-status"]) == (200, "active")
    assert headers["x-goog-upload-chunk-granularity"] == "8388608"
    url = headers["x-goog-upload-url"]

    def send(command, data, offset="0"):
        given = {"X-Goog-Upload-Command": command, "X-Goog-Upload-Offset": offset}
        status, headers, body = http(box, "POST", url, data, given, None)
        return status, headers["x-goog-upload-status"], headers.get("x-goog-upload-size-received"), body

    assert send("upload", b"ab")[0] == 400
    assert send("query", b"")[:3] == (200, "active", "0")
    assert send("upload, finalize", b"abc", "1")[0] == 400
    assert send("upload, finalize", b"ab")[0] == 400
    assert send("upload, finalize", b"c", "2")[:2] == (200, "final")
    done = send("upload, finalize", b"abc")
    assert (done[1], done[3]["file"]["sizeBytes"]) == ("final", "3")
    assert send("query", b"")[1:3] == ("final", "3")
    assert http(box, "POST", "/upload/v1beta/files", {}, {})[0] == 400
    assert http(box, "POST", "/upload/v1beta/files", {}, start, None)[0] == 403


# Batches


def test_an_inline_batch(box, version):
    with connect(box, version) as client:
        job = inline(client)
        assert (job.state.value, job.display_name, job.model) == ("JOB_STATE_PENDING", "inline", f"models/{MODEL}")
        job = finish(client, job)
        assert job.state.value == "JOB_STATE_SUCCEEDED"
        rows = job.dest.inlined_responses
        assert [row.response.text for row in rows] == [f"Prompt {n}" for n in range(10)]
        assert [row.metadata for row in rows] == [{"key": f"k{n}", "index": str(n)} for n in range(10)]
    raw = operation(box, job.name)
    assert raw["done"] is True and raw["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert raw["metadata"]["output"]["inlinedResponses"] == raw["response"]["inlinedResponses"]
    assert raw["metadata"]["batchStats"] == {"requestCount": "10", "successfulRequestCount": "10"}
    keys = "@type model displayName output createTime endTime updateTime batchStats state name"
    assert list(raw["metadata"]) == keys.split()
    for row in raw["response"]["inlinedResponses"]["inlinedResponses"]:
        strictly(types.GenerateContentResponse, row["response"])


def test_an_inline_batch_with_schemas_and_bad_rows(box, client):
    config = {"response_mime_type": "application/json", "response_schema": Answer, "system_instruction": "S"}
    rows = [
        types.InlinedRequest(contents="Hé", config=config, metadata={"n": "0"}),
        types.InlinedRequest(contents="x", config={"temperature": 3}, metadata={"n": "1"}),
    ]
    job = finish(client, client.batches.create(model=MODEL, src=rows))
    good, bad = job.dest.inlined_responses
    assert Answer.model_validate_json(good.response.text).text == "Hé"
    assert (bad.response, bad.error.code, bad.metadata) == (None, 3, {"n": "1"})
    raw = operation(box, job.name)["metadata"]
    assert raw["batchStats"] == {"requestCount": "2", "successfulRequestCount": "1", "failedRequestCount": "1"}
    assert "displayName" not in raw


def test_a_batch_by_file(box, version):
    with connect(box, version) as client:
        job = finish(client, submit(client, lines(50)))
        assert job.dest.inlined_responses is None
        found = results(client, job)
        keys = [row["key"] for row in found]
        assert sorted(keys) == [f"{n:06}:k" for n in range(50)] != keys
        assert all(said(row["response"]) == f"Prompt {int(row['key'][:6])}" for row in found)
        with pytest.raises(errors.ClientError, match="more than 40 characters"):
            client.files.get(name=job.dest.file_name)
        with pytest.raises(errors.ClientError, match="more than 40 characters"):
            client.files.delete(name=job.dest.file_name)
        assert job.dest.file_name not in [file.name for file in client.files.list()]
    raw = operation(box, job.name)
    assert raw["metadata"]["inputConfig"]["fileName"].startswith("files/")
    assert raw["response"]["responsesFile"] == raw["metadata"]["output"]["responsesFile"] == job.dest.file_name


def test_results_are_downloaded_by_both_paths_and_by_range(box, client):
    name = finish(client, submit(client, lines(3))).dest.file_name
    _, _, whole = http(box, "GET", f"/download/v1beta/{name}:download?alt=media")
    assert whole == http(box, "GET", f"/v1beta/{name}:download?alt=media")[2]
    ranged = {"Range": "bytes=5-"}
    status, headers, part = http(box, "GET", f"/download/v1beta/{name}:download?alt=media", None, ranged)
    assert (status, part) == (206, whole[5:])
    assert headers["content-range"] == f"bytes 5-{len(whole) - 1}/{len(whole)}"
    assert http(box, "GET", f"/v1beta/{name}:download?alt=media", None, {"Range": "bytes=999999-"})[0] == 416
    assert http(box, "GET", f"/v1beta/{name}:download")[0] == 400
    assert http(box, "GET", "/v1beta/files/batch-none:download?alt=media")[0] == 403


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{", "Error on line 2: invalid JSON"),
        ({"key": "a"}, "Error on line 2: the field 'request' is missing"),
        ({"request": {**content("x"), "generationConfig": {}}}, "no such field: 'generationConfig'"),
        ({"request": {**content("x"), "thinking_config": {}}}, "no such field: 'thinking_config'"),
        ({"request": content("x", response_schema={"type": "STRING"})}, "no such field: 'response_schema'"),
        ({"custom_id": "a", "request": content("x")}, "no such field: 'custom_id'"),
    ],
)
def test_a_bad_line_fails_the_creation(client, row, words):
    with pytest.raises(errors.ClientError) as caught:
        submit(client, [*lines(1), row])
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
    assert words in caught.value.message


def test_a_refused_row_fails_alone(client):
    schema = {"response_mime_type": "application/json", "response_json_schema": Answer.model_json_schema()}
    job = submit(client, [{"key": "a", "request": content("Hé", **schema)}, {"request": content("x", top_p=2)}])
    found = {row.get("key"): row for row in results(client, finish(client, job))}
    assert Answer.model_validate_json(said(found["a"]["response"])).text == "Hé"
    assert found[None]["error"]["code"] == 3 and "top_p" in found[None]["error"]["message"]


def test_what_a_batch_is_made_of(box, client):
    path = f"/v1beta/models/{MODEL}:batchGenerateContent"

    def create(config):
        status, _, reply = http(box, "POST", path, {"batch": {"displayName": "d", "inputConfig": config}})
        return status, reply["error"]["message"]

    assert create({})[0] == create({"requests": {"requests": []}})[0] == 400
    assert "Cloud Storage" in create({"fileName": "gs://bucket/rows.jsonl"})[1]
    assert create({"fileName": "files/none"})[0] == 403
    bad = {"requests": {"requests": [{"request": {}}, {"request": content("x", max_tokens=1)}]}}
    assert "batch.input_config.requests.requests[1].request.generation_config" in create(bad)[1]
    assert "batch.input_config.requests" in create({"requests": [{"request": content("x")}]})[1]
    with pytest.raises(errors.ClientError) as caught:
        client.batches.create(model=MODEL, src="files/none")
    assert caught.value.code == 403


def test_cancel_list_and_delete(box):
    with llmbackend.sandbox(speed=60) as box, connect(box) as client:
        jobs = [inline(client, 100) for _ in range(3)]
        listed = [job.name for job in client.batches.list(config={"page_size": 2})]
        assert listed == [job.name for job in jobs][::-1]
        while client.batches.get(name=jobs[0].name).state.value != "JOB_STATE_RUNNING":
            time.sleep(0.02)
        time.sleep(0.3)
        for job in jobs:
            client.batches.cancel(name=job.name)
        client.batches.delete(name=jobs[2].name)
        with pytest.raises(errors.ClientError) as caught:
            client.batches.get(name=jobs[2].name)
        assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
        ended = finish(client, jobs[0])
        assert ended.state.value == "JOB_STATE_CANCELLED"
        raw = operation(box, ended.name)
        assert raw["error"]["code"] == 1 and "response" not in raw
        ran = int(raw["metadata"]["batchStats"]["successfulRequestCount"])
        assert 0 < ran < 100 and len(ended.dest.inlined_responses) == ran
        assert int(raw["metadata"]["batchStats"]["pendingRequestCount"]) == 100 - ran
        client.batches.cancel(name=ended.name)
        assert client.batches.get(name=ended.name).state.value == "JOB_STATE_CANCELLED"


def test_a_hundred_jobs_at_once(box):
    with llmbackend.sandbox(speed=1) as box, connect(box) as client:
        for _ in range(100):
            inline(client, 1)
        with pytest.raises(errors.ClientError) as caught:
            inline(client, 1)
        assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")


def test_ten_thousand_rows(box, client):
    rows = [f'{{"key":"{n}","request":{{"contents":[{{"parts":[{{"text":"P{n}"}}]}}]}}}}' for n in range(10_000)]
    found = results(client, finish(client, submit(client, rows)))
    assert {row["key"]: said(row["response"]) for row in found} == {str(n): f"P{n}" for n in range(10_000)}


# Faults


@pytest.mark.parametrize(
    ("fault", "kind", "code", "status"),
    [
        ("rate_limit", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("quota", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("server_error", errors.ServerError, 500, "INTERNAL"),
        ("overloaded", errors.ServerError, 503, "UNAVAILABLE"),
        ("request_timeout", errors.ServerError, 504, "DEADLINE_EXCEEDED"),
        ("auth", errors.ClientError, 400, "INVALID_ARGUMENT"),
        ("forbidden", errors.ClientError, 403, "PERMISSION_DENIED"),
        ("model_not_found", errors.ClientError, 404, "NOT_FOUND"),
        ("conflict", errors.ClientError, 409, "ABORTED"),
    ],
)
def test_error_replies(box, client, fault, kind, code, status):
    box.fault(f"{fault}:1")
    with pytest.raises(kind) as caught:
        client.models.generate_content(model=MODEL, contents="Hi")
    error = caught.value
    assert (error.code, error.status) == (code, status)
    details = {detail["@type"].rsplit(".")[-1]: detail for detail in error.details["error"].get("details", ())}
    if fault in ("rate_limit", "quota"):
        assert details["RetryInfo"]["retryDelay"] == {"rate_limit": "1s", "quota": "36000s"}[fault]
        assert ("PerDay" in details["QuotaFailure"]["violations"][0]["quotaId"]) == (fault == "quota")
    if fault == "auth":
        assert details["ErrorInfo"]["reason"] == "API_KEY_INVALID"
    assert client.models.generate_content(model=MODEL, contents="Hi").text == "Hi"


@pytest.mark.parametrize("fault", ["kill_connection", "lost_reply", "cut_body", "html_body", "stall", "stall_body"])
def test_replies_that_do_not_come(box, fault):
    with connect(box, timeout=500) as client:
        box.fault(f"{fault}:1")
        with pytest.raises(Exception) as caught:
            client.models.generate_content(model=MODEL, contents="Hi")
        assert not isinstance(caught.value, errors.APIError) or fault == "html_body"
        assert client.models.generate_content(model=MODEL, contents="Hi").text == "Hi"


def test_an_empty_body(box, client):
    box.fault("empty_body:1")
    assert client.models.generate_content(model=MODEL, contents="Hi").candidates is None


def test_an_upload_that_fails_is_sent_again(box, client):
    box.fault("overloaded:1@POST /upload")
    with pytest.raises(errors.ServerError):
        upload(client, ["{}"])
    assert upload(client, ["{}"]).size_bytes == 3


def test_answer_faults(box, client):
    def ask(fault, **config):
        box.fault(f"{fault}:1")
        return client.models.generate_content(model=MODEL, contents="Hello there", config=config)

    blocked = ask("refusal")
    assert (blocked.candidates, blocked.prompt_feedback.block_reason.value) == (None, "PROHIBITED_CONTENT")
    empty = ask("empty_candidates")
    assert (empty.candidates, empty.prompt_feedback, empty.text) == ([], None, None)
    assert ask("null_output").candidates[0].content is None
    failed = ask("failed_200")
    assert (failed.candidates[0].finish_reason.value, failed.text) == ("OTHER", None)
    for fault, reason in [("truncated", "MAX_TOKENS"), ("content_filter", "SAFETY")]:
        cut = ask(fault)
        assert (cut.text, cut.candidates[0].finish_reason.value) == ("Hello", reason)
    thinking = ask("reasoning_only", max_output_tokens=99)
    assert (thinking.candidates[0].finish_reason.value, thinking.candidates[0].content.parts) == ("MAX_TOKENS", None)
    assert thinking.usage_metadata.thoughts_token_count == 99
    parts = ask("commentary").candidates[0].content.parts
    assert [part.thought for part in parts] == [True, None, None, None]
    assert "".join(part.text for part in parts if not part.thought) == "Hello there"
    structured = {"response_mime_type": "application/json", "response_schema": Answer}
    with pytest.raises(json.JSONDecodeError):
        json.loads(ask("invalid_json", **structured).text)
    unfit = ask("unfit_json", **structured)
    assert (unfit.parsed, json.loads(unfit.text)) == (None, {"unexpected": "Hello there"})
    assert ask("invalid_json").text == "Hello there"


def test_a_new_job_is_not_seen_at_once(box, client):
    box.fault("not_found_after_create:2")
    box.fault("late_list:1")
    job = inline(client)
    for _ in range(2):
        with pytest.raises(errors.ClientError, match="not found"):
            client.batches.get(name=job.name)
    assert client.batches.get(name=job.name).name == job.name
    names = [{found.name for found in client.batches.list(config={"page_size": 100})} for _ in range(2)]
    assert [job.name in found for found in names] == [False, True]


def test_a_success_without_its_output(box, client):
    box.fault("no_output:3")
    for job in (inline(client), submit(client, lines(2))):
        found = []
        while not found or not found[-1][1]:
            raw = operation(box, job.name)
            if raw["metadata"]["state"] == "BATCH_STATE_SUCCEEDED":
                found.append((raw["done"], "output" in raw["metadata"] and "response" in raw))
        assert found == [(True, False)] * 3 + [(True, True)]


def test_jobs_that_end_early(box, client):
    box.fault("expire_half:1")
    job = finish(client, inline(client))
    raw = operation(box, job.name)
    assert (job.state.value, job.dest, raw["error"]["code"]) == ("JOB_STATE_EXPIRED", None, 4)
    stats = {"requestCount": "10", "successfulRequestCount": "5", "pendingRequestCount": "5"}
    assert raw["metadata"]["batchStats"] == stats
    box.fault("cancel_half:1")
    job = finish(client, submit(client, lines(10)))
    raw = operation(box, job.name)
    assert (job.state.value, raw["error"]["code"], "response" in raw) == ("JOB_STATE_CANCELLED", 1, False)
    assert (raw["metadata"]["batchStats"], len(results(client, job))) == (stats, 5)


@pytest.mark.parametrize(("fault", "code"), [("fail_job", 13), ("token_limit_exceeded", 8)])
def test_a_job_that_fails(box, client, fault, code):
    box.fault(f"{fault}:1")
    job = finish(client, inline(client))
    raw = operation(box, job.name)
    assert (job.state.value, job.dest, raw["error"]["code"]) == ("JOB_STATE_FAILED", None, code)
    assert raw["metadata"]["batchStats"] == {"requestCount": "10", "pendingRequestCount": "10"}


@pytest.mark.parametrize("by_file", [False, True])
def test_rows_that_fail(box, client, by_file):
    def run(fault, only=""):
        box.fault(f"{fault}:1{only}")
        job = finish(client, submit(client, lines(9)) if by_file else inline(client, 9))
        raw = operation(box, job.name)
        assert raw["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
        if by_file:
            rows = sorted(results(client, job), key=lambda row: row["key"])
        else:
            rows = raw["response"]["inlinedResponses"]["inlinedResponses"]
        return rows, raw["metadata"]["batchStats"]

    rows, stats = run("fail_lines")
    assert [row.get("error", {}).get("code") for row in rows] == [None, None, 13] * 3
    assert stats == {"requestCount": "9", "successfulRequestCount": "6", "failedRequestCount": "3"}
    rows, stats = run("failed_only")
    assert {row["error"]["code"] for row in rows} == {3}
    assert stats == {"requestCount": "9", "failedRequestCount": "9"}
    rows, stats = run("refuse_lines")
    assert ["promptFeedback" in row["response"] for row in rows] == [False, False, True] * 3
    assert stats == {"requestCount": "9", "successfulRequestCount": "9"}
    rows, _ = run("truncate_lines")
    reasons = [row["response"]["candidates"][0]["finishReason"] for row in rows]
    assert reasons == ["STOP", "STOP", "MAX_TOKENS"] * 3
    rows, stats = run("lying_counts")
    assert len(rows) == 9 and stats == {"requestCount": "10", "failedRequestCount": "9"}
    rows, _ = run("drop_line")
    assert [said(row["response"]) for row in rows] == [f"Prompt {n}" for n in range(9) if n != 4]
    rows, _ = run("duplicate_line")
    assert [said(row["response"])[-1] for row in rows] == list("0123445678")
    rows, _ = run("line_separator")
    assert [said(row["response"]) for row in rows] == [f"Prompt {n}\u2028|\x85" for n in range(9)]
    rows, _ = run("content_filter", "@:batchGenerateContent")
    assert {row["response"]["candidates"][0]["finishReason"] for row in rows} == {"SAFETY"}


def test_a_result_file_without_its_last_line_end(box, client):
    box.fault("no_final_newline:1")
    job = finish(client, submit(client, lines(3)))
    found = client.files.download(file=job.dest.file_name).split(b"\n")
    assert len(found) == 3 and found[-1].endswith(b"}")


def test_a_lost_reply_leaves_a_job(box, client):
    before = len(list(client.batches.list(config={"page_size": 100})))
    box.fault("lost_reply:1@POST :batchGenerateContent")
    with pytest.raises(Exception, match=r"(?i)disconnect|closed|reset"):
        inline(client)
    assert len(list(client.batches.list(config={"page_size": 100}))) == before + 1
