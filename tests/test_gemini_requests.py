"""What goes out over Gemini's wire, against what the official SDKs were recorded to send. Every row is compared or listed."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from gemini_wire import DICT_SCHEMA, VARIABLES, candidate, client, inlined, operation, rows
from gemini_wire import row as result_row
from pydantic import ValidationError
from recorder import Recorder, Reply

import llmbackend

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own
    from google.genai import types

ROWS = {f"{row['sdk'].split()[0]}: {row['call']} {row.get('seq') or 0}": row for row in rows("gemini_requests.jsonl")}
GENAI = "google-genai: "

# The calls that our API has no verb for: they cannot be compared.
NO_VERB = {
    GENAI + "count_tokens with system_instruction 0": "tokens are not counted",
    GENAI + "models.get 0": "models are not described",
    GENAI + "files.upload path no mime 0": "the type of our file is always known",
    GENAI + "files.get 0": "a file's description is never needed",
    GENAI + "files.get bare 0": "a file's description is never needed",
    GENAI + "files.list 0": "files are not listed",
    GENAI + "files.delete 0": "nothing is deleted; uploads expire after 48 h",
    GENAI + "batches.create webhook 0": "a batch is waited for by looking",
    GENAI + "vertex batches.create gcs default dest 0": "Vertex AI is another service, with other credentials",
    GENAI + "vertex batches.get 0": "Vertex AI is another service, with other credentials",
    GENAI + "vertex batches.cancel 0": "Vertex AI is another service, with other credentials",
    GENAI + "vertex batches.list 0": "Vertex AI is another service, with other credentials",
    "google-generativeai: stream 0": "streaming is a later issue",
    "google-generativeai: count_tokens 0": "tokens are not counted",
    "google-generativeai: genai.Client() 0": "the old package has no client at all",
}

# Where we send something else than the SDK, beside what PLANNED says of all: (row, why).
DIFFERENCES = {
    GENAI + "tools google_search + tool_config 0": "the SDK drops an empty toolConfig",
    GENAI
    + "response_schema pydantic flat 0": "a single call uses responseJsonSchema; the caller's own choice is extra.schema_field",
    GENAI + "response_schema pydantic nested ($defs inlined) 0": "the same",
    GENAI + "response_schema list[Person] 0": "the same",
    GENAI + "response_json_schema dict 0": "titles and defaults are left out of a schema (tests/schema_oracle.rs)",
    GENAI + "response_schema dict additionalProperties true-ish 0": "responseJsonSchema knows it: sent, no ValueError",
    GENAI
    + "files.upload path + mime 0": "our file is called batch.jsonl, its type is application/jsonl, and no local name is told",
    GENAI + "files.upload BytesIO 0": "the file has a display name",
    GENAI + "files.upload two chunks (8 MiB + 5) 0": "the file has a display name, and the size of real rows",
    GENAI + "default-version files.upload 0": "the file has a display name",
    GENAI
    + "default-version files.upload 1": "a chunk has no X-Goog-Upload-Header-*, which belong to the start; it has the key",
    GENAI + "files.download default-version 0": "download/... first, which the guide uses; this path on a 404",
    GENAI + "batches.create inline simple 0": "the display name has our random token, each row has a key",
    GENAI + "batches.create inline full 0": "the same; the row's own model is left out: it is the URL's",
    GENAI + "batches.create inline pydantic response_schema 0": "the same; propertyOrdering is spelled as all else",
    GENAI + "batches.create inline no display_name 0": "a name is always given: it is how the job is found again",
    GENAI + "labels 0": "the server knows none in this API; sent as given",
    "google-generativeai: generate_content full config 0": "no $alt: enums come as names",
    "google-generativeai: generate_content response_schema dict additionalProperties 0": "responseJsonSchema knows it",
}

# What is the same difference everywhere: an empty generationConfig, a role in the system instruction, the spelling inside
# thinkingConfig, and whole numbers written as floats.


def planned(body: Any) -> Any:
    """The SDK's body without the differences that are the same everywhere."""
    if isinstance(body, list):
        return [planned(item) for item in body]
    if not isinstance(body, dict):
        return body
    body = {key: planned(value) for key, value in body.items() if not (key == "generationConfig" and value == {})}
    if isinstance(body.get("systemInstruction"), dict):
        body["systemInstruction"].pop("role", None)
    return body


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with Recorder(Reply(candidate("ok"))) as recorder:
        yield recorder


def compare_head(recorder: Recorder, expected: dict[str, Any], at: int = -1, drop: tuple[str, ...] = ()) -> None:
    """Method, path and the headers that matter."""
    sent = recorder.requests[at]
    assert (sent.method, sent.path) == (expected["method"], expected["path"])
    for name, value in expected["headers"].items():
        if name not in ("user-agent", "x-goog-api-client", "content-length", "accept", "accept-encoding", *drop):
            if name == "content-type" and sent.method == "GET":
                continue  # a body that is not there has no type
            assert sent.headers[name] == value, name
    assert sent.headers["user-agent"] == f"llmbackend/{llmbackend.__version__}"
    assert "authorization" not in sent.headers
    assert "key=" not in sent.path
    ours = {"host", "accept", "user-agent", "accept-encoding", "content-length", "content-type", "x-goog-api-key"}
    assert set(sent.headers) - ours <= set(expected["headers"])


def fits_the_sdk(body: dict[str, Any]) -> dict[str, Any]:
    """The SDK's own models, which forbid unknown keys: its config is flat."""
    config = dict(body.get("generationConfig", {}))
    config.update({key: value for key, value in body.items() if key not in ("generationConfig", "contents")})
    assert types.GenerateContentConfig.model_config["extra"] == "forbid"
    types.GenerateContentConfig.model_validate(config)
    if "responseSchema" in config:
        types.Schema.model_validate(config["responseSchema"])
    for content in body["contents"]:
        types.Content.model_validate(content)
    return body


@pytest.mark.parametrize(
    "wrong",
    [
        {"generationConfig": {"maxTokens": 3}},
        {"contents": [{"role": "user", "parts": [{"text": "x", "colour": 1}]}]},
        {"safetySettings": [{"harm": "x"}]},
        {"generationConfig": {"responseSchema": {"type": "OBJECT", "colour": {}}}},
        {"generationConfig": {"thinkingConfig": {"budget": 1}}},
    ],
)
def test_the_judge_is_strict(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        fits_the_sdk({"contents": [], **wrong})


def test_every_row_is_compared_or_listed() -> None:
    assert len(ROWS) == 48
    assert set(NO_VERB) | {call for call, _ in CALLS} | set(ELSEWHERE) == set(ROWS)
    assert not set(NO_VERB) & ({call for call, _ in CALLS} | set(ELSEWHERE))
    assert set(DIFFERENCES) <= set(ROWS)


# --- Single calls: (the SDK's call, ours) ---

PERSON = {
    "type": "object", "title": "Person", "required": ["name", "age"],
    "properties": {"name": {"title": "Name", "type": "string"},
                   "age": {"description": "years", "maximum": 150, "minimum": 0, "title": "Age", "type": "integer"},
                   "nick": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Nick"}},
}  # fmt: skip
SAFETY = [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "OFF"}]


def extra(**fields: Any) -> dict[str, Any]:
    return {"config": {"extra": fields}}


CALLS: list[tuple[str, dict[str, Any]]] = [
    (GENAI + "contents list of str 0", {"input": [{"role": "user", "content": ["a", "b"]}]}),
    (
        GENAI + "config system_instruction+temperature+top_p+max_output_tokens+stop_sequences+seed 0",
        {"config": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 100, "seed": 42, "extra": {"system": "Be brief", "stop": "\n\n"}}},
    ),
    (GENAI + "config temperature=0 seed=0 max=0 0", {"config": {"temperature": 0, "seed": 0, "extra": {"max_output_tokens": 0}}}),
    (GENAI + "config temperature 2-decimal float 0", {"config": {"temperature": 0.1, "top_p": 1.0}}),
    (GENAI + "safety_settings 0", extra(safety_settings=SAFETY)),
    (GENAI + "thinking_config budget 0", extra(thinking_config={"include_thoughts": True, "thinking_budget": 0})),
    (GENAI + "thinking_config level 0", extra(thinking_config={"thinking_level": "LOW"})),
    (GENAI + "service_tier/store/labels/cached_content 0", extra(cached_content="cachedContents/x", service_tier="flex", store=False)),
    (GENAI + "labels 0", extra(labels={"a": "b"})),
    (GENAI + "tools google_search + tool_config 0", extra(tools=[{"googleSearch": {}}])),
    (GENAI + "response_schema without mime 0",
     extra(response_schema=ROWS[GENAI + "response_schema without mime 0"]["body"]["generationConfig"]["responseSchema"])),
    (GENAI + "extra_body 0",
     {"config": {"temperature": 0.5, "extra": {"response_format": {"text": {"mimeType": "APPLICATION_JSON", "schema": {"type": "object"}}}}}}),
    ("google-generativeai: generate_content full config 0",
     {"config": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 100, "extra": {"system_instruction": "Be brief", "stop": ["x"]}}}),
]  # fmt: skip


@pytest.mark.parametrize(("call", "ours"), CALLS, ids=[call for call, _ in CALLS])
def test_a_call(recorder: Recorder, call: str, ours: dict[str, Any]) -> None:
    client(recorder).get_response(ours.get("input", "Hi"), ours.get("config"))
    expected = ROWS[call]
    expected = {**expected, "path": expected["path"].partition("?")[0]}
    compare_head(recorder, expected, drop=("x-goog-request-params",))
    sent = recorder.requests[0].json
    assert sent == planned(expected["body"])
    if "responseFormat" not in sent.get("generationConfig", {}):  # newer than the SDK's models
        fits_the_sdk(sent)


def test_a_model_that_is_no_name(recorder: Recorder) -> None:
    assert "model" in ROWS[GENAI + "model with ? 0"]["sdk_error"]
    for bad in ["a?b", "a&b", "../x", "a#b", "a%2e", "a b", "models/", "/x", "a\nb"]:
        with pytest.raises(llmbackend.ConfigurationError, match="model"):
            client(recorder, bad).get_response("x")
    assert recorder.requests == []


@pytest.mark.parametrize(
    ("model", "path"), [("x", "models/x"), ("models/x", "models/x"), ("tunedModels/x-1", "tunedModels/x-1")]
)
def test_the_name_of_a_model(recorder: Recorder, model: str, path: str) -> None:
    client(recorder, model).get_response("x")
    assert recorder.requests[0].path == f"/v1beta/{path}:generateContent"


# --- Schemas ---


def without(node: Any, *names: str) -> Any:
    """A schema without these keywords."""
    if isinstance(node, list):
        return [without(item, *names) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: value for key, value in node.items() if key not in names or isinstance(value, dict)}
    return {key: without(value, *names) for key, value in kept.items()}


def test_a_schema_of_a_single_call(recorder: Recorder) -> None:
    theirs = ROWS[GENAI + "response_json_schema dict 0"]
    schema = theirs["body"]["generationConfig"]["responseJsonSchema"]
    with pytest.raises(llmbackend.InvalidOutputError):  # the answer is "ok"
        client(recorder).get_response("Hi", schema=schema)
    compare_head(recorder, theirs)
    sent = fits_the_sdk(recorder.requests[0].json)
    assert sent == without(theirs["body"], "title", "default")
    assert list(sent["generationConfig"]["responseJsonSchema"]["properties"]) == list(schema["properties"])


def openapi(name: str) -> dict[str, Any]:
    """What the SDK sends for a schema, all in one spelling."""
    schema = dict(ROWS[GENAI + name]["body"]["generationConfig"]["responseSchema"])
    if schema.get("title") == "Placeholder":  # the SDK's own
        schema.pop("title")
    text = json.dumps(schema).replace("property_ordering", "propertyOrdering").replace("any_of", "anyOf")
    return dict(json.loads(text))


TEAM = ROWS[GENAI + "response_json_schema dict 0"]["body"]["generationConfig"]["responseJsonSchema"]
OPENAPI = [
    ("response_schema pydantic flat 0", PERSON),
    ("response_schema pydantic nested ($defs inlined) 0", TEAM),
    ("response_schema list[Person] 0", {"type": "array", "items": PERSON}),
]


@pytest.mark.parametrize(("name", "schema"), OPENAPI, ids=[row[0] for row in OPENAPI])
def test_a_schema_in_the_older_field(recorder: Recorder, name: str, schema: Any) -> None:
    with pytest.raises(llmbackend.InvalidOutputError):
        client(recorder).get_response("Hi", {"extra": {"schema_field": "responseSchema"}}, schema)
    compare_head(recorder, ROWS[GENAI + name])
    config = fits_the_sdk(recorder.requests[0].json)["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert "responseJsonSchema" not in config
    assert config["responseSchema"] == openapi(name)


def test_additional_properties_are_json_schema(recorder: Recorder) -> None:
    for name in ("google-generativeai: generate_content response_schema dict additionalProperties 0",
                 GENAI + "response_schema dict additionalProperties true-ish 0"):  # fmt: skip
        assert ROWS[name]["no_request"]
    recorder.replies = [Reply(candidate('{"a": 1}'))]
    assert client(recorder).get_response("Hi", schema=DICT_SCHEMA) == {"a": 1}
    assert fits_the_sdk(recorder.requests[0].json)["generationConfig"]["responseJsonSchema"] == DICT_SCHEMA
    with pytest.raises(llmbackend.SchemaError):
        client(recorder).get_response("Hi", {"extra": {"schema_field": "responseSchema"}}, DICT_SCHEMA)


@pytest.mark.parametrize("wrong", [{"schema_field": "schema"}, {"response_schema": {}}, {"responseMimeType": "x"}])
def test_two_ways_to_ask_for_a_format(recorder: Recorder, wrong: dict[str, Any]) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=next(iter(wrong))):
        client(recorder).get_response("Hi", {"extra": wrong}, PERSON)
    assert recorder.requests == []


# --- Parameters ---

BODIES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("zeros are sent", {"temperature": 0, "top_p": 0.0, "seed": 0}, {"generationConfig": {"temperature": 0, "topP": 0.0, "seed": 0}}),
    ("None is not", {"temperature": None, "max_tokens": None, "seed": None}, {}),
    ("the least seed", {"seed": -(2**31)}, {"generationConfig": {"seed": -(2**31)}}),
    ("an empty system text", {"extra": {"system": "", "system_instruction": ""}}, {}),
    ("both names of one text", {"extra": {"system": "S", "system_instruction": "S"}}, {"systemInstruction": {"parts": [{"text": "S"}]}}),
    ("stop, empty", {"extra": {"stop": []}}, {}),
    ("five stops", {"extra": {"stop": list("abcde")}}, {"generationConfig": {"stopSequences": list("abcde")}}),
    ("stop_sequences", {"extra": {"stop_sequences": ["a"]}}, {"generationConfig": {"stopSequences": ["a"]}}),
    ("snake", {"extra": {"top_k": 3, "presence_penalty": 0, "tool_config": {"functionCallingConfig": {"mode": "NONE"}}}},
     {"generationConfig": {"topK": 3, "presencePenalty": 0}, "toolConfig": {"functionCallingConfig": {"mode": "NONE"}}}),
    ("camel", {"extra": {"topK": 3, "safetySettings": SAFETY, "cachedContent": "c"}},
     {"generationConfig": {"topK": 3}, "safetySettings": SAFETY, "cachedContent": "c"}),
    ("short forms of thinking", {"extra": {"thinking_budget": 0, "includeThoughts": False}},
     {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0, "includeThoughts": False}}}),
    ("short and long", {"extra": {"thinking_budget": 0, "thinking_config": {"includeThoughts": True}}},
     {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0, "includeThoughts": True}}}),
    ("long and short", {"extra": {"thinking_config": {"includeThoughts": True}, "thinking_budget": 0}},
     {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0, "includeThoughts": True}}}),
]  # fmt: skip


@pytest.mark.parametrize(("config", "expected"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_a_parameter(recorder: Recorder, config: dict[str, Any], expected: dict[str, Any]) -> None:
    client(recorder).get_response("Hi", config)
    sent = fits_the_sdk(recorder.requests[0].json)
    assert sent == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], **expected}


def test_an_unknown_parameter_goes_out_verbatim(recorder: Recorder) -> None:
    client(recorder).get_response("Hi", {"extra": {"no_such_thing": {"a_b": 1}}})
    assert recorder.requests[0].json["generationConfig"] == {"no_such_thing": {"a_b": 1}}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"seed": 2**31}, "32 bits"),
    ({"seed": -(2**31) - 1}, "32 bits"),
    ({"max_tokens": 2**31}, "32 bits"),
    ({"extra": {"stop": list("abcdef")}}, "takes 5"),
    ({"extra": {"stop": [""]}}, "stop"),
    ({"extra": {"system": "a", "system_instruction": "b"}}, "different texts"),
    ({"extra": {"model": "x"}}, "model"),
    ({"extra": {"contents": []}}, "contents"),
    ({"temperature": 1, "extra": {"temperature": 0}}, "repeats"),
    ({"extra": {"thinking_budget": 0, "thinking_config": 3}}, "thinking_config"),
]


@pytest.mark.parametrize(("config", "words"), WRONG)
def test_a_wrong_parameter_is_found_before_anything_is_sent(
    recorder: Recorder, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=words):
        client(recorder).get_response("Hi", config)
    assert recorder.requests == []


def test_a_conversation(recorder: Recorder) -> None:
    own_part = {"text": "c", "thoughtSignature": "QQ=="}
    turns = [
        {"role": "system", "content": "S"}, {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}]}, {"role": "model", "content": [own_part]},
        {"role": "user", "content": [{"inlineData": {"mimeType": "image/png", "data": "QQ=="}}]},
    ]  # fmt: skip
    client(recorder).get_response(turns)
    assert fits_the_sdk(recorder.requests[0].json) == {
        "systemInstruction": {"parts": [{"text": "S"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": [{"text": "b"}]},
            {"role": "model", "parts": [own_part]},
            {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "QQ=="}}]},
        ],
    }  # fmt: skip


# --- Environment ---

KEYS = [
    ({"GOOGLE_API_KEY": "g", "GEMINI_API_KEY": "m"}, {}, "g"),
    ({"GEMINI_API_KEY": "m"}, {}, "m"),
    ({"GOOGLE_API_KEY": "", "GEMINI_API_KEY": "m"}, {}, "m"),
    ({"GOOGLE_API_KEY": " \n", "GEMINI_API_KEY": " m\n"}, {}, "m"),
    ({"GOOGLE_API_KEY": "g"}, {"api_key": "own"}, "own"),
    ({"GOOGLE_API_KEY": "g"}, {"api_key": ""}, "g"),
    ({}, {}, None),
]


@pytest.mark.parametrize(("variables", "options", "sent"), KEYS)
def test_keys(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], options: Any, sent: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    llmbackend.Client("gemini", "m", base_url=recorder.root, **options).get_response("Hi")
    assert recorder.requests[0].headers.get("x-goog-api-key") == sent


def test_no_key_for_gemini_itself(recorder: Recorder) -> None:
    for options in ({}, {"base_url": f"{recorder.root}/generativelanguage.googleapis.com"}):
        with pytest.raises(llmbackend.ConfigurationError, match="GOOGLE_API_KEY.*GEMINI_API_KEY"):
            llmbackend.Client("gemini", "m", **options)


@pytest.mark.parametrize(
    ("base", "options", "path"),
    [
        ("/proxy/", {}, "/proxy/v1beta"), ("", {"api_version": "v1"}, "/v1"), ("", {"api_version": "beta"}, "/v1beta"),
        ("/v1beta", {}, "/v1beta"), ("/p/v1beta/", {}, "/p/v1beta"),
        ("/v1beta", {"api_version": "v1"}, "/v1"), ("/v1/", {"api_version": "v1beta"}, "/v1beta"),
        ("/p/v1alpha", {"api_version": "beta"}, "/p/v1beta"), ("/v1beta2", {"api_version": "v1"}, "/v1"),
        ("/v1", {}, "/v1"), ("/v1alpha", {}, "/v1alpha"), ("/vertex", {"api_version": "v1"}, "/vertex/v1"),
    ],
)  # fmt: skip
def test_base_url_from_the_environment(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, base: str, options: dict[str, str], path: str
) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", recorder.root + base)
    llmbackend.Client("gemini", "m", **options).get_response("Hi")
    assert recorder.requests[0].path == f"{path}/models/m:generateContent"
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v1alpha")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    llmbackend.Client("gemini", "m", base_url=recorder.root).get_response("Hi")
    assert recorder.requests[1].path == "/v1alpha/models/m:generateContent"


def test_a_wrong_api_version() -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="api_version"):
        llmbackend.Client("gemini", "m", api_key="k", api_version="v1/x")


# --- Files and batches ---

UPLOAD = {"x-goog-upload-status": "active", "x-goog-upload-url": "https://elsewhere.example/upload/v1beta/files?upload_id=UID1&upload_protocol=resumable"}  # fmt: skip
FILE = {"file": {"name": "files/abc123", "uri": "https://x/v1beta/files/abc123", "state": "ACTIVE"}}
FINAL = Reply(FILE, headers={"x-goog-upload-status": "final"})
ACTIVE = Reply(b"", headers={"x-goog-upload-status": "active"})
START = Reply(b"", headers=UPLOAD)
HEADERS_OF_THE_START = (
    "x-goog-upload-header-content-length",
    "x-goog-upload-header-content-type",
    "x-goog-upload-protocol",
)
OPTIONS: dict[str, Any] = {"display_name": "d", "custom_ids": ["k1"]}


def without_name(body: dict[str, Any]) -> dict[str, Any]:
    body["file"].pop("display_name", None)
    return body


@pytest.mark.parametrize("version", ["v1beta", "v1"])
def test_a_batch_by_file(recorder: Recorder, version: str) -> None:
    done = operation(done=True, inputConfig={"fileName": "files/abc123"}, output={"responsesFile": "files/batch-xyz"})
    line = json.dumps({"key": "000000:k1", "response": candidate('{"a": 1}')}) + "\n"
    not_found = Reply({"error": {"code": 404, "message": "no", "status": "NOT_FOUND"}}, status=404)
    recorder.replies = [
        START,
        FINAL,
        Reply(operation("PENDING", name="batches/b1")),
        Reply(done),
        not_found,
        Reply(line),
    ]
    asked = client(recorder, api_version=version)
    batch = asked.submit_batch(["Hi"], {"temperature": 0.2}, DICT_SCHEMA, OPTIONS)
    assert batch.wait(poll_interval=0).results() == [{"a": 1}]
    start, chunk, create, get, download, second = recorder.requests

    theirs = ROWS[GENAI + ("files.upload BytesIO 0" if version == "v1beta" else "default-version files.upload 0")]
    size = str(len(chunk.body))
    theirs = json.loads(json.dumps(theirs).replace('"3"', f'"{size}"').replace(": 3}", f": {size}}}"))
    compare_head(recorder, theirs, 0)
    assert start.json["file"]["display_name"] == "batch.jsonl"
    assert without_name(start.json) == theirs["body"]
    named = ROWS[GENAI + "files.upload path + mime 0"]
    assert set(named["body"]["file"]) == set(start.json["file"])
    assert {name for name in named["headers"] if "upload" in name} - set(start.headers) == {"x-goog-upload-file-name"}

    theirs = ROWS[GENAI + "default-version files.upload 1"]
    theirs = {**theirs, "path": theirs["path"].replace("/v1/", "/v1beta/")}
    compare_head(recorder, theirs, 1, ("content-type", *HEADERS_OF_THE_START))
    assert chunk.headers["content-length"] == size
    assert chunk.headers["host"] == f"127.0.0.1:{recorder.port}"
    sent = json.loads(chunk.body)
    assert chunk.body == json.dumps(sent, separators=(",", ":")).encode() + b"\n"
    assert sent == {
        "key": "000000:k1",
        "request": {
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "generation_config": {"temperature": 0.2, "response_mime_type": "application/json", "response_json_schema": DICT_SCHEMA},
        },
    }  # fmt: skip

    theirs = ROWS[GENAI + ("batches.create file 0" if version == "v1beta" else "batches.create default-version 0")]
    compare_head(recorder, theirs, 2)
    assert create.json == theirs["body"]

    theirs = ROWS[GENAI + "batches.get 0"]
    compare_head(recorder, {**theirs, "path": theirs["path"].replace("v1beta", version)}, 3)
    assert get.body == b""
    theirs = ROWS[GENAI + "files.download default-version 0"]
    compare_head(recorder, {**theirs, "path": f"/download/{version}/files/batch-xyz:download?alt=media"}, 4)
    compare_head(recorder, {**theirs, "path": theirs["path"].replace("/v1/", f"/{version}/")}, 5)
    assert download.body == second.body == b""


def test_two_chunks(recorder: Recorder) -> None:
    recorder.replies = [START, ACTIVE, FINAL, Reply(operation("PENDING"))]
    client(recorder).submit_batch(["x" * (8 << 20)], schema=DICT_SCHEMA)
    start, first, last, _ = recorder.requests
    theirs = ROWS[GENAI + "files.upload two chunks (8 MiB + 5) 0"]
    size = len(first.body) + len(last.body)
    theirs = json.loads(json.dumps(theirs).replace("8388613", str(size)))
    compare_head(recorder, theirs, 0)
    assert without_name(start.json) == theirs["body"]
    assert len(first.body) == 8 << 20
    assert (first.headers["x-goog-upload-command"], first.headers["x-goog-upload-offset"]) == ("upload", "0")
    assert last.headers["x-goog-upload-command"] == "upload, finalize"
    assert last.headers["x-goog-upload-offset"] == str(8 << 20)
    assert json.loads(first.body + last.body)["request"]["contents"][0]["parts"][0]["text"] == "x" * (8 << 20)


INLINE: list[tuple[str, dict[str, Any], Any, dict[str, Any]]] = [
    ("batches.create inline simple 0", {}, None, {"display_name": "d"}),
    ("batches.create inline no display_name 0", {}, None, {}),
    ("batches.create inline pydantic response_schema 0", {}, PERSON, {}),
    (
        "batches.create inline full 0",
        {"temperature": 0.2, "max_tokens": 9, "seed": 1, "extra": {"stop": ["x"], "safety_settings": SAFETY, "schema_field": "responseJsonSchema"}},
        {"type": "object", "properties": {"a": {"type": "string"}}},
        {"display_name": "d", "system": "S"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config", "schema", "options"), INLINE, ids=[row[0] for row in INLINE])
def test_an_inline_batch(recorder: Recorder, name: str, config: Any, schema: Any, options: Any) -> None:
    recorder.replies = [Reply(operation("PENDING"))]
    client(recorder).submit_batch(["Hi"], config, schema, {**options, "custom_ids": ["k1"]})
    theirs = ROWS[GENAI + name]
    compare_head(recorder, theirs)
    sent = recorder.requests[0].json["batch"]
    expected = planned(theirs["body"])["batch"]
    name, _, token = sent.pop("displayName").rpartition(" ")
    assert name == expected.pop("displayName", "llmbackend")
    assert len(token) >= 16
    one = expected["inputConfig"]["requests"]["requests"][0]
    one["metadata"] = {"key": "000000:k1"}
    schema = one["request"].get("generationConfig", {}).get("responseSchema")
    if schema is not None:
        one["request"]["generationConfig"]["responseSchema"] = openapi("response_schema pydantic flat 0")
    assert sent == {"inputConfig": {"requests": {"requests": [one]}}}
    fits_the_sdk(one["request"])


def test_cancel_and_list(recorder: Recorder) -> None:
    recorder.replies = [Reply(operation("PENDING")), Reply({}), Reply(operation("CANCELLED", done=True))]
    client(recorder).submit_batch(["Hi"]).cancel()
    cancel = recorder.requests[1]
    assert (cancel.method, cancel.path) == ("POST", "/v1beta/batches/b1:cancel")
    assert (cancel.body, cancel.headers["content-length"]) == (b"", "0")


def test_looking_for_a_job_that_may_exist(recorder: Recorder) -> None:
    def found(requests: list[Any]) -> Any:
        return {"operations": [operation("RUNNING", displayName=requests[0].json["batch"]["displayName"])]}

    other = operation("RUNNING", name="batches/other", displayName="llmbackend 0123456789abcdef")
    recorder.replies = [Reply(drop=True), Reply({"operations": [other], "nextPageToken": "a/b="}), Reply(found)]
    assert client(recorder, max_retries=0).submit_batch(["Hi"]).id == "batches/b1"
    assert [(request.method, request.path) for request in recorder.requests[1:]] == [
        ("GET", "/v1beta/batches?pageSize=100"), ("GET", "/v1beta/batches?pageSize=100&pageToken=a%2Fb%3D"),
    ]  # fmt: skip


def test_by_id(recorder: Recorder) -> None:
    recorder.replies = [Reply(operation(done=True, response=inlined(result_row("000000:a", "ok"))))]
    assert client(recorder).fetch_batch_results("b1") == ["ok"]
    compare_head(recorder, ROWS[GENAI + "batches.get 0"])


# Rows that a test above compares by name.
ELSEWHERE = [
    GENAI + "model with ? 0", GENAI + "response_json_schema dict 0",
    *(GENAI + name for name, _ in OPENAPI), *(GENAI + name for name, *_ in INLINE),
    GENAI + "response_schema dict additionalProperties true-ish 0",
    "google-generativeai: generate_content response_schema dict additionalProperties 0",
    GENAI + "files.upload path + mime 0", GENAI + "files.upload BytesIO 0", GENAI + "files.upload two chunks (8 MiB + 5) 0",
    GENAI + "default-version files.upload 0", GENAI + "default-version files.upload 1",
    GENAI + "files.download default-version 0", GENAI + "batches.create file 0",
    GENAI + "batches.create default-version 0", GENAI + "batches.get 0",
]  # fmt: skip
