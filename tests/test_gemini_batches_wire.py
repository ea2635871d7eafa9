"""Gemini's batch jobs over the wire: what goes up, how a lost job is found, what states and rows mean."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from gemini_wire import DICT_SCHEMA, candidate, client, error, inlined, operation, row
from recorder import Recorder, Reply

import llmbackend

START = Reply(
    b"", headers={"x-goog-upload-status": "active", "x-goog-upload-url": "https://elsewhere.example/up/x?upload_id=U"}
)
ACTIVE = Reply(b"", headers={"x-goog-upload-status": "active"})
FILE = {"file": {"name": "files/in1"}}
FINAL = Reply(FILE, headers={"x-goog-upload-status": "final"})
PENDING = Reply(operation("PENDING"))
DEFAULT = "llmb-000000"


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def paths(recorder: Recorder) -> list[str]:
    return [request.path for request in recorder.requests]


def fetched(recorder: Recorder, *replies: Reply, **options: Any) -> llmbackend.Batch:
    recorder.requests.clear()
    recorder.replies = list(replies)
    return client(recorder, **{"max_retries": 0, **options}).get_batch("batches/b1")


# --- Up ---


@pytest.mark.parametrize(("count", "is_inline"), [(1, True), (5000, True), (5001, False)])
def test_few_rows_go_inline_and_many_by_file(recorder: Recorder, count: int, is_inline: bool) -> None:
    recorder.replies = [PENDING] if is_inline else [START, FINAL, PENDING]
    client(recorder).submit_batch(f"p{i}" for i in range(count))
    if is_inline:
        rows = recorder.requests[0].json["batch"]["inputConfig"]["requests"]["requests"]
        assert [line["metadata"]["key"] for line in rows] == [f"llmb-{i:06}" for i in range(count)]
    else:
        rows = [json.loads(line) for line in recorder.requests[1].body.decode().split("\n")[:-1]]
        assert [line["key"] for line in rows] == [f"llmb-{i:06}" for i in range(count)]
        assert recorder.requests[2].json["batch"] == {
            "displayName": "llmbackend",
            "inputConfig": {"fileName": "files/in1"},
        }
    assert [line["request"]["contents"][0]["parts"][0]["text"] for line in rows] == [f"p{i}" for i in range(count)]


def test_many_bytes_go_by_file(recorder: Recorder) -> None:
    prompts = ["x" * (1 << 20)] * 19
    recorder.replies = [START, ACTIVE, ACTIVE, FINAL, PENDING]
    client(recorder).submit_batch(prompts)
    chunks = recorder.requests[1:4]
    assert [chunk.headers["x-goog-upload-offset"] for chunk in chunks] == ["0", str(8 << 20), str(16 << 20)]
    assert [chunk.headers["x-goog-upload-command"] for chunk in chunks] == ["upload", "upload", "upload, finalize"]
    lines = b"".join(chunk.body for chunk in chunks).split(b"\n")
    assert len(lines) == 20
    assert lines[-1] == b""
    recorder.requests.clear()
    recorder.replies = [PENDING]
    client(recorder).submit_batch(prompts[:17])
    assert len(recorder.requests) == 1
    assert len(recorder.requests[0].body) < 20 << 20


def test_a_file_is_in_snake_case_outside_of_schemas_and_data(recorder: Recorder) -> None:
    recorder.replies = [START, FINAL, PENDING]
    extra = {
        "top_k": 3, "thinkingBudget": 0, "stop": "x", "safetySettings": [{"category": "C", "threshold": "OFF"}],
        "tools": [{"googleSearch": {}}, {"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"aB": {}}}]}],
        "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["fN"]}},
    }  # fmt: skip
    schema = {"type": "object", "properties": {"aB": DICT_SCHEMA}, "required": ["aB"]}
    turns = [{"role": "user", "content": [{"inlineData": {"mimeType": "a/b", "data": "aB"}}]}]
    client(recorder).submit_batch([turns], {"seed": 1, "max_tokens": 9, "extra": extra}, schema, {"system": "S"})
    assert json.loads(recorder.requests[1].body)["request"] == {
        "contents": [{"role": "user", "parts": [{"inline_data": {"mime_type": "a/b", "data": "aB"}}]}],
        "system_instruction": {"parts": [{"text": "S"}]},
        "safety_settings": [{"category": "C", "threshold": "OFF"}],
        "tools": [{"google_search": {}}, {"function_declarations": [{"name": "f", "parameters_json_schema": {"aB": {}}}]}],
        "tool_config": {"function_calling_config": {"allowed_function_names": ["fN"]}},
        "generation_config": {
            "top_k": 3, "thinking_config": {"thinking_budget": 0}, "stop_sequences": ["x"], "seed": 1, "max_output_tokens": 9,
            "response_mime_type": "application/json", "response_json_schema": schema,
        },
    }  # fmt: skip


SMALL = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("schema", "field", "is_inline", "sent"),
    [
        (SMALL, None, True, "responseSchema"),
        (SMALL, "responseJsonSchema", True, "responseJsonSchema"),
        (DICT_SCHEMA, None, False, "response_json_schema"),
        (DICT_SCHEMA, "response_json_schema", True, "responseJsonSchema"),
    ],
)
def test_the_field_of_a_schema(recorder: Recorder, schema: Any, field: str | None, is_inline: bool, sent: str) -> None:
    recorder.replies = [PENDING] if is_inline else [START, FINAL, PENDING]
    client(recorder).submit_batch(["x"], {"extra": {} if field is None else {"schema_field": field}}, schema)
    text = recorder.requests[0 if is_inline else 1].body.decode()
    assert f'"{sent}":' in text
    assert "schema_field" not in text
    assert len(recorder.requests) == (1 if is_inline else 3)


def test_an_upload_whose_chunks_are_not_confirmed(recorder: Recorder) -> None:
    quiet = Reply(b"")
    recorder.replies = [START, quiet, ACTIVE, quiet, quiet, FINAL, PENDING]
    client(recorder).submit_batch(["x" * (8 << 20)], schema=DICT_SCHEMA)
    offsets = [request.headers["x-goog-upload-offset"] for request in recorder.requests[1:6]]
    assert offsets == ["0", "0", str(8 << 20), str(8 << 20), str(8 << 20)]
    recorder.requests.clear()
    recorder.replies = [START, quiet]
    with pytest.raises(llmbackend.APIError, match="x-goog-upload-status: missing"):
        client(recorder).submit_batch(["x"], schema=DICT_SCHEMA)
    assert len(recorder.requests) == 4  # never a job
    recorder.requests.clear()
    recorder.replies = [START, Reply(FILE), PENDING]  # a file, but no status
    assert client(recorder).submit_batch(["x"], schema=DICT_SCHEMA).id == "batches/b1"


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        ([Reply(b"")], "x-goog-upload-url"),
        ([Reply(b"", headers={"x-goog-upload-url": "nowhere"})], "x-goog-upload-url"),
        ([START, ACTIVE], "active"),
        ([START, Reply({}, headers={"x-goog-upload-status": "final"})], "final"),
        ([START, Reply(FILE, headers={"x-goog-upload-status": "cancelled"})], "cancelled"),
    ],
)
def test_an_upload_that_goes_wrong(recorder: Recorder, replies: list[Reply], words: str) -> None:
    recorder.replies = replies
    with pytest.raises(llmbackend.APIError, match=words):
        client(recorder, max_retries=0).submit_batch(["x"], schema=DICT_SCHEMA)
    assert not [path for path in paths(recorder) if "batchGenerateContent" in path]


def test_an_upload_whose_piece_is_lost_begins_again(recorder: Recorder) -> None:
    recorder.replies = [START, Reply(drop=True), Reply(drop=True), START, FINAL, PENDING]
    assert client(recorder, max_retries=1).submit_batch(["x"], schema=DICT_SCHEMA).id == "batches/b1"
    assert len([path for path in paths(recorder) if "batchGenerateContent" in path]) == 1


@pytest.mark.parametrize(
    "lost", [Reply(drop=True), error(500), error(503), error(504), Reply("<html>", 200), Reply({}, 200)]
)
@pytest.mark.parametrize("by_file", [False, True])
def test_a_lost_answer_is_looked_for(recorder: Recorder, lost: Reply, by_file: bool) -> None:
    def listed(requests: list[Any]) -> Any:
        create = next(request for request in requests if "batchGenerateContent" in request.path).json["batch"]
        mine = operation(
            "RUNNING", name="batches/mine", displayName=create["displayName"], inputConfig=create["inputConfig"]
        )
        same_name = operation(
            "RUNNING", name="batches/a", displayName="llmbackend", inputConfig={"fileName": "files/other"}
        )
        unnamed_file = operation("RUNNING", name="batches/b", displayName="llmbackend")
        return {"operations": [same_name, unnamed_file, mine]}

    recorder.replies = [*([START, FINAL] if by_file else []), lost, Reply(listed)]
    assert client(recorder).submit_batch(["x"], schema=DICT_SCHEMA if by_file else None).id == "batches/mine"
    assert len([path for path in paths(recorder) if "batchGenerateContent" in path]) == 1


def test_a_refused_creation(recorder: Recorder) -> None:
    recorder.replies = [error(400, "no", "INVALID_ARGUMENT")]
    with pytest.raises(llmbackend.InvalidRequestError):
        client(recorder).submit_batch(["x"])
    assert len(recorder.requests) == 1
    recorder.replies = [error(429, details=[{"retryDelay": "0s"}]), PENDING]
    recorder.requests.clear()
    assert client(recorder).submit_batch(["x"]).id == "batches/b1"
    assert len(recorder.requests) == 2


# --- States ---

STATES = [
    ("UNSPECIFIED", "pending"), ("PENDING", "pending"), ("QUEUED", "pending"), ("RUNNING", "in_progress"),
    ("CANCELLING", "in_progress"), ("UPDATING", "in_progress"), ("PAUSED", "in_progress"), ("SUCCEEDED", "completed"),
    ("PARTIALLY_SUCCEEDED", "completed"), ("FAILED", "failed"), ("CANCELLED", "cancelled"), ("EXPIRED", "cancelled"),
    ("BRAND_NEW", "in_progress"),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "state"), STATES)
@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_"])
def test_a_state(recorder: Recorder, prefix: str, suffix: str, state: str) -> None:
    batch = fetched(recorder, Reply(operation(prefix + suffix, response=inlined(row("a", "x")))))
    assert (batch.status(), batch.normalized_status()) == (f"JOB_STATE_{suffix}", state)


def test_a_state_that_only_the_operation_tells(recorder: Recorder) -> None:
    for fields, state in (
        ({}, "pending"), ({"done": True, "response": inlined(row("a", "x"))}, "completed"),
        ({"done": True, "error": {"code": 1, "message": "c"}}, "cancelled"), ({"done": True, "error": {"code": 13}}, "failed"),
    ):  # fmt: skip
        for named in (None, "BATCH_STATE_BRAND_NEW"):
            expected = "in_progress" if named and not fields else state
            assert fetched(recorder, Reply(operation(named, **fields))).normalized_status() == expected


def test_a_batch_without_its_operation(recorder: Recorder) -> None:
    body = {
        "name": "batches/b1",
        "state": "BATCH_STATE_SUCCEEDED",
        "output": inlined(row(DEFAULT, "ok")),
        "batchStats": {"requestCount": "1"},
    }
    assert fetched(recorder, Reply(body)).results() == ["ok"]


# --- Down ---

ITEM = row(DEFAULT, "ok")
PLACES: list[tuple[str, dict[str, Any]]] = [
    ("response, nested", {"response": inlined(ITEM)}),
    ("response, flat", {"response": {"inlinedResponses": [ITEM]}}),
    ("metadata.output, nested", {"output": inlined(ITEM)}),
    ("metadata.output, flat", {"output": {"inlinedResponses": [ITEM]}}),
    ("both", {"output": inlined(ITEM), "response": inlined(ITEM)}),
]


@pytest.mark.parametrize("fields", [place[1] for place in PLACES], ids=[place[0] for place in PLACES])
def test_where_inline_results_are(recorder: Recorder, fields: dict[str, Any]) -> None:
    assert fetched(recorder, Reply(operation(done=True, batchStats={"requestCount": "1"}, **fields))).results() == [
        "ok"
    ]


@pytest.mark.parametrize(
    "fields", [{"response": {"responsesFile": "files/batch-b1"}}, {"output": {"responsesFile": "files/batch-b1"}}]
)
def test_a_result_file(recorder: Recorder, fields: dict[str, Any]) -> None:
    line = Reply(json.dumps({"response": candidate("a\u2028b"), "key": DEFAULT}, ensure_ascii=False) + "\n")
    assert fetched(recorder, Reply(operation(**fields)), line).results() == ["a\u2028b"]
    assert paths(recorder)[1:] == ["/download/v1beta/files/batch-b1:download?alt=media"]
    assert fetched(recorder, Reply(operation(**fields)), error(404), line).results() == ["a\u2028b"]
    assert paths(recorder)[2:] == ["/v1beta/files/batch-b1:download?alt=media"]
    with pytest.raises(llmbackend.PermissionDeniedError):
        fetched(recorder, Reply(operation(**fields)), error(403), line).results()


def test_rows_are_told_by_key_never_by_position(recorder: Recorder) -> None:
    rows = [row("llmb-000002", "c"), row(DEFAULT, "a"), row("llmb-000001", "b")]
    recorder.replies = [PENDING, Reply(operation(response=inlined(*rows)))]
    assert client(recorder).submit_batch(["a", "b", "c"]).results() == ["a", "b", "c"]
    for key in ({}, {"metadata": {}}, {"metadata": None}):
        recorder.requests.clear()
        recorder.replies = [PENDING, Reply(operation(response=inlined({"response": candidate("a"), **key})))]
        batch = client(recorder).submit_batch(["a"])
        # The only row is that of the only input.
        with pytest.warns(UserWarning, match="taken for the answer to input 0"):
            assert batch.results() == ["a"]


def test_custom_ids_come_back_in_order_on_another_machine(recorder: Recorder) -> None:
    rows = [row("000002:a:b", "c"), row("000000:z", "a")]
    done = Reply(operation(response=inlined(*rows), batchStats={"requestCount": "4", "successfulRequestCount": "2"}))
    items = list(fetched(recorder, done).items())
    assert [(item.custom_id, item.status, item.text) for item in items] == [
        ("z", "succeeded", "a"), ("", "missing", None), ("a:b", "succeeded", "c"), ("", "missing", None),
    ]  # fmt: skip
    assert "missing" in str(items[1].error)


def test_an_id_that_points_far_away(recorder: Recorder) -> None:
    done = Reply(operation(response=inlined(row("999999999999999:x", "far"), row("000000:a", "near"))))
    with pytest.warns(UserWarning, match="ids that it never sent|have no id"):
        assert fetched(recorder, done).results() == ["near"]


E = llmbackend
WRONG_ROWS: list[tuple[str, dict[str, Any], type[Exception] | str, str]] = [
    ("error", {"error": {"code": 3, "message": "bad"}}, E.InvalidRequestError, "bad"),
    ("error by name", {"error": {"status": "INVALID_ARGUMENT", "message": "bad"}}, E.InvalidRequestError, "bad"),
    ("error, HTTP code", {"error": {"code": 503, "message": "busy"}}, E.ServerError, "busy"),
    ("error, code as a str", {"error": {"code": "13", "message": "boom"}}, E.ServerError, "boom"),
    ("error beside an empty response", {"error": {"code": 13, "message": "boom"}, "response": {}}, E.ServerError, "boom"),
    ("error as a str", {"error": "boom"}, E.APIError, "boom"),
    ("status", {"status": {"code": 8, "message": "busy"}}, E.RateLimitError, "busy"),
    ("response.error", {"response": {"error": {"code": 14, "message": "busy"}}}, E.ServerError, "busy"),
    ("permission", {"error": {"code": 7, "message": "no"}}, E.PermissionDeniedError, "no"),
    ("key", {"error": {"code": 16, "message": "no"}}, E.AuthenticationError, "no"),
    ("not found", {"error": {"code": 5, "message": "no"}}, E.NotFoundError, "no"),
    ("deadline", {"error": {"code": 4, "message": "late"}}, E.ServerError, "late"),
    ("cancelled", {"error": {"code": 1, "message": "stop"}}, "cancelled", "stop"),
    ("blocked", {"response": {"promptFeedback": {"blockReason": "SAFETY"}}}, "refused", "SAFETY"),
    ("truncated", {"response": {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}}, "truncated", "max_tokens"),
    ("no answer", {"response": {}}, E.APIError, "candidates"),
    ("nothing", {}, E.APIError, "candidates"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "kind", "words"), [line[1:] for line in WRONG_ROWS], ids=[line[0] for line in WRONG_ROWS]
)
@pytest.mark.parametrize("by_file", [False, True])
def test_a_row_without_an_answer(
    recorder: Recorder, fields: dict[str, Any], kind: Any, words: str, by_file: bool
) -> None:
    if by_file:
        lines = (
            json.dumps({"key": DEFAULT, **fields})
            + "\n"
            + json.dumps({"key": "llmb-000001", "response": candidate("ok")})
        )
        batch = fetched(recorder, Reply(operation(response={"responsesFile": "files/batch-b1"})), Reply(lines))
    else:
        done = operation(response=inlined({**fields, "metadata": {"key": DEFAULT}}, row("llmb-000001", "ok")))
        batch = fetched(recorder, Reply(done))
    item, good = batch.items()
    assert (good.status, good.text) == ("succeeded", "ok")
    assert words in str(item.error)
    if isinstance(kind, str):
        assert item.status == kind
    else:
        assert (item.status, type(item.error)) == ("failed", kind)


def test_a_row_with_an_answer_beside_an_ok_status(recorder: Recorder) -> None:
    for beside in ({"status": {}}, {"status": {"code": 0}}, {"error": None}, {"error": {}}, {"status": ""}):
        assert fetched(recorder, Reply(operation(response=inlined({**ITEM, **beside})))).results() == ["ok"]


def test_the_last_success_wins(recorder: Recorder) -> None:
    bad = {"error": {"code": 13, "message": "boom"}, "metadata": {"key": DEFAULT}}
    for order in ([bad, ITEM], [ITEM, bad]):
        assert fetched(recorder, Reply(operation(response=inlined(*order)))).results() == ["ok"]


def test_done_but_without_results_is_looked_at_again(recorder: Recorder) -> None:
    unready = Reply(operation(done=True))
    batch = fetched(recorder, unready, unready, Reply(operation(done=True, response=inlined(ITEM))))
    states: list[str] = []
    assert batch.wait(poll_interval=0, callback=states.append).results() == ["ok"]
    assert states == ["in_progress", "in_progress", "completed"]
    recorder.requests.clear()
    recorder.replies = [PENDING, unready]
    batch = client(recorder).submit_batch(["x"])
    # For a minute, however many looks that are.
    with pytest.raises(llmbackend.BatchTimeoutError, match="still in_progress"):
        batch.wait(poll_interval=0, timeout=2)
    assert len(recorder.requests) > 11


@pytest.mark.parametrize("state", ["CANCELLED", "EXPIRED"])
def test_what_had_finished_before_the_end(recorder: Recorder, state: str) -> None:
    stopped = operation(
        state,
        done=True,
        error={"code": 1, "message": "stopped"},
        output=inlined(ITEM),
        batchStats={"requestCount": "2"},
    )
    batch = fetched(recorder, Reply(stopped))
    assert [item.status for item in batch.items()] == ["succeeded", state.lower()]
    with pytest.raises(llmbackend.BatchItemsError) as caught:
        batch.results()
    assert caught.value.results == ["ok", None]
    with pytest.raises(llmbackend.BatchFailedError, match="stopped"):
        batch.wait(poll_interval=0)
    for stats in ({}, {"batchStats": {"requestCount": "2"}}):
        batch = fetched(recorder, Reply(operation(state, done=True, **stats)))
        with pytest.raises(llmbackend.BatchFailedError, match=state):
            batch.results()


def test_a_failed_job(recorder: Recorder) -> None:
    failed = operation("FAILED", done=True, error={"code": 3, "message": "the file is no JSONL"})
    batch = fetched(recorder, Reply(failed))
    for call in (batch.results, lambda: list(batch.items()), lambda: batch.wait(poll_interval=0)):
        with pytest.raises(llmbackend.BatchFailedError, match="the file is no JSONL"):
            call()
    partly = operation("FAILED", done=True, error={"code": 13, "message": "boom"}, output=inlined(ITEM))
    assert [item.text for item in fetched(recorder, Reply(partly)).items()] == ["ok"]


# --- Ids ---


@pytest.mark.parametrize("batch_id", ["b1", "batches/b1"])
def test_an_id_in_both_forms(recorder: Recorder, batch_id: str) -> None:
    recorder.replies = [Reply(operation("RUNNING"))]
    assert client(recorder).get_batch_status(batch_id)["raw_state"] == "JOB_STATE_RUNNING"
    assert paths(recorder) == ["/v1beta/batches/b1"]


@pytest.mark.parametrize("batch_id", ["gs://bucket/out", "bq://p.d.t"])
def test_places_in_the_cloud_are_refused(recorder: Recorder, batch_id: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="Vertex"):
        client(recorder).get_batch_status(batch_id)
    assert recorder.requests == []


@pytest.mark.parametrize("batch_id", ["batches/a/b", "batches/..", "b?x", "b#x", "batches/", "b 1", "b%2f"])
def test_an_id_that_is_none(recorder: Recorder, batch_id: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError):
        client(recorder).get_batch_status(batch_id)
    assert recorder.requests == []
