"""Error replies on Anthropic's wire: which class, what it carries, and what is tried again."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from recorder import Recorder, Reply, Stopwatch

import llmbackend
from llmbackend import (
    APIError,
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    ServerError,
)

KEY = "sk-ant-secret-1"
OK = {"type": "message", "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn"}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def ask(recorder: Recorder, *replies: Reply, schema: Any = None, **options: Any) -> llmbackend.Response:
    recorder.replies = list(replies)
    options = {"api_key": KEY, "base_url": recorder.root, "max_retries": 0, **options}
    return llmbackend.Client("anthropic", "m", **options).generate("x", None, schema)


def fails(recorder: Recorder, *replies: Reply, **options: Any) -> APIError:
    with pytest.raises(APIError) as caught:
        ask(recorder, *replies, **options)
    return caught.value


def error(kind: str, message: str = "boom", **fields: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **fields}, "request_id": "req_body"}


TABLE: list[tuple[int, dict[str, Any], type[APIError]]] = [
    (400, error("invalid_request_error"), InvalidRequestError),
    (400, error("invalid_request_error", "You have reached your specified API usage limits."), QuotaExceededError),
    (
        400,
        error("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        QuotaExceededError,
    ),
    (401, error("authentication_error"), AuthenticationError),
    (402, error("billing_error"), QuotaExceededError),
    (403, error("permission_error"), PermissionDeniedError),
    (404, error("not_found_error"), NotFoundError),
    (405, error("invalid_request_error"), InvalidRequestError),
    (408, error("timeout_error"), ServerError),
    (409, error("conflict_error"), ServerError),
    (412, error("invalid_request_error"), InvalidRequestError),
    (413, error("request_too_large"), InvalidRequestError),
    (422, error("invalid_request_error"), InvalidRequestError),
    (429, error("rate_limit_error"), RateLimitError),
    (429, error("rate_limit_error", details={"error_code": "ramp_limit_exceeded"}), RateLimitError),
    (429, error("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}), QuotaExceededError),
    (429, error("rate_limit_error", details={"error_code": "contract_spend_limit_reached"}), QuotaExceededError),
    (431, error("invalid_request_error"), InvalidRequestError),
    (499, error("brand_new"), InvalidRequestError),
    (500, error("api_error"), ServerError),
    (501, error("api_error"), ServerError),
    (502, error("api_error"), ServerError),
    (503, error("api_error"), ServerError),
    (504, error("timeout_error"), ServerError),
    (520, error("api_error"), ServerError),
    (524, error("api_error"), ServerError),
    (529, error("overloaded_error"), ServerError),
]


@pytest.mark.parametrize(
    ("status", "body", "kind"), TABLE, ids=[f"{row[0]}-{row[2].__name__}-{i}" for i, row in enumerate(TABLE)]
)
def test_the_class_of_a_status(recorder: Recorder, status: int, body: dict[str, Any], kind: type[APIError]) -> None:
    found = fails(recorder, Reply(body, status=status, headers={"request-id": "req_head"}))
    assert type(found) is kind
    assert (found.provider, found.status, found.message) == ("anthropic", status, body["error"]["message"])
    details = body["error"].get("details") or {}
    assert found.code == details.get("error_code", body["error"]["type"])
    assert found.request_id == "req_head"
    assert found.message in str(found)
    assert "req_head" in str(found)
    assert body["error"]["type"] in (found.body or "")


def test_where_the_request_id_is(recorder: Recorder) -> None:
    body = error("api_error")
    assert fails(recorder, Reply(body, status=400)).request_id == "req_body"
    both = {"x-request-id": "of-the-proxy", "request-id": "req_head"}
    assert fails(recorder, Reply(body, status=400, headers=both)).request_id == "req_head"
    assert fails(recorder, Reply("", status=400, headers={"x-request-id": "of-the-proxy"})).request_id == "of-the-proxy"
    assert fails(recorder, Reply("", status=400)).request_id is None


BODIES: list[tuple[str, Any, str | None, str]] = [
    ("HTML", "<html>bad gateway</html>", None, "<html>bad gateway</html>"),
    ("nothing", "", None, "no body"),
    ("text", "Request Entity Too Large", None, "Request Entity Too Large"),
    ("{}", {}, None, "{}"),
    ("a str", {"error": "just text"}, None, "just text"),
    ("a str beside a type", {"type": "error", "error": "just text"}, None, "just text"),
    ("OpenAI's words", {"error": {"message": "m1", "type": "BadRequest", "param": None, "code": 400}}, "400", "m1"),
    (
        "OpenAI's words, no code",
        {"error": {"message": "m1", "type": "internal_error", "code": None}},
        "internal_error",
        "m1",
    ),
    (
        "FastAPI's words",
        {"detail": [{"loc": ["body", "max_tokens"], "msg": "Field required"}]},
        None,
        "body.max_tokens: Field required",
    ),
    ("details null", error("invalid_request_error", details=None), "invalid_request_error", "boom"),
    ("an unknown code", error("invalid_request_error", details={"error_code": "brand_new"}), "brand_new", "boom"),
    ("no message", {"type": "error", "error": {"type": "api_error"}}, "api_error", "api_error"),
    ("message null", error("api_error", None), "api_error", "api_error"),  # type: ignore[arg-type]
    ("a list", "[1, 2]", None, "[1, 2]"),
]


@pytest.mark.parametrize(("body", "code", "words"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
@pytest.mark.parametrize("status", [400, 500])
def test_every_dialect_gives_its_message(
    recorder: Recorder, status: int, body: Any, code: str | None, words: str
) -> None:
    found = fails(recorder, Reply(body, status=status))
    assert type(found) is (InvalidRequestError if status == 400 else ServerError)
    assert found.code == code
    assert words in found.message


def test_the_key_is_in_no_error(recorder: Recorder) -> None:
    leak = error("authentication_error", f"invalid x-api-key: {KEY}")
    for options in ({}, {"api_key": None, "auth_token": KEY}, {"api_key": None, "headers": {"X-Api-Key": KEY}}):
        found = fails(recorder, Reply(leak, status=401), **options)
        assert KEY not in f"{found} {found!r} {found.body} {vars(found)}"
        assert "***" in found.message
    found = fails(recorder, Reply(leak))  # inside a 200
    assert KEY not in f"{found} {found!r} {found.body} {vars(found)}"


def test_a_server_that_may_want_a_bearer_token(recorder: Recorder) -> None:
    """vLLM's server reads no x-api-key, on either wire."""
    refused = Reply({"error": "Unauthorized"}, status=401)
    found = fails(recorder, refused)
    assert type(found) is AuthenticationError
    assert found.message.startswith("Unauthorized. If this server wants a bearer token, give the key as auth_token")
    for options in ({"api_key": None, "auth_token": KEY}, {"base_url": f"{recorder.root}/api.anthropic.com"}):
        assert fails(recorder, refused, **options).message == "Unauthorized"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(recorder: Recorder, status: int) -> None:
    with Recorder(Reply(OK)) as other:
        found = fails(
            recorder, Reply("", status=status, headers={"location": other.root + "/v1/messages"}), max_retries=2
        )
        assert other.requests == []
    assert len(recorder.requests) == 1
    assert other.root in found.message
    assert "base_url" in found.message


def test_an_overloaded_server_is_asked_again(recorder: Recorder) -> None:
    busy = Reply(error("overloaded_error"), status=529, headers={"retry-after-ms": "20"})
    assert ask(recorder, busy, busy, Reply(OK), max_retries=2).text == "ok"
    assert len(recorder.requests) == 3
    assert len({request.body for request in recorder.requests}) == 1


def test_a_dropped_connection_is_tried_again(recorder: Recorder) -> None:
    assert ask(recorder, Reply(drop=True), Reply(OK), max_retries=1).text == "ok"
    with pytest.raises(llmbackend.APIConnectionError):
        ask(recorder, Reply(drop=True), max_retries=0)


def test_waits_are_obeyed_and_long_ones_are_raised(recorder: Recorder) -> None:
    def limited(seconds: str) -> Reply:
        return Reply(error("rate_limit_error"), status=429, headers={"retry-after": seconds})

    with Stopwatch() as watch:
        assert ask(recorder, limited("0.3"), Reply(OK), max_retries=2).text == "ok"
    assert 0.3 <= watch.seconds < 2
    recorder.requests.clear()
    with Stopwatch() as watch:
        found = fails(recorder, limited("121"), max_retries=2)
    assert (type(found), found.retry_after, len(recorder.requests)) == (RateLimitError, 121.0, 1)
    assert watch.seconds < 2


@pytest.mark.parametrize("code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"])
def test_spend_limits_are_never_tried_again(recorder: Recorder, code: str) -> None:
    body = error("rate_limit_error", details={"error_code": code})
    fails(recorder, Reply(body, status=429, headers={"x-should-retry": "true", "retry-after": "0.01"}), max_retries=2)
    assert len(recorder.requests) == 1


# --- The fallback to a forced tool ---

WORD = {"type": "object", "properties": {"w": {"type": "string"}}, "required": ["w"], "additionalProperties": False}
TOOL_ANSWER = {
    "type": "message",
    "content": [{"type": "tool_use", "id": "t", "name": "response", "input": {"w": "x"}}],
    "stop_reason": "tool_use",
}

OLD_SERVERS = [
    (400, error("invalid_request_error", "output_config: Extra inputs are not permitted")),
    (400, error("invalid_request_error", "output_config.format: Extra inputs are not permitted")),
    (422, {"detail": [{"loc": ["body", "output_config"], "msg": "Extra inputs are not permitted"}]}),
    (
        400,
        {
            "error": {
                "message": "{'type': 'extra_forbidden', 'loc': ('body', 'output_config'), 'msg': 'Extra inputs are not permitted'}"
            }
        },
    ),
    (400, {"error": {"message": "Unknown field `output_config`", "code": 400}}),
]
OTHER_COMPLAINTS = [
    (
        400,
        error(
            "invalid_request_error",
            "output_config.format.schema: For 'integer' type, property 'minimum' is not supported",
        ),
    ),
    (400, error("invalid_request_error", "output_config.effort: Extra inputs are not permitted")),
    (400, error("invalid_request_error", "output_config.effort: 'max' is not supported by this model")),
    (400, error("invalid_request_error", "temperature: Extra inputs are not permitted")),
    (400, error("invalid_request_error", "Schema is too complex for compilation.")),
    (400, error("invalid_request_error", "output_config.format.schema: Extra inputs are not permitted")),
    (
        400,
        {
            "error": {
                "message": "{'loc': ('body', 'output_config', 'format', 'schema'), 'msg': 'Extra inputs are not permitted'}"
            }
        },
    ),
    (404, error("not_found_error", "output_config: unknown")),
    (500, error("api_error", "output_config: Extra inputs are not permitted")),
]


@pytest.mark.parametrize(("status", "body"), OLD_SERVERS)
def test_an_old_server_is_asked_once_more_with_a_tool(recorder: Recorder, status: int, body: Any) -> None:
    assert ask(recorder, Reply(body, status=status), Reply(TOOL_ANSWER), schema=WORD).value == {"w": "x"}
    first, second = (request.json for request in recorder.requests)
    assert first["output_config"]["format"]["schema"] == WORD
    assert "tools" not in first
    assert second == {
        **{key: value for key, value in first.items() if key != "output_config"},
        "tools": [{"name": "response", "description": "Return the answer.", "input_schema": WORD}],
        "tool_choice": {"type": "tool", "name": "response", "disable_parallel_tool_use": True},
    }


@pytest.mark.parametrize(("status", "body"), OTHER_COMPLAINTS)
def test_other_complaints_are_raised(recorder: Recorder, status: int, body: Any) -> None:
    fails(recorder, Reply(body, status=status), Reply(TOOL_ANSWER), schema=WORD)
    assert len(recorder.requests) == 1


def test_there_is_no_third_request(recorder: Recorder) -> None:
    found = fails(recorder, Reply(OLD_SERVERS[0][1], status=400), schema=WORD)
    assert "output_config" in found.message
    assert len(recorder.requests) == 2


def test_without_a_schema_there_is_no_second(recorder: Recorder) -> None:
    fails(recorder, Reply(OLD_SERVERS[0][1], status=400))
    assert len(recorder.requests) == 1


def test_the_second_request_has_nothing_of_output_config(recorder: Recorder) -> None:
    recorder.replies = [Reply(OLD_SERVERS[0][1], status=400), Reply(TOOL_ANSWER)]
    client = llmbackend.Client("anthropic", "m", api_key=KEY, base_url=recorder.root)
    own = {"name": "own", "input_schema": {"type": "object"}}
    assert client.get_response("x", {"extra": {"effort": "low", "tools": [own]}}, WORD) == {"w": "x"}
    first, second = (request.json for request in recorder.requests)
    assert first["output_config"]["effort"] == "low"
    assert "output_config" not in second
    assert [tool["name"] for tool in second["tools"]] == ["own", "response"]


def test_roots_that_are_no_object_are_wrapped_for_a_tool(recorder: Recorder) -> None:
    answer = {**TOOL_ANSWER, "content": [{**TOOL_ANSWER["content"][0], "input": {"value": [1]}}]}  # type: ignore[index,dict-item]
    schema = {"type": "array", "items": {"type": "integer"}}
    assert ask(recorder, Reply(OLD_SERVERS[0][1], status=400), Reply(answer), schema=schema).value == [1]
    assert recorder.requests[1].json["tools"][0]["input_schema"]["properties"]["value"] == schema
