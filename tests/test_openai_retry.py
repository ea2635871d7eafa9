"""Errors and second tries, end to end: what is sent how often, and what the caller hears.

Every recorded wait, also the long ones, is held against ours in tests/openai_retry.rs.
"""

from __future__ import annotations

import json
import pickle
import socket
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorder import ANSWER, Recorder, Reply, Stopwatch

import llmbackend

ROWS = [
    json.loads(line)
    for line in (Path(__file__).parent / "fixtures/openai/openai_retry_cases.jsonl").read_text().splitlines()
]
KEY = "sk-test-0123456789"

CLASSES: list[tuple[int, type[Exception]]] = [
    (400, llmbackend.InvalidRequestError),
    (401, llmbackend.AuthenticationError),
    (402, llmbackend.QuotaExceededError),
    (403, llmbackend.PermissionDeniedError),
    (404, llmbackend.NotFoundError),
    (405, llmbackend.InvalidRequestError),
    (408, llmbackend.ServerError),
    (409, llmbackend.ServerError),
    (410, llmbackend.InvalidRequestError),
    (413, llmbackend.InvalidRequestError),
    (422, llmbackend.InvalidRequestError),
    (429, llmbackend.RateLimitError),
    (451, llmbackend.InvalidRequestError),
    (499, llmbackend.InvalidRequestError),
    (500, llmbackend.ServerError),
    (503, llmbackend.ServerError),
    (529, llmbackend.ServerError),
]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def ask(recorder: Recorder, *replies: Reply, max_retries: int = 0, **options: Any) -> str:
    recorder.requests.clear()
    recorder.replies = list(replies)
    client = llmbackend.Client(
        "openai", "m", **{"api_key": KEY, "base_url": recorder.url, "max_retries": max_retries, **options}
    )
    text: str = client.get_response("x")
    return text


def fail(recorder: Recorder, *replies: Reply, **options: Any) -> Any:
    with pytest.raises(llmbackend.LLMBackendError) as caught:
        ask(recorder, *replies, **options)
    error = caught.value
    assert KEY not in "".join(traceback.format_exception(error)) + repr(vars(error))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    return error


def error_body(message: str = "m", kind: str = "x", code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@pytest.mark.parametrize(("status", "kind"), CLASSES)
def test_a_status_has_a_class(recorder: Recorder, status: int, kind: type[Exception]) -> None:
    error = fail(recorder, Reply(error_body("Bad luck.", code="c"), status, {"x-request-id": "req_1"}))
    assert type(error) is kind
    assert (error.status, error.code, error.message) == (status, "c", "Bad luck.")
    assert (error.request_id, error.provider, error.retry_after) == ("req_1", "openai", None)
    assert json.loads(error.body) == error_body("Bad luck.", code="c")
    for fact in ("openai", "Bad luck.", str(status), "code c", "req_1"):
        assert fact in str(error)


DIALECTS: list[tuple[Any, str, str | None]] = [
    (error_body(), "m", None),
    ({"error": "just text"}, "just text", None),
    ({"message": "top", "code": "c"}, "top", "c"),
    ({"detail": "Not Found"}, "Not Found", None),
    ({"detail": [{"loc": ["body", "x"], "msg": "Field required"}]}, "body.x: Field required", None),
    (error_body(code=400), "m", "400"),
    (error_body(code=""), "m", None),
    ({"error": {"message": None, "code": None}}, "no error message of this API", None),
    ("<html>bad gateway</html>", "<html>bad gateway</html>", None),
    ("", "no body", None),
    ([1, 2], "[1, 2]", None),
    ("null", "null", None),
    (b"\xff\xfe\x00", "\ufffd", None),
    ("x" * 9000, "x" * 500, None),
]


@pytest.mark.parametrize(("body", "message", "code"), DIALECTS, ids=range(len(DIALECTS)))
def test_the_message_is_found(recorder: Recorder, body: Any, message: str, code: str | None) -> None:
    error = fail(recorder, Reply(body, 400))
    assert message in error.message
    assert len(error.message) < 700
    assert (error.code, len(error.body) <= 4000) == (code, True)


BILLING = [
    ("insufficient_quota", None),
    ("x", "insufficient_quota"),
    ("insufficient_quota", "rate_limit_exceeded"),
    ("x", "credit_balance_exhausted"),
    ("x", "organization_spend_limit_exceeded"),
    ("x", "project_spend_limit_exceeded"),
    ("x", "organization_usage_limit_exceeded"),
]


@pytest.mark.parametrize(("kind", "code"), BILLING)
def test_a_billing_limit_is_never_tried_again(recorder: Recorder, kind: str, code: str | None) -> None:
    headers = {"retry-after": "0.01", "x-should-retry": "true"}
    error = fail(recorder, Reply(error_body(kind=kind, code=code), 429, headers), max_retries=3)
    assert type(error) is llmbackend.QuotaExceededError
    assert isinstance(error, llmbackend.RateLimitError)
    assert len(recorder.requests) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 529])
def test_transient_trouble_is_tried_again(recorder: Recorder, status: int) -> None:
    bad = Reply(error_body(), status, {"retry-after-ms": "20"})
    assert ask(recorder, bad, bad, Reply(), max_retries=2) == "ok"
    assert len(recorder.requests) == 3
    assert len({request.body for request in recorder.requests}) == 1
    error = fail(recorder, bad, max_retries=2)
    assert (len(recorder.requests), error.retry_after) == (3, 0.02)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422, 425, 499])
def test_the_callers_mistakes_are_not(recorder: Recorder, status: int) -> None:
    fail(recorder, Reply(error_body(), status, {"retry-after": "0.01"}), max_retries=2)
    assert len(recorder.requests) == 1


def test_recorded_attempts(recorder: Recorder) -> None:
    """The quick rows; the recorded waits of half a second are asked for as milliseconds instead."""
    for row in ROWS:
        words = row["call"].split(" ")
        if words[1] != "status":
            continue
        fail(recorder, Reply(error_body(), int(words[2]), {"retry-after-ms": "1"}), max_retries=2)
        assert len(recorder.requests) == row["attempts"], row["call"]


def test_the_server_overrules(recorder: Recorder) -> None:
    fail(recorder, Reply(error_body(), 500, {"x-should-retry": "false"}), max_retries=2)
    assert len(recorder.requests) == 1
    again = Reply(error_body(), 400, {"x-should-retry": "true", "retry-after-ms": "1"})
    assert ask(recorder, again, Reply(), max_retries=2) == "ok"


def test_a_long_wait_is_raised_at_once(recorder: Recorder) -> None:
    with Stopwatch() as watch:
        error = fail(recorder, Reply(error_body(), 429, {"retry-after": "121"}), max_retries=2)
    assert (len(recorder.requests), error.retry_after) == (1, 121.0)
    assert watch.seconds < 1
    assert "121" in str(error)


def test_a_short_wait_is_kept(recorder: Recorder) -> None:
    with Stopwatch() as watch:
        assert ask(recorder, Reply(error_body(), 429, {"retry-after": "0.3"}), Reply(), max_retries=1) == "ok"
    assert 0.3 <= watch.seconds < 2
    with Stopwatch() as watch:
        assert ask(recorder, Reply("", 500), Reply(), max_retries=1) == "ok"
    assert 0.375 <= watch.seconds < 2


@pytest.mark.parametrize(
    "reply", [Reply(drop=True), Reply(cut=20), Reply(chunked=True, cut=20)], ids=["drop", "cut", "chunk"]
)
def test_a_broken_connection_is_tried_again(recorder: Recorder, reply: Reply) -> None:
    assert ask(recorder, reply, Reply(), max_retries=1) == "ok"
    assert len(recorder.requests) == 2
    error = fail(recorder, reply)
    assert type(error) is llmbackend.APIConnectionError
    assert isinstance(error, ConnectionError)
    assert len(recorder.requests) == 1


@pytest.mark.parametrize("reply", [Reply(silence=5), Reply(stall=5)], ids=["before the head", "in the body"])
def test_silence_times_out(recorder: Recorder, reply: Reply) -> None:
    with Stopwatch() as watch:
        error = fail(recorder, reply, timeout=0.3)
    assert type(error) is llmbackend.APITimeoutError
    assert isinstance(error, TimeoutError)
    assert 0.3 <= watch.seconds < 2
    assert "0.3 s" in str(error)
    assert ask(recorder, reply, Reply(), timeout=0.3, max_retries=1) == "ok"


def test_a_slow_answer_is_no_silence(recorder: Recorder) -> None:
    assert ask(recorder, Reply(silence=0.5), timeout=1) == "ok"


def test_nobody_there(recorder: Recorder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = fail(recorder, Reply(), base_url=f"http://127.0.0.1:{port}/v1/secret-path", max_retries=1)
    assert type(error) is llmbackend.APIConnectionError
    assert f"127.0.0.1:{port}" in str(error)
    assert "secret-path" not in str(error)
    assert recorder.requests == []


def test_tls_to_a_plain_port(recorder: Recorder) -> None:
    error = fail(recorder, Reply(), base_url=recorder.url.replace("http:", "https:"))
    assert type(error) is llmbackend.APIConnectionError
    assert "cannot connect" in str(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_reported_and_not_followed(recorder: Recorder, status: int) -> None:
    target = f"{recorder.root}/elsewhere?key={KEY}"
    error = fail(recorder, Reply("", status, {"location": target}), max_retries=2)
    assert type(error) is llmbackend.APIError
    assert (error.status, len(recorder.requests)) == (status, 1)
    assert f"{recorder.root}/elsewhere" in error.message
    assert "base_url" in error.message


def test_a_key_that_comes_back_is_blacked_out(recorder: Recorder) -> None:
    echo = f"Incorrect API key provided: {KEY}."
    error = fail(recorder, Reply(error_body(echo, code=f"c-{KEY}"), 401, {"x-request-id": f"q-{KEY}"}))
    assert error.message == "Incorrect API key provided: ***."
    fail(recorder, Reply(f"<html>{KEY}</html>", 200))
    fail(recorder, Reply(f"<html>{KEY}</html>", 502))
    fail(recorder, Reply({"status": "failed", "error": {"code": "x", "message": echo}}))
    fail(recorder, Reply({**ANSWER, "output": [], "instructions": KEY}))
    own = {"X-Gateway-Key": "gw-987654321"}
    error = fail(recorder, Reply(error_body("no gw-987654321 here"), 401), headers=own)
    assert "gw-987654321" not in str(error) + error.body


def test_a_placeholder_for_a_key_does_not_garble_messages(recorder: Recorder) -> None:
    error = fail(
        recorder, Reply(error_body("an EMPTY prompt, 1 of 2"), 400), api_key="EMPTY", headers={"X-Tenant": "1"}
    )
    assert error.message == "an EMPTY prompt, 1 of 2"


def test_the_repr_of_a_client_has_no_key(recorder: Recorder) -> None:
    assert KEY not in repr(llmbackend.Client("openai", "m", api_key=KEY))


def test_a_connection_that_died_while_idle(recorder: Recorder) -> None:
    recorder.requests.clear()
    recorder.replies = [Reply(), Reply(drop=True), Reply()]
    client = llmbackend.Client("openai", "m", api_key=KEY, base_url=recorder.url)
    assert [client.get_response("x") for _ in range(2)] == ["ok", "ok"]
    assert len(recorder.requests) == 3
