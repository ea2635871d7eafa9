"""Gemini's errors: which class, what it carries, what is tried again, and that no key is in it."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import llmbackend
import pytest
from gemini_wire import candidate, client, error
from recorder import Recorder, Reply, Stopwatch

OK = Reply(candidate("ok"))
TYPE = "type.googleapis.com/google.rpc."
DAILY = {"@type": TYPE + "QuotaFailure", "violations": [
    {"quotaMetric": "m", "quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "10"},
    {"quotaMetric": "m", "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "250"},
]}  # fmt: skip
MINUTE = {"@type": TYPE + "QuotaFailure", "violations": DAILY["violations"][:1]}


def reason(word: str) -> dict[str, Any]:
    return {"@type": TYPE + "ErrorInfo", "reason": word, "domain": "googleapis.com"}


def delay(text: str) -> dict[str, Any]:
    return {"@type": TYPE + "RetryInfo", "retryDelay": text}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def fail(recorder: Recorder, *replies: Reply, **options: Any) -> llmbackend.APIError:
    recorder.replies = list(replies)
    with pytest.raises(llmbackend.APIError) as caught:
        client(recorder, **{"max_retries": 0, **options}).get_response("x")
    return caught.value


E = llmbackend
TABLE: list[tuple[str, Reply, type[Exception], bool]] = [
    ("a wrong key", error(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", [reason("API_KEY_INVALID")]), E.AuthenticationError, False),
    ("an expired key", error(400, "API key expired. Please renew the API key.", "INVALID_ARGUMENT", [reason("API_KEY_INVALID")]), E.AuthenticationError, False),
    ("a wrong key, details lost", error(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT"), E.AuthenticationError, False),
    ("a wrong field", error(400, 'Unknown name "foo": Cannot find field.', "INVALID_ARGUMENT", [{"@type": TYPE + "BadRequest", "fieldViolations": [{"field": "foo", "description": "d"}]}]), E.InvalidRequestError, False),
    ("too long", error(400, "The input token count (9) exceeds the maximum number of tokens allowed (8).", "INVALID_ARGUMENT"), E.InvalidRequestError, False),
    ("a region", error(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"), E.InvalidRequestError, False),
    ("a kind of token", error(401, "unsupported", "UNAUTHENTICATED", [reason("ACCESS_TOKEN_TYPE_UNSUPPORTED")]), E.AuthenticationError, False),
    ("billing, by status", error(402, "pay"), E.QuotaExceededError, False),
    ("billing, by reason", error(403, "billing", "PERMISSION_DENIED", [reason("BILLING_DISABLED")]), E.QuotaExceededError, False),
    ("no key", error(403, "Method doesn't allow unregistered callers", "PERMISSION_DENIED"), E.PermissionDeniedError, False),
    ("a disabled service", error(403, "off", "PERMISSION_DENIED", [reason("SERVICE_DISABLED")]), E.PermissionDeniedError, False),
    ("a missing file", error(403, "You do not have permission to access the File X or it may not exist.", "PERMISSION_DENIED"), E.PermissionDeniedError, False),
    ("a model", error(404, "models/x is not found for API version v1beta", "NOT_FOUND"), E.NotFoundError, False),
    ("a timeout", error(408, "slow", "DEADLINE_EXCEEDED"), E.ServerError, True),
    ("a conflict", error(409, "abort", "ABORTED"), E.ServerError, True),
    ("too large", error(413, "large", "INVALID_ARGUMENT"), E.InvalidRequestError, False),
    ("a limit", error(429, "busy", "RESOURCE_EXHAUSTED"), E.RateLimitError, True),
    ("a limit of a minute", error(429, "busy", "RESOURCE_EXHAUSTED", [MINUTE, delay("0s")]), E.RateLimitError, True),
    ("a limit of a day", error(429, "busy", "RESOURCE_EXHAUSTED", [DAILY, delay("1s")]), E.QuotaExceededError, False),
    ("cancelled", error(499, "The operation was cancelled.", "CANCELLED"), E.InvalidRequestError, False),
    ("a broken server", error(500, "boom", "INTERNAL"), E.ServerError, True),
    ("a gateway", Reply("<html>502</html>", 502), E.ServerError, True),
    ("overloaded", error(503, "high demand", "UNAVAILABLE"), E.ServerError, True),
    ("a deadline", error(504, "late", "DEADLINE_EXCEEDED"), E.ServerError, True),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "kind", "again"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_an_error(recorder: Recorder, reply: Reply, kind: type[Exception], again: bool) -> None:
    caught = fail(recorder, reply)
    assert type(caught) is kind
    assert (caught.status, caught.provider) == (reply.status, "gemini")
    if isinstance(reply.body, dict):
        assert caught.code == reply.body["error"]["status"]
        assert caught.message.startswith(reply.body["error"]["message"])
    assert len(recorder.requests) == 1
    wrapped = fail(recorder, Reply([reply.body], reply.status) if isinstance(reply.body, dict) else reply)
    assert (type(wrapped), wrapped.message, wrapped.code) == (kind, caught.message, caught.code)
    copy = pickle.loads(pickle.dumps(caught))
    assert (type(copy), str(copy), copy.code) == (kind, str(caught), caught.code)

    recorder.requests.clear()
    recorder.replies = [reply, OK]
    asked = client(recorder, max_retries=1)
    if again:
        assert asked.get_response("x") == "ok"
    else:
        with pytest.raises(kind):
            asked.get_response("x")
    assert len(recorder.requests) == 1 + again


DELAYS = [
    ("48s", 49.0),
    ("2.5s", 3.5),
    ("0s", 1.0),
    ("21599.960323804s", 21600.960323804),
    ("-1s", None),
    ("soon", None),
    ("NaNs", None),
]


@pytest.mark.parametrize(("text", "wait"), DELAYS)
def test_a_delay_is_cut_so_a_second_more_is_waited(recorder: Recorder, text: str, wait: float | None) -> None:
    assert fail(recorder, error(429, details=[delay(text)])).retry_after == wait


def test_the_wait_that_is_asked_for_is_obeyed(recorder: Recorder) -> None:
    recorder.replies = [error(429, details=[MINUTE, delay("0.4s")]), OK]
    with Stopwatch() as watch:
        assert client(recorder, max_retries=1).get_response("x") == "ok"
    assert 1.4 <= watch.seconds < 3


@pytest.mark.parametrize("reply", [error(429, details=[delay("119.5s")]), error(503, headers={"retry-after": "121"})])
def test_a_wait_that_is_too_long_is_raised_at_once(recorder: Recorder, reply: Reply) -> None:
    with Stopwatch() as watch:
        caught = fail(recorder, reply, OK, max_retries=2)
    assert watch.seconds < 1
    assert len(recorder.requests) == 1
    assert caught.retry_after in (120.5, 121)


def test_a_header_asks_too(recorder: Recorder) -> None:
    assert fail(recorder, error(429, headers={"retry-after": "7"}, details=[delay("48s")])).retry_after == 7


def test_the_quota_is_named(recorder: Recorder) -> None:
    caught = fail(recorder, error(429, "busy", "RESOURCE_EXHAUSTED", [DAILY]), max_retries=2)
    assert "GenerateRequestsPerDayPerProjectPerModel-FreeTier" in str(caught)
    assert len(recorder.requests) == 1


BODIES: list[tuple[str, Any, str]] = [
    ("HTML", "<html><h1>Bad Gateway</h1></html>", "Bad Gateway"),
    ("empty", b"", "no body"),
    ("plain", "upstream timed out", "upstream timed out"),
    ("a str", {"error": "Model unloaded."}, "Model unloaded."),
    ("FastAPI", {"detail": "Not here"}, "Not here"),
    ("an empty list", [], "[]"),
    ("half of it", '{"error": {"code": 5', '"code": 5'),
    (
        "details that are none",
        {"error": {"message": "m", "details": [7, None, {"violations": 3}, {"retryDelay": {"seconds": 1}}]}},
        "m",
    ),
    ("details null", {"error": {"message": "m", "details": None}}, "m"),
]


@pytest.mark.parametrize(("body", "words"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_whatever_the_body_is(recorder: Recorder, body: Any, words: str) -> None:
    caught = fail(recorder, Reply(body, status=500))
    assert type(caught) is llmbackend.ServerError
    assert words in str(caught)


def test_a_redirect_is_not_followed(recorder: Recorder) -> None:
    caught = fail(recorder, Reply(b"", status=302, headers={"location": "https://elsewhere.example/"}))
    assert "elsewhere.example" in str(caught)
    assert len(recorder.requests) == 1


@pytest.mark.parametrize("status", [200, 400, 500])
def test_no_key_is_in_an_error(recorder: Recorder, status: int) -> None:
    key = "AIzaSyD-secret-0123456789"
    body = {"error": {"code": status, "message": f"key {key} is bad", "status": key}, "echo": f"x-goog-api-key: {key}"}
    caught = fail(recorder, Reply(body, status=status), api_key=key)
    assert caught.message == "key *** is bad"
    assert caught.code == "***"
    shown = f"{caught} {caught!r} {vars(caught)} {''.join(traceback.format_exception(caught))}"
    assert key not in shown


def test_no_key_is_in_a_lost_connection(recorder: Recorder) -> None:
    recorder.replies = [Reply(drop=True)]
    asked = client(recorder, api_key="AIza-secret-1", max_retries=0)
    with pytest.raises(llmbackend.APIConnectionError) as caught:
        asked.get_response("x")
    assert "AIza" not in "".join(traceback.format_exception(caught.value)) + repr(asked)
