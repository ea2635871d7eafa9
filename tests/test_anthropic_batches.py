"""Message Batches on the wire: states, results, and a job that is never made twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import Recorder, Reply
from test_anthropic_requests import JOB, NATIVE, TEXT, ended, lines, succeeded

import llmbackend


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder(Reply(TEXT)) as recorder:
        yield recorder


def client(recorder: Recorder, **options: Any) -> llmbackend.Client:
    return llmbackend.Client(
        "anthropic", "m", **{"api_key": "k", "base_url": recorder.root, "max_retries": 2, **options}
    )


def error(kind: str, message: str = "boom") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


CANCELLED = {"cancel_initiated_at": "2026-11-22T10:00:01Z"}
STATES: list[tuple[dict[str, Any], str]] = [
    (JOB, "in_progress"),
    ({**JOB, "processing_status": "canceling", **CANCELLED}, "in_progress"),
    ({**JOB, "processing_status": "brand_new"}, "in_progress"),
    ({**ended(succeeded=2), "processing_status": "brand_new"}, "completed"),
    (ended(succeeded=2), "completed"),
    (ended(succeeded=1, errored=1), "completed"),
    (ended(succeeded=1, expired=1), "completed"),
    ({**ended(succeeded=2), **CANCELLED}, "completed"),
    ({**ended(succeeded=1, canceled=1), **CANCELLED}, "cancelled"),
    (ended(errored=2), "completed"),  # a job that ran
    (ended(expired=2), "cancelled"),
    ({**ended(canceled=2), **CANCELLED}, "cancelled"),
    ({"id": "msgbatch_01Test", "processing_status": "ended"}, "completed"),
]


@pytest.mark.parametrize(("job", "state"), STATES)
def test_states(recorder: Recorder, job: dict[str, Any], state: str) -> None:
    recorder.replies = [Reply(job)]
    found = client(recorder).get_batch_status("msgbatch_01Test")
    assert (found["state"], found["raw_state"]) == (state, job["processing_status"])
    assert recorder.requests[0].path == "/v1/messages/batches/msgbatch_01Test"


ROWS = [
    succeeded("llmb-000003", "three"),
    {
        "custom_id": "llmb-000001",
        "result": {"type": "errored", "error": error("invalid_request_error", "max_tokens: Field required")},
    },
    {"custom_id": "llmb-000002", "result": {"type": "expired"}},
    {"custom_id": "llmb-000004", "result": {"type": "canceled"}},
    {
        "custom_id": "llmb-000000",
        "result": {"type": "succeeded", "message": {**TEXT, "content": [], "stop_reason": "refusal"}},
    },
    {"custom_id": "llmb-000005", "result": {"type": "brand_new"}},
    {"custom_id": "llmb-000006", "result": {"type": "errored", "error": error("api_error")}},
    {
        "custom_id": "llmb-000007",
        "result": {"type": "errored", "error": {"type": "overloaded_error", "message": "one level"}},
    },
]
KINDS = [
    llmbackend.RefusalError, llmbackend.InvalidRequestError, Exception, str, Exception, llmbackend.APIError,
    llmbackend.ServerError, llmbackend.ServerError, Exception,
]  # fmt: skip


def test_rows_of_every_kind(recorder: Recorder) -> None:
    job = ended(succeeded=2, errored=3, expired=1, canceled=1)
    recorder.replies = [Reply(JOB), Reply(job), lines(*ROWS)]
    batch = client(recorder).submit_batch([f"p{i}" for i in range(9)], batch_options=NATIVE)
    batch.wait(poll_interval=0.01)
    results = batch.results(return_exceptions=True)
    assert len(results) == 9
    for result, kind in zip(results, KINDS, strict=True):
        assert isinstance(result, kind), result
    assert results[3] == "three"
    assert results[1].message == "max_tokens: Field required"
    assert (results[1].code, results[1].request_id) == ("invalid_request_error", "req_1")
    assert results[7].message == "one level"
    assert [item.status for item in batch.items()] == [
        "refused", "failed", "expired", "succeeded", "cancelled", "failed", "failed", "failed", "missing",
    ]  # fmt: skip
    # Everything came from our own address, whatever results_url says.
    assert [request.path for request in recorder.requests] == [
        "/v1/messages/batches",
        "/v1/messages/batches/msgbatch_01Test",
        "/v1/messages/batches/msgbatch_01Test/results",
    ]
    assert {request.headers["x-api-key"] for request in recorder.requests} == {"k"}


def test_results_of_another_process(recorder: Recorder) -> None:
    body = "\n\n" + "\r\n".join(json.dumps(succeeded(f"llmb-00000{i}", f"t{i}\u2028")) for i in (2, 0, 1))
    recorder.replies = [Reply(ended(succeeded=3)), Reply(body)]
    assert client(recorder).fetch_batch_results("msgbatch_01Test") == ["t0\u2028", "t1\u2028", "t2\u2028"]


def test_not_ended(recorder: Recorder) -> None:
    recorder.replies = [Reply(JOB)]
    with pytest.raises(llmbackend.BatchNotCompletedError):
        client(recorder).fetch_batch_results("msgbatch_01Test")
    assert len(recorder.requests) == 1


def test_results_that_are_gone(recorder: Recorder) -> None:
    for archived_at in (None, "2026-12-24T00:00:00Z"):
        recorder.requests.clear()
        job = {**ended(succeeded=1), "archived_at": archived_at, "results_url": None}
        recorder.replies = [Reply(job), Reply(error("not_found_error", "results expired"), status=404)]
        with pytest.raises(llmbackend.NotFoundError, match="results expired"):
            client(recorder).fetch_batch_results("msgbatch_01Test")


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_busy_server_is_asked_again(recorder: Recorder, status: int) -> None:
    kind = "rate_limit_error" if status == 429 else "overloaded_error"
    recorder.replies = [Reply(error(kind), status=status, headers={"retry-after-ms": "20"}), Reply(JOB)]
    assert client(recorder).submit_batch(["x"], batch_options=NATIVE).id == "msgbatch_01Test"
    first, second = recorder.requests
    assert first.body == second.body


def creates(recorder: Recorder) -> int:
    """How many requests for a job were sent."""
    return [(request.method, request.path) for request in recorder.requests].count(("POST", "/v1/messages/batches"))


@pytest.mark.usefixtures("short_search")
def test_a_general_hint_is_no_licence_to_create_again(recorder: Recorder) -> None:
    again = {"x-should-retry": "true", "retry-after-ms": "20"}
    recorder.replies = [Reply(error("api_error"), status=500, headers=again), Reply(JOB)]
    with pytest.raises(llmbackend.UnknownCreateError, match="not known whether the job was created") as caught:
        client(recorder).submit_batch(["x"], batch_options=NATIVE)
    assert isinstance(caught.value.__cause__, llmbackend.ServerError)
    assert creates(recorder) == 1


UNCLEAR = [
    Reply(error("api_error"), status=500),
    Reply(error("api_error"), status=502),
    Reply(error("timeout_error"), status=504),
    Reply(error("timeout_error"), status=408),
    Reply("<html>hi</html>"),
    Reply({}),
    Reply(drop=True),
    Reply(JOB, cut=20),
]


@pytest.mark.parametrize("reply", UNCLEAR, ids=["500", "502", "504", "408", "HTML", "{}", "dropped", "cut"])
@pytest.mark.usefixtures("short_search")
def test_an_unclear_answer_is_never_followed_by_a_second_job(recorder: Recorder, reply: Reply) -> None:
    recorder.replies = [reply, Reply(JOB)]
    with pytest.raises(llmbackend.UnknownCreateError, match="not known whether the job was created") as caught:
        client(recorder).submit_batch(["x"], batch_options=NATIVE)
    assert isinstance(caught.value.__cause__, (llmbackend.APIError, llmbackend.APIConnectionError))
    assert creates(recorder) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (413, "request_too_large"), (401, "authentication_error")]
)
def test_a_refused_job(recorder: Recorder, status: int, kind: str) -> None:
    recorder.replies = [Reply(error(kind), status=status)]
    with pytest.raises(llmbackend.APIError) as caught:
        client(recorder).submit_batch(["x"], batch_options=NATIVE)
    assert caught.value.code == kind
    assert "not known" not in str(caught.value)
    assert len(recorder.requests) == 1


def test_a_server_without_batches(recorder: Recorder) -> None:
    recorder.replies = [Reply({"detail": "Not Found"}, status=404)]
    with pytest.raises(llmbackend.NotFoundError, match="native"):
        client(recorder).submit_batch(["x"], batch_options=NATIVE)


@pytest.mark.parametrize("wrong", ["a b", "x" * 65, "é", "a.b", "a/b"])
def test_ids_that_the_api_refuses(recorder: Recorder, wrong: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match="custom_ids"):
        client(recorder).submit_batch(["x"], batch_options={**NATIVE, "custom_ids": [wrong]})
    assert recorder.requests == []


def test_the_longest_id(recorder: Recorder) -> None:
    recorder.replies = [Reply(JOB)]
    client(recorder).submit_batch(["x"], batch_options={**NATIVE, "custom_ids": ["aZ0_-" + "x" * 59]})
    assert recorder.requests[0].json["requests"][0]["custom_id"] == "aZ0_-" + "x" * 59


def test_many_rows_in_one_body(recorder: Recorder) -> None:
    recorder.replies = [Reply(JOB)]
    client(recorder).submit_batch(
        (f'"{i}" \u2028 é\n' for i in range(5000)), {"extra": {"system": "S"}}, batch_options=NATIVE
    )
    [request] = recorder.requests
    assert int(request.headers["content-length"]) == len(request.body)
    assert request.headers["content-type"] == "application/json"
    rows = request.json["requests"]
    assert [row["custom_id"] for row in rows] == [f"llmb-{i:06}" for i in range(5000)]
    assert rows[4999]["params"] == {
        "model": "m", "max_tokens": 8192, "system": "S", "messages": [{"role": "user", "content": '"4999" \u2028 é\n'}],
    }  # fmt: skip


def test_by_default_a_batch_is_immediate(recorder: Recorder) -> None:
    recorder.replies = [Reply(TEXT), Reply(error("invalid_request_error"), status=400), Reply(TEXT)]
    batch = client(recorder).submit_batch(["a", "b", "c"])
    assert [request.path for request in recorder.requests] == ["/v1/messages"] * 3
    first, second, third = batch.results(return_exceptions=True)
    assert (first, third) == ("ok", "ok")
    assert isinstance(second, llmbackend.InvalidRequestError)
    assert [item.status for item in batch.items()] == ["succeeded", "failed", "succeeded"]
