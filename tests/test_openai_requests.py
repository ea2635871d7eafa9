"""What goes out over the wire, against what the official SDK was recorded to send. Every row is compared or listed."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter, ValidationError, create_model
from recorder import Recorder, Reply, answer
from typing_extensions import is_typeddict

import llmbackend

FIXTURES = Path(__file__).parent / "fixtures" / "openai"
ROWS = [json.loads(line) for line in (FIXTURES / "openai_requests.jsonl").read_text().split("\n") if line][1:]

# The calls that our API has no verb for: they cannot be compared.
NO_VERB = {
    "responses.create(stream=True)": "streaming is a later issue",
    "responses.create(stream=True) ended by unknown event then EOF, no [DONE]": "streaming is a later issue",
    "responses.create(stream=True) error event": "streaming is a later issue",
    "responses.create(stream=True) unknown event type": "streaming is a later issue",
    "responses.stream(text_format=MovieReview)": "streaming is a later issue",
    "responses.delete": "nothing is deleted",
    "files.retrieve": "a file's description is never needed",
    "files.list(purpose=batch,limit=10,order=asc,after)": "files are not listed",
    "models.list": "models are not listed",
}

# Where we send something else than the SDK, or send where it does not: (what we do, why).
DIFFERENCES = {
    "responses.create(temperature=None)  (explicit None -> null on the wire)": "None means not given: no null is sent",
    "responses.create(seed=42)": "a seed is dropped with a warning, not a TypeError",
    "responses.create(text.format json_schema strict=None)": "strict is always said: false is what leaving it out means",
    "files.create(non-ascii file name)": "our file is always called batch.jsonl, in ASCII",
    "files.content(empty id)": "an empty id of a file means that there is none",
    "batches.create(completion_window=48h)": "the recorder's 400 is not part of it",
    "batches.list(limit=2,after) two pages": "our pages are as long as OpenAI allows: limit=100",
    "env {'OPENAI_API_KEY': '  sk-pad ', 'OPENAI_BASE_URL': 'http://127.0.0.1:PORT/v1'}": "blanks around a key are cut off",
    "env {'OPENAI_API_KEY': 'sk-nl\\n', 'OPENAI_BASE_URL': 'http://127.0.0.1:PORT/v1'}": "blanks around a key are cut off",
}

# The schemas that we send in another form than the SDK; tests/schema_oracle.rs holds each form, exactly.
SCHEMA_DIFFERENCES = {
    "WithDesc": "OpenAI does not list minLength and maxLength: only we enforce them",
    "Unions": "oneOf is refused: sent as anyOf",
    "AnyM": "Any cannot be said in strict mode: strict false, the caller's own schema",
    "TupM": "tuples cannot be said in strict mode: strict false, the caller's own schema",
    "ExtraAllow": "open objects cannot be said in strict mode: strict false, the caller's own schema",
    "RootModel[Addr]": "a name has only letters, digits, _ and -",
    "Default_Nested": "defaults were refused by the API: dropped",
    "DeepConst": "OpenAI does not list maxLength: only we enforce it",
    "Gen[int]": "a name has only letters, digits, _ and -",
    "Gen[Addr]": "a name has only letters, digits, _ and -",
    "DC": "dataclasses are taken, through Pydantic's TypeAdapter",
    "TD": "TypedDicts are taken, through Pydantic's TypeAdapter",
    "list[int]": "any type that Pydantic knows is taken; a root that is no object is wrapped",
}

REVIEW = {"title": "A", "rating": 1.0, "summary": "b"}


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    with Recorder() as recorder:
        yield recorder


def row(call: str) -> dict[str, Any]:
    return next(row for row in ROWS if row["call"] == call)


def client(recorder: Recorder, model: str = "gpt-4o-mini", **options: Any) -> llmbackend.Client:
    return llmbackend.Client("openai", model, **{"api_key": "sk-test", "base_url": recorder.url, **options})


def compare_head(recorder: Recorder, expected: dict[str, Any], at: int = -1) -> None:
    """Method, path and the headers that matter."""
    sent = recorder.requests[at]
    assert (sent.method, sent.path) == (expected["method"], expected["path"])
    for name, value in expected["headers"].items():
        if name.startswith("x-stainless") or name in ("user-agent", "content-length"):
            continue
        if value.startswith("multipart/form-data"):
            assert sent.headers[name].startswith("multipart/form-data; boundary=")
        else:
            assert sent.headers[name].replace(", ", ",") == value.replace(", ", ",") or name == "accept-encoding"
    assert {part.strip() for part in sent.headers.get("accept-encoding", "").split(",")} <= {
        "gzip",
        "deflate",
        "identity",
    }
    assert sent.headers["user-agent"] == f"llmbackend/{llmbackend.__version__}"
    assert not [name for name in sent.headers if "stainless" in name or name == "transfer-encoding"]
    has_body = sent.method == "POST"
    assert ("content-length" in sent.headers) == has_body
    assert ("content-type" in sent.headers) == (has_body and bool(sent.body))
    ours = {"host", "accept", "authorization", "user-agent", "accept-encoding", "content-length", "content-type"}
    assert set(sent.headers) - ours <= set(expected["headers"])


def sent_json(recorder: Recorder, at: int = -1) -> dict[str, Any]:
    """The body of an immediate call, without the `"stream": false` that we always add, fit for the SDK's own types."""
    body: dict[str, Any] = recorder.requests[at].json
    assert body.pop("stream") is False
    return fits_the_sdk(body)


def _closed_params() -> TypeAdapter[Any]:
    """The SDK's own type of a request, which forbids unknown keys, all the way down."""
    for name, module in list(sys.modules.items()):
        if name.startswith("openai.types."):
            for kind in vars(module).values():
                if is_typeddict(kind):
                    kind.__pydantic_config__ = {"extra": "forbid"}
    return TypeAdapter(ResponseCreateParamsNonStreaming)


PARAMS = _closed_params()


def fits_the_sdk(body: dict[str, Any]) -> dict[str, Any]:
    list(PARAMS.validate_python(body)["input"])  # the items of an iterable are checked one by one, as they are read
    return body


@pytest.mark.parametrize(
    "wrong",
    [
        {"stop": ["x"]},
        {"input": [{"role": "user", "content": "x", "colour": 1}]},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {}, "colour": 1}}},
        {"reasoning": {"efort": "low"}},
    ],
)
def test_the_judge_is_strict(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        fits_the_sdk({"model": "m", "input": "x", **wrong})


def test_every_row_is_compared_or_listed() -> None:
    calls = [row["call"] for row in ROWS]
    assert len(calls) == len(set(calls)) == 56
    seen = (
        set(NO_VERB)
        | {call for call, _ in CALLS}
        | set(ELSEWHERE)
        | {f"responses.parse(text_format={n})" for n in MODELS}
    )
    assert seen == set(calls)
    assert set(NO_VERB) | set(DIFFERENCES) <= set(calls)
    assert set(SCHEMA_DIFFERENCES) <= set(MODELS)


# --- Single calls: (the SDK's call, ours) ---

FORMAT_X = row("responses.create(text.format json_schema strict=None)")["body"]["text"]["format"]
EXTRA = {
    key: value
    for key, value in row(
        "responses.create(metadata,store,service_tier,reasoning,text.verbosity,truncation,user,safety_identifier,prompt_cache_key)"
    )["body"].items()
    if key not in ("model", "input")
}

CALLS: list[tuple[str, dict[str, Any]]] = [
    (
        "responses.create(+instructions,temperature,top_p,max_output_tokens)",
        {"config": {"temperature": 0.7, "top_p": 0.9, "max_tokens": 100, "extra": {"system": "You are helpful and concise."}}},
    ),
    ("responses.create(temperature=0, int)", {"config": {"temperature": 0, "top_p": 1}}),
    (
        "responses.create(temperature=None)  (explicit None -> null on the wire)",
        {"config": {"temperature": None, "max_tokens": None, "extra": {"system": None}}},
    ),
    (
        "responses.create(input=list with developer role + typed content)",
        {"input": [{"role": "developer", "content": "x"},
                   {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]},
    ),
    ("responses.create(unicode, control chars)", {"input": 'héllo ☃ 😀 "q" \\ / \u2028 \t\n\x00\x7f'}),
    (
        "responses.create(metadata,store,service_tier,reasoning,text.verbosity,truncation,user,safety_identifier,prompt_cache_key)",
        {"model": "gpt-5-mini", "config": {"extra": EXTRA}},
    ),
    (
        "responses.create(text.format json_schema strict=None)",
        {"schema": llmbackend.StructuredOutput(schema=FORMAT_X["schema"], name="x", strict=False),
         "answer": '{"sentiment": "neutral", "confidence": 1}'},
    ),
    (
        "responses.create(text.format json_object)",
        {"input": "Reply in JSON", "config": {"extra": {"text": {"format": {"type": "json_object"}}}}},
    ),
    ("responses.create(text.format text)", {"input": "x", "config": {"extra": {"text": {"format": {"type": "text"}}}}}),
    ("responses.create: failed status with 200", {"input": "x"}),
    ("extra_headers Idempotency-Key", {"headers": {"Idempotency-Key": "k1"}}),
]  # fmt: skip


@pytest.mark.parametrize(("call", "ours"), CALLS, ids=[call for call, _ in CALLS])
def test_a_call(recorder: Recorder, call: str, ours: dict[str, Any]) -> None:
    recorder.replies = [Reply(answer(ours.get("answer", "ok")))]
    options = {"headers": ours["headers"]} if "headers" in ours else {}
    asked = client(recorder, ours.get("model", "gpt-4o-mini"), **options)
    asked.get_response(ours.get("input", "Hi"), ours.get("config"), ours.get("schema"))
    expected = row(call)
    compare_head(recorder, expected)
    body = expected["body"]
    if call.startswith("responses.create(temperature=None)"):
        body = {key: value for key, value in body.items() if value is not None}
    if "strict=None" in call:
        body["text"]["format"]["strict"] = False
    sent = sent_json(recorder)
    assert sent == body
    if isinstance(body.get("text"), dict) and "format" in body["text"]:
        assert json.dumps(sent["text"]["format"].get("schema")) == json.dumps(body["text"]["format"].get("schema"))
    if "body_raw" in expected:  # compact, UTF-8, nothing escaped that need not be
        raw = recorder.requests[-1].body
        assert raw.replace(b',"stream":false', b"") == expected["body_raw"].encode()
    assert isinstance(sent.get("temperature", 0.5), type(body.get("temperature", 0.5)))


# --- Schemas ---

MODELS = [
    row["call"].removeprefix("responses.parse(text_format=").removesuffix(")")
    for row in ROWS
    if row["call"].startswith("responses.parse(text_format=")
]


@pytest.mark.parametrize("model", MODELS)
def test_a_schema(recorder: Recorder, model: str) -> None:
    expected = row(f"responses.parse(text_format={model})")
    with pytest.raises(llmbackend.InvalidOutputError):  # the answer is "ok"
        client(recorder).get_response(
            "x", schema=llmbackend.StructuredOutput(schema=expected["source_json_schema"], name=model)
        )
    sent = sent_json(recorder)
    theirs = None if expected["method"] is None else expected["body"]
    same = json.dumps(sent, sort_keys=False) == json.dumps(in_our_order(theirs)) if theirs else False
    assert same == (model not in SCHEMA_DIFFERENCES), f"{json.dumps(sent)}\n{json.dumps(theirs)}"
    if theirs:
        compare_head(recorder, expected)
        # Where only the form differs, the order of the properties does not.
        assert keys_of_properties(sent) == keys_of_properties(theirs)


def in_our_order(body: Any) -> Any:
    """Everything in the SDK's order but the top level of the body, whose order is free."""
    return {key: body[key] for key in ("model", "text", "input")}


def keys_of_properties(node: Any) -> list[list[str]]:
    if isinstance(node, list):
        return [keys for item in node for keys in keys_of_properties(item)]
    if not isinstance(node, dict):
        return []
    own = [list(node["properties"])] if isinstance(node.get("properties"), dict) else []
    return own + [keys for key in sorted(node) for keys in keys_of_properties(node[key])]


def test_commentary_then_final_answer(recorder: Recorder) -> None:
    expected = row("responses.parse: commentary phase then final_answer")
    message = {"type": "message", "role": "assistant"}
    recorder.replies = [
        Reply(
            answer("")
            | {
                "output": [
                    {**message, "phase": "commentary", "content": [{"type": "output_text", "text": "thinking"}]},
                    {
                        **message,
                        "phase": "final_answer",
                        "content": [{"type": "output_text", "text": json.dumps(REVIEW)}],
                    },
                ]
            }
        )
    ]
    review = create_model("MovieReview", title=(str, ...), rating=(float, ...), summary=(str, ...))
    assert client(recorder).get_response("x", schema=review).model_dump() == REVIEW
    compare_head(recorder, expected)
    assert json.dumps(sent_json(recorder)) == json.dumps(in_our_order(expected["body"]))


# --- Environment ---


@pytest.mark.parametrize("slash", ["", "/"])
def test_base_url_from_the_environment(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, slash: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", recorder.url + slash)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    llmbackend.Client("openai", "gpt-4o-mini").get_response("Hi")
    expected = row(f"OPENAI_BASE_URL=http://HOST/v1{slash}")
    expected["headers"]["authorization"] = "Bearer sk-env"
    compare_head(recorder, expected)
    assert sent_json(recorder) == expected["body"]


@pytest.mark.parametrize(("key", "sent"), [("  sk-pad ", "sk-pad"), ("sk-nl\n", "sk-nl")])
def test_keys_with_blanks(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, key: str, sent: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", recorder.url)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    llmbackend.Client("openai", "gpt-4o-mini").get_response("Hi")
    assert recorder.requests[0].headers["authorization"] == f"Bearer {sent}"


def test_a_seed_is_not_sent_to_openai(recorder: Recorder) -> None:
    asked = client(recorder, base_url=recorder.openai_url)
    with pytest.warns(llmbackend.UnsupportedParameterWarning, match="seed"):
        asked.get_response("Hi", {"seed": 42})
    assert sent_json(recorder) == {"model": "gpt-4o-mini", "input": "Hi"}


# --- Files and batches ---

JOB = {
    "id": "batch_1", "object": "batch", "status": "completed", "input_file_id": "file-abc", "output_file_id": "file-abc",
    "error_file_id": "", "created_at": 1, "request_counts": {"total": 1, "completed": 1, "failed": 0},
    "endpoint": "/v1/responses", "completion_window": "24h",
}  # fmt: skip


@pytest.mark.parametrize("window", ["24h", "48h"])
def test_a_batch(recorder: Recorder, window: str) -> None:
    line = {
        "custom_id": "r-0",
        "response": {"status_code": 200, "request_id": "q", "body": answer("ok")},
        "error": None,
    }
    recorder.replies = [Reply({"id": "file-abc"}), Reply(JOB), Reply(JOB), Reply(json.dumps(line) + "\n")]
    options = {"custom_ids": ["r-0"], "completion_window": window}
    batch = client(recorder).submit_batch(["Hi"], batch_options=options)
    assert batch.results() == ["ok"]

    upload = row("files.create(non-ascii file name)")
    compare_head(recorder, upload, 0)
    sent = recorder.requests[0]
    boundary = sent.headers["content-type"].partition("boundary=")[2]
    parts = upload["body_multipart"].replace("BOUNDARY", boundary).replace("bätch %22x%22.jsonl", "batch.jsonl")
    assert sent.body == parts.encode()

    create = row("batches.create" if window == "24h" else "batches.create(completion_window=48h)")
    compare_head(recorder, create, 1)
    assert recorder.requests[1].json == create["body"]
    assert int(recorder.requests[1].headers["content-length"]) == len(recorder.requests[1].body)

    compare_head(recorder, row("files.content"), -1)
    for request in recorder.requests[2:-1]:
        assert (request.method, request.path, request.body) == ("GET", "/v1/batches/batch_1", b"")


def test_an_id_that_needs_escaping(recorder: Recorder) -> None:
    recorder.replies = [Reply({**JOB, "output_file_id": "file/../x y"}), Reply("\n")]
    client(recorder).fetch_batch_results("batch/../1?x#y")
    assert recorder.requests[0].path == "/v1/batches/batch%2F..%2F1%3Fx%23y"
    contents = [request for request in recorder.requests if request.path.startswith("/v1/files/")]
    assert contents[0].path == row("files.content(id needing escaping)")["path"]


def test_an_empty_file_id_is_no_file(recorder: Recorder) -> None:
    # A job that counted answers would be polled on until it names their file.
    none_done = {"total": 1, "completed": 0, "failed": 0}
    job = {**JOB, "output_file_id": "", "input_file_id": "", "request_counts": none_done}
    recorder.replies = [Reply(job), Reply(JOB)]
    with pytest.raises(llmbackend.BatchItemsError, match="missing"):
        client(recorder).fetch_batch_results("batch_1")
    assert {request.path for request in recorder.requests} == {"/v1/batches/batch_1"}


def test_looking_for_a_job_that_may_exist(recorder: Recorder) -> None:
    expected = row("batches.list(limit=2,after) two pages")
    other = {**JOB, "id": "batch_0", "input_file_id": "file-other", "created_at": 2_000_000_000}
    recorder.replies = [
        Reply({"id": "file-abc"}),
        Reply(drop=True),
        Reply({"object": "list", "data": [other], "has_more": True}),
        Reply({"object": "list", "data": [JOB], "has_more": False}),
    ]
    batch = client(recorder, max_retries=0).submit_batch(["Hi"])
    assert batch.id == "batch_1"
    expected["path"] = expected["path"].replace("limit=2", "limit=100")
    compare_head(recorder, expected, 3)
    assert recorder.requests[2].path == "/v1/batches?limit=100"
    assert [request.method for request in recorder.requests] == ["POST", "POST", "GET", "GET"]


# Rows that a test above compares by name.
ELSEWHERE = [
    "responses.create(seed=42)", "responses.parse: commentary phase then final_answer",
    "files.create(non-ascii file name)", "files.content", "files.content(id needing escaping)", "files.content(empty id)",
    "batches.create", "batches.create(completion_window=48h)", "batches.list(limit=2,after) two pages",
    "OPENAI_BASE_URL=http://HOST/v1", "OPENAI_BASE_URL=http://HOST/v1/",
    "env {'OPENAI_API_KEY': '  sk-pad ', 'OPENAI_BASE_URL': 'http://127.0.0.1:PORT/v1'}",
    "env {'OPENAI_API_KEY': 'sk-nl\\n', 'OPENAI_BASE_URL': 'http://127.0.0.1:PORT/v1'}",
]  # fmt: skip
