"""An error inside a reply that said 200 has the class of its code, and is tried again like that class, in single calls
and immediate batches; in a job's row too. A word for the state that nobody knows beside a whole answer is no error."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import Recorder, Reply, Stopwatch
from replies import ALL, ANTHROPIC, GEMINI, OPENAI, Wire, openai_message, openai_reply, play

import llmbackend


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def wire(request: pytest.FixtureRequest) -> Any:
    return request.param


SHOULD_NOT_WAIT = {"retry-after-ms": "1"}

# What any of the servers and gateways may write, on any wire.
EVERYWHERE: list[tuple[Any, type[Exception], str]] = [
    ({"error": {"code": 429, "message": "slow down"}}, llmbackend.RateLimitError, "slow down"),
    ({"error": {"code": "429", "message": "slow down"}}, llmbackend.RateLimitError, "slow down"),
    ({"error": {"code": 503.0, "message": "busy"}}, llmbackend.ServerError, "busy"),
    ({"error": {"code": 529, "message": "overloaded"}}, llmbackend.ServerError, "overloaded"),
    ({"error": {"code": 401, "message": "No auth credentials found"}}, llmbackend.AuthenticationError, "credentials"),
    ({"error": {"code": 402, "message": "no credits"}}, llmbackend.QuotaExceededError, "no credits"),
    ({"error": {"code": 403, "message": "moderated"}}, llmbackend.PermissionDeniedError, "moderated"),
    ({"error": {"code": 404, "message": "no model"}}, llmbackend.NotFoundError, "no model"),
    ({"error": {"code": 400, "message": "bad"}}, llmbackend.InvalidRequestError, "bad"),
    ({"error": {"type": "rate_limit_error", "message": "slow"}}, llmbackend.RateLimitError, "slow"),
    ({"error": {"status": "UNAVAILABLE", "message": "busy"}}, llmbackend.ServerError, "busy"),
    ({"error": {"message": "boom"}}, llmbackend.APIError, "boom"),
    ({"error": "boom"}, llmbackend.APIError, "boom"),
    ({"error": "boom", "code": 500}, llmbackend.ServerError, "boom"),
    ({"error": "rate_limit_exceeded", "message": "slow"}, llmbackend.RateLimitError, "slow"),
    ([{"error": {"code": 503, "message": "busy"}}], llmbackend.ServerError, "busy"),
    ({"choices": [{"error": {"code": 502, "message": "upstream"}}]}, llmbackend.ServerError, "upstream"),
    ({"errors": [{"code": 429, "message": "slow"}], "success": False}, llmbackend.RateLimitError, "slow"),
    ({"statusCode": 429, "message": "Rate limit is exceeded."}, llmbackend.RateLimitError, "Rate limit"),
    ({"object": "error", "message": "bad", "type": "BadRequestError"}, llmbackend.InvalidRequestError, "bad"),
]
OWN: dict[str, list[tuple[Any, type[Exception], str]]] = {
    "openai": [
        (openai_reply(status="failed", error={"code": "server_error", "message": "boom"}), llmbackend.ServerError, "boom"),
        (
            openai_reply(status="failed", error={"code": "rate_limit_exceeded", "message": "slow"}),
            llmbackend.RateLimitError,
            "slow",
        ),
        (openai_reply(status="failed", error={"code": "invalid_prompt", "message": "no"}), llmbackend.InvalidRequestError, "no"),
        ({"error": {"code": None, "type": "insufficient_quota", "message": "pay"}}, llmbackend.QuotaExceededError, "pay"),
        ({"error": {"code": 429, "type": "insufficient_quota", "message": "pay"}}, llmbackend.QuotaExceededError, "pay"),
        ({"error": {"code": "invalid_api_key", "message": "no"}}, llmbackend.AuthenticationError, "no"),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "slow"}, llmbackend.RateLimitError, "slow"),
    ],
    "anthropic": [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}, llmbackend.ServerError, "busy"),
        ({"type": "error", "error": {"type": "api_error", "message": "boom"}}, llmbackend.ServerError, "boom"),
        ({"type": "error", "error": {"type": "billing_error", "message": "pay"}}, llmbackend.QuotaExceededError, "pay"),
        (
            {
                "type": "error",
                "error": {
                    "type": "rate_limit_error",
                    "message": "spent",
                    "details": {"error_code": "enforced_spend_limit_reached"},
                },
            },
            llmbackend.QuotaExceededError,
            "spent",
        ),
        ({"type": "error", "error": {"type": "conflict_error", "message": "again"}}, llmbackend.ServerError, "again"),
    ],
    "gemini": [
        ({"error": {"code": 8, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}, llmbackend.RateLimitError, "slow"),
        ({"error": {"code": 14, "message": "busy"}}, llmbackend.ServerError, "busy"),
        (
            {"error": {"code": 400, "message": "API key not valid. Pass one.", "status": "INVALID_ARGUMENT"}},
            llmbackend.AuthenticationError,
            "API key not valid",
        ),
        (
            {"error": {"code": 429, "message": "m", "details": [{"violations": [{"quotaId": "RequestsPerDay"}]}]}},
            llmbackend.QuotaExceededError,
            "RequestsPerDay",
        ),
    ],
}  # fmt: skip
CASES = [
    pytest.param(wire, *case, id=f"{wire.name}-{json.dumps(case[0])[:60]}")
    for wire in ALL
    for case in [*EVERYWHERE, *OWN[wire.name]]
]


@pytest.mark.parametrize(("wire", "body", "kind", "words"), CASES)
def test_an_error_has_the_class_of_its_code(
    recorder: Recorder, wire: Wire, body: Any, kind: type[llmbackend.APIError], words: str
) -> None:
    with pytest.raises(llmbackend.APIError, match=words) as caught:
        wire.single(recorder, body)
    assert (type(caught.value), caught.value.status) == (kind, 200)
    assert json.loads(caught.value.body or "") == body
    item = wire.job(recorder, body)
    assert (type(item.error), item.status, item.value) == (kind, "failed", None)
    assert words in str(item.error)


@pytest.mark.parametrize(("wire", "body", "kind", "words"), CASES)
def test_it_is_tried_again_as_its_class_is(
    recorder: Recorder, wire: Wire, body: Any, kind: type[llmbackend.APIError], words: str
) -> None:
    play(recorder, Reply(body, headers=SHOULD_NOT_WAIT), Reply(wire.reply("ok")))
    client = wire.client(recorder)
    is_transient = kind in (llmbackend.RateLimitError, llmbackend.ServerError)
    if is_transient:
        assert client.get_response("x") == "ok"
    else:
        with pytest.raises(kind, match=words):
            client.get_response("x")
    assert len(recorder.requests) == 1 + is_transient
    # All tries send the same.
    assert len({(request.path, request.body) for request in recorder.requests}) == 1


BUSY = {"error": {"code": 503, "message": "busy"}}


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_max_retries_holds(recorder: Recorder, wire: Wire, retries: int) -> None:
    play(recorder, Reply(BUSY, headers=SHOULD_NOT_WAIT))
    with pytest.raises(llmbackend.ServerError, match="busy"):
        wire.client(recorder, max_retries=retries).get_response("x")
    assert len(recorder.requests) == 1 + retries


def test_what_the_server_says_of_another_try_holds(recorder: Recorder, wire: Wire) -> None:
    play(recorder, Reply(BUSY, headers={"retry-after": "0.3"}), Reply(wire.reply("ok")))
    with Stopwatch() as watch:
        assert wire.client(recorder).get_response("x") == "ok"
    assert watch.seconds >= 0.3
    for headers, wait in (({"retry-after": "121"}, 121.0), ({"x-should-retry": "false"}, None)):
        play(recorder, Reply(BUSY, headers=headers))
        with pytest.raises(llmbackend.ServerError) as caught:
            wire.client(recorder).get_response("x")
        assert (len(recorder.requests), caught.value.retry_after) == (1, wait)
    play(recorder, Reply({"error": "boom"}, headers={"x-should-retry": "true", **SHOULD_NOT_WAIT}))
    with pytest.raises(llmbackend.APIError, match="boom"):
        wire.client(recorder).get_response("x")
    assert len(recorder.requests) == 1  # nobody knows what it is: it may have been paid for


def test_gemini_says_in_the_body_how_long_to_wait(recorder: Recorder) -> None:
    said = {"code": 429, "message": "slow", "details": [{"@type": "RetryInfo", "retryDelay": "600s"}]}
    play(recorder, Reply({"error": said}))
    with pytest.raises(llmbackend.RateLimitError) as caught:
        GEMINI.client(recorder).get_response("x")
    assert (len(recorder.requests), caught.value.retry_after) == (1, 601.0)


def test_an_immediate_batch_tries_again_and_ends_at_a_wrong_key(recorder: Recorder, wire: Wire) -> None:
    play(recorder, Reply(BUSY, headers=SHOULD_NOT_WAIT), Reply(wire.reply("ok")))
    client = wire.client(recorder)
    assert client.submit_batch(["a", "b"], batch_options={"native": False}).results() == ["ok", "ok"]
    assert len(recorder.requests) == 3
    play(recorder, Reply({"error": {"code": 401, "message": "wrong key"}}))
    with pytest.raises(llmbackend.AuthenticationError, match="wrong key"):
        client.submit_batch(["a", "b"], batch_options={"native": False})
    assert len(recorder.requests) == 1


def test_replies_that_were_paid_for_are_not_asked_for_again(recorder: Recorder, wire: Wire) -> None:
    for body in ("<html>Log in</html>", {}, wire.reply()):
        play(recorder, Reply(body, headers={"x-should-retry": "true", **SHOULD_NOT_WAIT}))
        with pytest.raises(llmbackend.LLMBackendError):
            wire.client(recorder).get_response("x")
        assert len(recorder.requests) == 1


def test_the_older_form_is_tried_after_an_error_in_a_200(recorder: Recorder) -> None:
    said = {"type": "invalid_request_error", "message": "output_config: Extra inputs are not permitted"}
    tool = {"type": "tool_use", "id": "t", "name": "response", "input": {"a": 1}}
    reply = ANTHROPIC.reply(tool, stop_reason="tool_use")
    play(recorder, Reply({"type": "error", "error": said}), Reply(reply))
    assert ANTHROPIC.client(recorder).get_response("x", schema={"type": "object"}) == {"a": 1}
    assert "tool_choice" in recorder.requests[1].json


def test_a_key_in_it_is_blacked_out(recorder: Recorder, wire: Wire) -> None:
    with pytest.raises(llmbackend.AuthenticationError) as caught:
        wire.single(recorder, {"error": {"code": 401, "message": "wrong key test-key-1"}})
    assert caught.value.message == "wrong key ***"
    assert "test-key-1" not in (caught.value.body or "")


# --- Words for the state ---


@pytest.mark.parametrize("status", ["complete", "Completed", "COMPLETED", "done", "success", "finished", "succeeded"])
def test_an_unknown_status_beside_a_whole_answer_is_an_answer(recorder: Recorder, status: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    body = openai_reply('{"a": 1}', status=status)
    assert OPENAI.single(recorder, body).text == '{"a": 1}'
    assert OPENAI.single(recorder, body, schema).value == {"a": 1}
    item = OPENAI.job(recorder, body)
    assert (item.status, item.value, item.finish_reason) == ("succeeded", '{"a": 1}', "stop")
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}
    with pytest.raises(llmbackend.RefusalError, match="No"):
        OPENAI.single(recorder, openai_reply(refusal, status=status))


UNFINISHED = [
    ("pondering", ()),
    ("pondering", (openai_message(""),)),
    ("pondering", ({"type": "reasoning", "summary": []},)),
    ("pondering", (openai_message("half", status="in_progress"),)),
    ("pondering", (openai_message("whole"), openai_message("half", status="incomplete"))),
    ("queued", ("text",)),
    ("in_progress", ("text",)),
    ("cancelled", ("text",)),
    ("Canceled", ("text",)),
]


@pytest.mark.parametrize(("status", "items"), UNFINISHED)
def test_without_a_whole_answer_it_is_an_error(recorder: Recorder, status: str, items: tuple[Any, ...]) -> None:
    body = openai_reply(*items, status=status)
    with pytest.raises(llmbackend.APIError, match=f"'{status.lower()}', not completed") as caught:
        OPENAI.single(recorder, body)
    assert type(caught.value) is llmbackend.APIError
    assert OPENAI.job(recorder, body).status == "failed"


# --- Gemini's blocked prompts ---

FEEDBACK: list[tuple[dict[str, Any], str]] = [
    ({"blockReasonMessage": "because of policy"}, "the prompt was blocked by the provider: because of policy"),
    ({"blockReason": None, "blockReasonMessage": "why"}, "the prompt was blocked by the provider: why"),
    ({"blockReason": "", "blockReasonMessage": "why"}, "the prompt was blocked by the provider: why"),
    ({"blockReason": "OTHER", "blockReasonMessage": ""}, "the prompt was blocked by the provider (OTHER)"),
    ({"blockReason": "OTHER", "blockReasonMessage": "why"}, "the prompt was blocked by the provider (OTHER): why"),
]


@pytest.mark.parametrize(("feedback", "message"), FEEDBACK)
@pytest.mark.parametrize("candidates", [{}, {"candidates": []}, {"candidates": None}])
def test_a_blocked_prompt_is_refused_with_its_message(
    recorder: Recorder, feedback: dict[str, Any], message: str, candidates: dict[str, Any]
) -> None:
    body = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 9}, **candidates}
    with pytest.raises(llmbackend.ContentFilterError) as caught:
        GEMINI.single(recorder, body)
    assert (str(caught.value), caught.value.usage) == (message, llmbackend.Usage(9, 0))
    for item in (GEMINI.immediate(recorder, body), GEMINI.job(recorder, body)):
        assert (item.status, str(item.error)) == ("refused", message)
    # Beside an answer it blocked nothing.
    assert GEMINI.single(recorder, GEMINI.reply("hi", promptFeedback=feedback)).text == "hi"
