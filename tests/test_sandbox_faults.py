"""Every fault of the sandbox, seen through the official openai package."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Any

import pytest

import llmbackend

openai = pytest.importorskip("openai")

ENDPOINT = "/v1/responses"
SCHEMA = {
    "type": "json_schema",
    "strict": True,
    "name": "T",
    "schema": {
        "type": "object",
        "properties": {"t": {"type": "string"}},
        "required": ["t"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def server():
    with llmbackend.sandbox(speed=20_000) as box:
        yield box


@pytest.fixture
def box(server):
    yield server
    server.clear_faults()


@pytest.fixture
def client(box):
    with openai.OpenAI(**box.options("openai"), max_retries=0, timeout=10) as client:
        yield client


def ask(client: Any, **options: Any) -> Any:
    return client.responses.create(**{"model": "gpt-4o-mini", "input": "Hello there", **options})


def upload(client: Any, count: int) -> Any:
    rows = [
        {"custom_id": f"r{n}", "method": "POST", "url": ENDPOINT, "body": {"model": "m", "input": f"Prompt {n}"}}
        for n in range(count)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return client.files.create(file=("rows.jsonl", text.encode()), purpose="batch")


def create(client: Any, count: int = 10) -> Any:
    file = upload(client, count)
    return client.batches.create(completion_window="24h", endpoint=ENDPOINT, input_file_id=file.id)


def finish(client: Any, batch: Any) -> Any:
    end = time.monotonic() + 20
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < end, batch
        time.sleep(0.005)
        batch = client.batches.retrieve(batch.id)
    return batch


def content(client: Any, file_id: str) -> bytes:
    return client.files.content(file_id).content


def rows(client: Any, file_id: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in content(client, file_id).split(b"\n") if text]


def counts(batch: Any) -> tuple[int, int, int]:
    found = batch.request_counts
    return found.total, found.completed, found.failed


# Requests


@pytest.mark.parametrize(
    ("fault", "kind", "status", "code"),
    [
        ("rate_limit", openai.RateLimitError, 429, "rate_limit_exceeded"),
        ("quota", openai.RateLimitError, 429, "insufficient_quota"),
        ("server_error", openai.InternalServerError, 500, "server_error"),
        ("overloaded", openai.InternalServerError, 503, "server_is_overloaded"),
        ("auth", openai.AuthenticationError, 401, "invalid_api_key"),
        ("forbidden", openai.PermissionDeniedError, 403, "unsupported_country_region_territory"),
        ("model_not_found", openai.NotFoundError, 404, "model_not_found"),
        ("conflict", openai.ConflictError, 409, None),
        ("request_timeout", openai.APIStatusError, 408, None),
    ],
)
def test_error_replies(box, client, fault, kind, status, code):
    box.fault(f"{fault}:1")
    with pytest.raises(kind) as caught:
        ask(client)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert caught.value.request_id.startswith("req_")
    assert (caught.value.response.headers.get("retry-after") == "1") == (fault == "rate_limit")
    assert ask(client).output_text == "Hello there"


def test_an_upload_hears_its_error(box, client):
    box.fault("server_error:1@POST /v1/files")
    with pytest.raises(openai.InternalServerError):
        client.files.create(file=("a.jsonl", bytes(30_000_000)), purpose="batch")
    assert upload(client, 1).bytes > 0


def test_times_and_filters(box, client):
    box.fault("server_error:2@POST /v1/responses")
    client.models.list()
    patient = client.with_options(max_retries=2)
    assert ask(patient).output_text == "Hello there"
    assert [status for method, path, status in box.requests()[-3:]] == [500, 500, 200]
    box.fault("server_error@/v1/models")
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            client.models.list()
    box.clear_faults()
    client.models.list()


def test_kill_connection_does_no_work(box, client):
    file = upload(client, 1)
    box.fault("kill_connection:1@POST /v1/batches")
    before = len(list(client.batches.list()))
    with pytest.raises(openai.APIConnectionError):
        client.batches.create(completion_window="24h", endpoint=ENDPOINT, input_file_id=file.id)
    assert box.requests()[-1] == ("POST", "/api.openai.com/v1/batches", 0)
    assert len(list(client.batches.list())) == before


def test_lost_reply_does_the_work(box, client):
    file = upload(client, 1)
    box.fault("lost_reply:1@POST /v1/batches")
    with pytest.raises(openai.APIConnectionError):
        client.batches.create(completion_window="24h", endpoint=ENDPOINT, input_file_id=file.id)
    assert client.batches.list(limit=1).data[0].input_file_id == file.id


@pytest.mark.parametrize("fault", ["stall", "stall_body"])
def test_stalls(box, client, fault):
    box.fault(f"{fault}:1")
    with pytest.raises(openai.APITimeoutError):
        ask(client.with_options(timeout=0.3))
    assert ask(client).output_text == "Hello there"


def test_html_and_empty_bodies(box, client):
    box.fault("html_body:1")
    raw = client.responses.with_raw_response.create(model="m", input="x")
    assert raw.http_response.status_code == 200 and raw.http_response.text.startswith("<!DOCTYPE html>")
    box.fault("empty_body:1")
    raw = client.responses.with_raw_response.create(model="m", input="x")
    assert (raw.http_response.status_code, raw.http_response.content) == (200, b"")


def test_cut_body(box, client):
    box.fault("cut_body:1@POST /v1/responses")
    with pytest.raises(openai.APIConnectionError):
        ask(client)
    data = b"0123456789" * 300_000
    file = client.files.create(file=("a.jsonl", data), purpose="batch")
    box.fault("cut_body:1@GET /content")
    got = b""
    download = client.files.with_streaming_response.content(file.id)
    with pytest.raises(Exception, match="(?i)peer closed|incomplete|connection"), download as reply:
        assert reply.headers["content-length"] == str(len(data))
        for piece in reply.iter_bytes():
            got += piece
    assert got == data[: len(data) // 2]
    rest = client.files.content(file.id, extra_headers={"Range": f"bytes={len(got)}-"})
    assert rest.response.status_code == 206 and got + rest.content == data


# Jobs that cannot be seen yet


def test_not_found_after_create(box, client):
    box.fault("not_found_after_create:2")
    batch = create(client)
    for _ in range(2):
        with pytest.raises(openai.NotFoundError):
            client.batches.retrieve(batch.id)
    assert client.batches.retrieve(batch.id).id == batch.id


def test_late_list(box, client):
    box.fault("late_list:2")
    batch = create(client)
    seen = [batch.id in [found.id for found in client.batches.list(limit=5).data] for _ in range(3)]
    assert seen == [False, False, True]


# Jobs


def test_a_job_without_faults(client):
    batch = finish(client, create(client))
    assert (batch.status, counts(batch), batch.error_file_id) == ("completed", (10, 10, 0), None)
    assert content(client, batch.output_file_id).endswith(b"}\n")


@pytest.mark.parametrize(("fault", "status"), [("expire_half", "expired"), ("cancel_half", "cancelled")])
def test_half_a_job(box, client, fault, status):
    box.fault(fault)
    batch = finish(client, create(client))
    assert (batch.status, counts(batch)) == (status, (10, 5, 0))
    output, errors = rows(client, batch.output_file_id), rows(client, batch.error_file_id)
    assert len({row["custom_id"] for row in output + errors}) == 10
    assert [(row["response"], row["error"]["code"]) for row in errors] == [(None, f"batch_{status}")] * 5
    assert getattr(batch, f"{status}_at") and batch.completed_at is None


def test_drop_and_duplicate_line(box, client):
    box.fault("drop_line:1")
    batch = finish(client, create(client))
    assert counts(batch) == (10, 10, 0)
    assert {row["custom_id"] for row in rows(client, batch.output_file_id)} == {f"r{n}" for n in range(10)} - {"r5"}
    box.fault("duplicate_line:1")
    batch = finish(client, create(client))
    assert sorted(row["custom_id"] for row in rows(client, batch.output_file_id)).count("r5") == 2


def test_line_separator(box, client):
    box.fault("line_separator")
    raw = content(client, finish(client, create(client)).output_file_id)
    assert raw.count("\u2028".encode()) == raw.count("\u0085".encode()) == 10
    assert len(raw.decode().splitlines()) > len(raw.rstrip(b"\n").split(b"\n")) == 10


def test_lying_counts(box, client):
    box.fault("lying_counts")
    batch = finish(client, create(client))
    assert counts(batch) == (11, 0, 10)
    assert len(rows(client, batch.output_file_id)) == 10


@pytest.mark.parametrize(
    ("fault", "code"), [("token_limit_exceeded", "token_limit_exceeded"), ("fail_job", "server_error")]
)
def test_failed_jobs(box, client, fault, code):
    box.fault(f"{fault}:1")
    batch = create(client)
    assert batch.status == "validating"
    batch = finish(client, batch)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert [error.code for error in batch.errors.data] == [code]
    assert finish(client, create(client)).status == "completed"


def test_fail_lines_and_failed_only(box, client):
    box.fault("fail_lines:1")
    batch = finish(client, create(client))
    assert (batch.status, counts(batch)) == ("completed", (10, 7, 3))
    errors = rows(client, batch.error_file_id)
    assert {row["custom_id"] for row in errors} == {"r2", "r5", "r8"}
    assert all(row["error"] is None and row["response"]["status_code"] == 400 for row in errors)
    box.fault("failed_only:1")
    batch = finish(client, create(client))
    assert (batch.status, counts(batch), batch.output_file_id) == ("completed", (10, 0, 10), None)
    assert len(rows(client, batch.error_file_id)) == 10


def test_empty_error_file_id(box, client):
    box.fault("empty_error_file_id")
    assert finish(client, create(client)).error_file_id == ""


def body_of(found: list[dict[str, Any]], custom_id: str) -> dict[str, Any]:
    return next(row["response"]["body"] for row in found if row["custom_id"] == custom_id)


def test_refuse_and_truncate_lines(box, client):
    box.fault("refuse_lines:1")
    found = rows(client, finish(client, create(client)).output_file_id)
    parts = [body_of(found, f"r{n}")["output"][0]["content"][0]["type"] for n in range(3)]
    assert parts == ["output_text", "output_text", "refusal"]
    box.fault("truncate_lines:1")
    found = rows(client, finish(client, create(client)).output_file_id)
    assert [body_of(found, f"r{n}")["status"] for n in range(3)] == ["completed", "completed", "incomplete"]


def test_no_final_newline(box, client):
    box.fault("no_final_newline")
    raw = content(client, finish(client, create(client)).output_file_id)
    assert raw.endswith(b"}") and len(raw.split(b"\n")) == 10


@pytest.mark.parametrize("extra", [[], ["fail_lines"]])
def test_wrong_file(box, client, extra):
    for fault in ["wrong_file", *extra]:
        box.fault(fault)
    batch = finish(client, create(client))
    output, errors = rows(client, batch.output_file_id), rows(client, batch.error_file_id)
    assert sum(row["response"]["status_code"] == 400 for row in output) == 1
    assert sum(row["response"]["status_code"] == 200 for row in errors) == 1
    assert len({row["custom_id"] for row in output + errors}) == 10


def test_answer_faults_reach_every_line_of_a_job(box, client):
    box.fault("null_output:1@POST /v1/batches")
    found = rows(client, finish(client, create(client)).output_file_id)
    assert {json.dumps(row["response"]["body"]["output"]) for row in found} == {"null"}


# Answers


def test_refusal(box, client):
    box.fault("refusal:1")
    response = ask(client, text={"format": SCHEMA})
    assert (response.status, response.output[0].content[0].type) == ("completed", "refusal")
    assert ask(client).output_text == "Hello there"


@pytest.mark.parametrize(
    ("fault", "reason"), [("truncated", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_half_an_answer(box, client, fault, reason):
    box.fault(fault)
    response = ask(client)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", reason)
    assert response.output_text == "Hello"


def test_reasoning_only(box, client):
    box.fault("reasoning_only")
    response = ask(client, max_output_tokens=40)
    assert (response.status, response.output_text) == ("incomplete", "")
    assert [item.type for item in response.output] == ["reasoning"]
    assert response.usage.output_tokens == response.usage.output_tokens_details.reasoning_tokens == 40


def test_failed_with_200(box, client):
    box.fault("failed_200")
    response = ask(client)
    assert (response.status, response.error.code, response.output) == ("failed", "server_error", [])


def test_null_output(box, client):
    box.fault("null_output")
    assert ask(client).output is None


def test_commentary(box, client):
    box.fault("commentary")
    response = ask(client)
    assert [item.phase for item in response.output] == ["commentary", "final_answer"]
    assert response.output[1].content[0].text == "Hello there"


def test_invalid_and_unfit_json(box, client):
    box.fault("invalid_json:1")
    with pytest.raises(json.JSONDecodeError):
        json.loads(ask(client, text={"format": SCHEMA}).output_text)
    box.fault("unfit_json:1")
    assert json.loads(ask(client, text={"format": SCHEMA}).output_text) == {"unexpected": "Hello there"}
    assert json.loads(ask(client, text={"format": SCHEMA}).output_text) == {"t": "Hello there"}


def test_every_fault_has_a_test():
    with pytest.raises(llmbackend.errors.ConfigurationError) as caught:
        llmbackend.sandbox(faults=["no such fault"])
    names = str(caught.value).split("Known faults: ")[1].split(", ")
    assert len(names) > 40
    text = "".join(path.read_text("utf-8") for path in pathlib.Path(__file__).parent.glob("test_sandbox_*.py"))
    assert [name for name in names if f'"{name}' not in text] == []
