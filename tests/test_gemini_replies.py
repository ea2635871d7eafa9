"""What Gemini answers, and what becomes of it, beside what google-genai was recorded to read."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import llmbackend
import pytest
from gemini_wire import candidate, client, rows
from recorder import Recorder, Reply

CASES = {f"{row['kind']}: {row['name']}": row for row in rows("gemini_response_cases.jsonl")}

# Where we read something else than the SDK, and why.
DIFFERENCES = {
    "generate: MAX_TOKENS no parts": "None is a silent loss: TruncatedError",
    "generate: prompt blocked, candidates absent": "None is a silent loss: ContentFilterError",
    "generate: prompt blocked, candidates []": "None is a silent loss: ContentFilterError",
    "generate: SAFETY with partial text": "a blocked text is no answer: ContentFilterError, which carries it",
    "generate: empty object": "None is a silent loss: APIError",
    "generate: invalid json 200": "APIError, not a ValueError of the JSON parser",
    "error: empty 503": "the status says it all; there is no name of a status",
    "retry: retry_options off, one 429": "tried again: the SDK does so only when asked",
    "retry: retry_options off, one 501": "tried again: every 5xx is",
    "retry: retry_options off, one 503": "tried again: the SDK does so only when asked",
    "retry: retry_options off, one 504": "tried again: the SDK does so only when asked",
    "retry: retry_options on, one 409 then 200": "tried again: a conflict is the server's (as on OpenAI)",
    "batch_get: succeeded file, response only": "the SDK loses the file",
    "batch_get: no metadata": "no state is JOB_STATE_UNSPECIFIED, pending",
}
NO_VERB = {case: "streaming is a later issue" for case in CASES if case.startswith("stream: ")}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def ask(recorder: Recorder, body: Any, schema: Any = None, config: Any = None, **reply: Any) -> llmbackend.Response:
    recorder.requests.clear()
    recorder.replies = [Reply(body, **reply)]
    return client(recorder, max_retries=0).generate("x", config, schema)


def play(recorder: Recorder, case: str) -> None:
    """Sets up the recorded answers of a case."""
    recorder.requests.clear()
    recorder.replies = [Reply(reply["body"], reply["status"], reply["headers"]) for reply in CASES[case]["responses"]]


def of_kind(kind: str) -> list[str]:
    return [case for case in CASES if case.startswith(f"{kind}: ")]


def test_every_case_is_compared_or_listed() -> None:
    compared = {case for kind in ("generate", "error", "retry", "batch_get") for case in of_kind(kind)}
    assert len(CASES) == 51
    assert compared | set(NO_VERB) == set(CASES)
    assert set(DIFFERENCES) <= compared


@pytest.mark.parametrize("case", of_kind("generate"))
def test_a_reply_as_the_sdk_reads_it(recorder: Recorder, case: str) -> None:
    play(recorder, case)
    theirs = CASES[case]["sdk"].get("ok")
    asked = client(recorder, max_retries=0)
    if case not in DIFFERENCES:
        ours = asked.generate("x")
        assert ours.raw == CASES[case]["responses"][0]["body"]
        finish = {"stop": "STOP", "length": "MAX_TOKENS"}[ours.finish_reason]
        assert (ours.text, finish) == (theirs["text"], theirs["finish"][0] or "STOP")
        return
    with pytest.raises(llmbackend.LLMBackendError) as caught:
        asked.generate("x")
    assert type(caught.value).__name__ in DIFFERENCES[case]
    if theirs is not None and theirs["text"] is not None:
        assert caught.value.text == theirs["text"]  # type: ignore[attr-defined]


CLASSES = {
    400: llmbackend.InvalidRequestError, 401: llmbackend.AuthenticationError, 403: llmbackend.PermissionDeniedError,
    404: llmbackend.NotFoundError, 409: llmbackend.ServerError, 413: llmbackend.InvalidRequestError,
    429: llmbackend.RateLimitError,
}  # fmt: skip


@pytest.mark.parametrize("case", of_kind("error"))
def test_an_error_as_the_sdk_reads_it(recorder: Recorder, case: str) -> None:
    play(recorder, case)
    theirs = CASES[case]["sdk"]
    with pytest.raises(llmbackend.APIError) as caught:
        client(recorder, max_retries=0).generate("x")
    error = caught.value
    assert type(error) is CLASSES.get(theirs["code"], llmbackend.ServerError)
    assert error.status == theirs["code"]
    same = (error.code, error.message) == (theirs["status"], theirs["message"])
    assert same == (case not in DIFFERENCES)


@pytest.mark.parametrize("case", of_kind("retry"))
def test_a_second_try_as_the_sdk_makes_it(recorder: Recorder, case: str) -> None:
    play(recorder, case)
    asked, theirs = client(recorder, max_retries=1), CASES[case]["sdk"]
    # A second try of ours, where the SDK made none, gets the answer that was recorded for it.
    ends_well = "ok" in theirs or (case in DIFFERENCES and len(recorder.replies) > 1)
    if ends_well:
        assert asked.generate("x").text == "ok"
    else:
        with pytest.raises(llmbackend.APIError) as caught:
            asked.generate("x")
        assert (caught.value.status, caught.value.code) == (theirs["code"], theirs["status"])
        assert caught.value.message == theirs["message"]
    assert (len(recorder.requests) == CASES[case]["requests_sent"]) == (case not in DIFFERENCES)


@pytest.mark.parametrize("case", of_kind("batch_get"))
def test_a_job_as_the_sdk_reads_it(recorder: Recorder, case: str) -> None:
    play(recorder, case)
    theirs = CASES[case]["sdk"].get("ok")
    asked = client(recorder, max_retries=0)
    if theirs is None:
        with pytest.raises(llmbackend.NotFoundError, match="not found") as caught:
            asked.get_batch_status("batches/b1")
        assert caught.value.code == CASES[case]["sdk"]["status"]
        return
    batch = asked.get_batch("b1")
    assert batch.id == theirs["name"]
    assert batch.status() == theirs.get("state", "JOB_STATE_UNSPECIFIED")
    is_done = batch.normalized_status() in ("completed", "failed", "cancelled")
    assert is_done == bool(theirs["_done"])
    if is_done:
        recorder.replies.append(Reply(json.dumps({"key": "k1", "response": candidate("from the file")}) + "\n"))
    if not is_done:
        with pytest.raises(llmbackend.BatchNotCompletedError):
            batch.results()
    elif "CANCELLED" in theirs["state"]:
        with pytest.raises(llmbackend.BatchFailedError):
            batch.results()
    elif "inline" in case:
        with pytest.warns(UserWarning, match="order"):
            answer, refused = batch.items()
        assert (answer.text, str(refused.error)) == ("ok", "gemini: bad (code 3)")
        assert (
            theirs["dest"]["inlined_responses"][0]["response"]["candidates"][0]["content"]["parts"][0]["text"] == "ok"
        )
    else:
        with pytest.warns(UserWarning, match="order"):
            assert batch.results() == ["from the file"]
        assert recorder.requests[-1].path == "/download/v1beta/files/batch-b1:download?alt=media"
        assert ("dest" in theirs) == (case not in DIFFERENCES)


# --- Texts ---

THOUGHT = {"text": "hmm", "thought": True}
CALL = {"functionCall": {"name": "f", "args": {}}}

TEXTS: list[tuple[str, Any, str]] = [
    ("plain", candidate("Bonjour"), "Bonjour"),
    ("a thought comes first", candidate(THOUGHT, "Mountain ", {"text": "View", "thoughtSignature": "El4K"}, {"text": "", "thoughtSignature": "QQ=="}), "Mountain View"),
    ("a thought comes last", candidate("hi", THOUGHT), "hi"),
    ("thought false", candidate({"text": "hi", "thought": False}), "hi"),
    ("a signature alone", candidate("hi", {"thoughtSignature": "QQ=="}), "hi"),
    ("a tool call beside text", candidate("hi", CALL), "hi"),
    ("code and its result", candidate({"executableCode": {"language": "PYTHON", "code": "1"}}, {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}, "hi"), "hi"),
    ("an image beside text", candidate({"inlineData": {"mimeType": "image/png", "data": "QQ=="}}, "hi"), "hi"),
    ("a null text", candidate({"text": None}, "hi"), "hi"),
    ("unknown parts", candidate({"hologram": {}}, 7, None, "hi"), "hi"),
    ("an empty text is a text", candidate(""), ""),
    ("blanks are kept", candidate(" \n hi \n "), " \n hi \n "),
    ("no finish reason", candidate("hi", reason=None), "hi"),
    ("finish reason null", {"candidates": [{**candidate("hi")["candidates"][0], "finishReason": None}]}, "hi"),
    ("no role, no index", {"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}, "hi"),
    ("the first of two candidates", {"candidates": [*candidate("hi")["candidates"], *candidate("no")["candidates"]]}, "hi"),
    ("ratings of the prompt", candidate("hi", promptFeedback={"safetyRatings": [{"category": "x", "probability": "LOW"}]}), "hi"),
    ("empty feedback", candidate("hi", promptFeedback={}), "hi"),
    ("feedback null", candidate("hi", promptFeedback=None), "hi"),
    ("a block that did not block", candidate("hi", promptFeedback={"blockReason": "BLOCK_REASON_UNSPECIFIED"}), "hi"),
    ("grounding", {"candidates": [{**candidate("hi")["candidates"][0], "groundingMetadata": {"webSearchQueries": ["q"]}, "citationMetadata": {"citationSources": [{}]}}]}, "hi"),
    ("error null", candidate("hi", error=None), "hi"),
    ("an empty error", candidate("hi", error={}), "hi"),
    ("in a list of one", [candidate("hi")], "hi"),
    ("NaN among the log probabilities", '{"candidates":[{"avgLogprobs":NaN,"content":{"parts":[{"text":"hi"}]}}]}', "hi"),
    ("half an emoji", b'{"candidates":[{"content":{"parts":[{"text":"hi \\ud83d"}]}}]}', "hi �"),
    ("pretty-printed", json.dumps(candidate("hi"), indent=2), "hi"),
    ("separators of lines", candidate("a\u2028b\u2029c\x85d"), "a\u2028b\u2029c\x85d"),
    ("2 MB", candidate("é" * 1_000_000), "é" * 1_000_000),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_text_is_found(recorder: Recorder, body: Any, text: str, chunked: bool) -> None:
    if chunked and len(text) > 1000:
        return  # seven bytes at a time would take long
    reply = ask(recorder, body, chunked=chunked)
    assert (reply.text, reply.value, reply.finish_reason) == (text, text, "stop")
    assert len(recorder.requests) == 1


BLOCKED = [
    "SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "LANGUAGE", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION", "ESCALATION", "PUP_LIMITED_DISABLED", "MODEL_ARMOR",
]  # fmt: skip
OTHERS = [
    "OTHER", "MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS",
    "MISSING_THOUGHT_SIGNATURE", "IMAGE_OTHER", "NO_IMAGE", "FINISH_REASON_UNSPECIFIED", "CONTINUATION", "BRAND_NEW",
]  # fmt: skip


def said(reason: str, *parts: Any) -> dict[str, Any]:
    body = candidate(*parts, reason=reason)
    body["candidates"][0]["finishMessage"] = "because"
    if not parts:
        del body["candidates"][0]["content"]["parts"]
    return body


@pytest.mark.parametrize("reason", BLOCKED)
@pytest.mark.parametrize("parts", [(), ("half",), (THOUGHT,)])
@pytest.mark.parametrize("schema", [None, SCHEMA])
def test_a_blocked_answer(recorder: Recorder, reason: str, parts: tuple[Any, ...], schema: Any) -> None:
    with pytest.raises(llmbackend.ContentFilterError, match=f"{reason}.*because") as caught:
        ask(recorder, said(reason, *parts), schema)
    assert caught.value.text == ("half" if parts == ("half",) else None)
    assert json.loads(caught.value.response or "") == said(reason, *parts)


@pytest.mark.parametrize("reason", OTHERS)
def test_another_end(recorder: Recorder, reason: str) -> None:
    reply = ask(recorder, said(reason, "half"))
    assert (reply.text, reply.finish_reason) == ("half", reason)
    for body, schema, text in (
        (said(reason), None, None),
        (said(reason, '{"a": 1}'), SCHEMA, '{"a": 1}'),
        (said(reason, ""), None, None),
    ):
        with pytest.raises(llmbackend.OutputError, match=f"{reason}.*because") as caught:
            ask(recorder, body, schema)
        assert type(caught.value) is llmbackend.OutputError
        assert caught.value.text == text


@pytest.mark.parametrize("count", [299, "299"])
def test_the_budget_went_into_thinking(recorder: Recorder, count: Any) -> None:
    usage = {"promptTokenCount": 42, "totalTokenCount": 341, "thoughtsTokenCount": count}
    for body in (said("MAX_TOKENS"), said("MAX_TOKENS", THOUGHT), {"candidates": [{"finishReason": "MAX_TOKENS"}]}):
        with pytest.raises(llmbackend.TruncatedError, match="max_tokens.*thinking.*299"):
            ask(recorder, {**body, "usageMetadata": usage})
    with pytest.raises(llmbackend.TruncatedError, match="before the answer was complete"):
        ask(recorder, {**said("MAX_TOKENS"), "usageMetadata": {"thoughtsTokenCount": 0}})


def test_a_cut_text_is_a_value_but_not_with_a_schema(recorder: Recorder) -> None:
    reply = ask(recorder, candidate("half a", reason="MAX_TOKENS"))
    assert (reply.text, reply.finish_reason) == ("half a", "length")
    for text in ('{"a": 1', '{"a": 1}'):
        with pytest.raises(llmbackend.TruncatedError, match="raise max_tokens") as caught:
            ask(recorder, candidate(text, reason="MAX_TOKENS"), SCHEMA)
        assert caught.value.text == text


BLOCK_REASONS = [
    "SAFETY",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "IMAGE_SAFETY",
    "BLOCK_REASON_UNSPECIFIED",
    "JAILBREAK",
    "NEW",
]


@pytest.mark.parametrize("reason", BLOCK_REASONS)
@pytest.mark.parametrize("candidates", [{}, {"candidates": []}, {"candidates": None}, {"candidates": [{}]}])
def test_a_blocked_prompt(recorder: Recorder, reason: str, candidates: dict[str, Any]) -> None:
    body = {
        **candidates,
        "promptFeedback": {"blockReason": reason, "blockReasonMessage": "because"},
        "usageMetadata": {"promptTokenCount": 9},
    }
    with pytest.raises(llmbackend.ContentFilterError, match=f"prompt.*{reason}.*because") as caught:
        ask(recorder, body)
    assert json.loads(caught.value.response or "") == body


ERRORS: list[tuple[str, Any, type[Exception], str]] = [
    ("no candidate", {"usageMetadata": {"promptTokenCount": 1}}, llmbackend.OutputError, "no candidate"),
    ("candidates []", {"candidates": []}, llmbackend.OutputError, "no candidate"),
    ("candidates null", {"candidates": None}, llmbackend.OutputError, "no candidate"),
    ("a null candidate", {"candidates": [None]}, llmbackend.OutputError, "no candidate"),
    ("no content", {"candidates": [{"finishReason": "STOP"}]}, llmbackend.OutputError, "STOP"),
    ("content {}", {"candidates": [{"content": {}, "finishReason": "STOP"}]}, llmbackend.OutputError, "is empty"),
    ("parts []", candidate(), llmbackend.OutputError, "is empty"),
    ("only thoughts", candidate(THOUGHT), llmbackend.OutputError, "thoughts"),
    ("only a tool call", candidate(CALL), llmbackend.OutputError, "functionCall"),
    ("a tool call with its signature", candidate({"thoughtSignature": "x", **CALL}), llmbackend.OutputError, "functionCall"),
    ("only an image", candidate({"inlineData": {"mimeType": "image/png", "data": "QQ=="}}), llmbackend.OutputError, "inlineData"),
    ("text null", candidate({"text": None}), llmbackend.OutputError, "text"),
    ("empty", b"", llmbackend.APIError, "empty body"),
    ("blank", b" \r\n", llmbackend.APIError, "empty body"),
    ("HTML", "<!doctype html><title>Log in</title>", llmbackend.APIError, "Log in"),
    ("{}", {}, llmbackend.APIError, "no \"candidates\""),
    ("[]", [], llmbackend.APIError, "candidates"),
    ("a stream as one list", [candidate("a"), candidate("b")], llmbackend.APIError, "candidates"),
    ("events", 'data: {"candidates": []}\r\n\r\n', llmbackend.APIError, "data:"),
    ("null", "null", llmbackend.APIError, "candidates"),
    ("a str", '"hi"', llmbackend.APIError, "candidates"),
    ("half of it", json.dumps(candidate("hi"))[:40], llmbackend.APIError, "no JSON"),
    ("a chat completion", {"object": "chat.completion", "choices": []}, llmbackend.APIError, "candidates"),
    ("an error", {"error": {"code": 500, "message": "boom", "status": "INTERNAL"}}, llmbackend.ServerError, "boom"),
    ("an error in a list", [{"error": {"code": 503, "message": "boom", "status": "UNAVAILABLE"}}], llmbackend.ServerError, "boom"),
    ("an error without a code", {"error": {"message": "boom"}}, llmbackend.APIError, "boom"),
    ("an error by its name", {"error": {"message": "boom", "status": "RESOURCE_EXHAUSTED"}}, llmbackend.RateLimitError, "boom"),
    ("an error as a str", {"error": "boom"}, llmbackend.APIError, "boom"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "words"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_no_text_is_an_error_that_says_why(recorder: Recorder, body: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(llmbackend.LLMBackendError) as caught:
        ask(recorder, body, headers={"x-request-id": "req_7"})
    error = caught.value
    assert type(error) is kind
    assert words in str(error)
    assert len(recorder.requests) == 1
    if isinstance(error, llmbackend.APIError):
        assert (error.status, error.request_id, error.provider) == (200, "req_7", "gemini")
    else:
        assert isinstance(error, llmbackend.OutputError)
        assert json.loads(error.response or "") == json.loads(recorder.replies[0].payload())


# --- Usage ---

USAGES: list[tuple[Any, tuple[int, ...] | None]] = [
    (None, None),
    ({}, None),
    ([], None),
    ({"serviceTier": "standard"}, None),
    ({"promptTokenCount": 8, "candidatesTokenCount": 2, "totalTokenCount": 31, "thoughtsTokenCount": 21, "serviceTier": "standard"}, (8, 23, 0, 21, 31)),
    ({"promptTokenCount": 44, "thoughtsTokenCount": 1116, "candidatesTokenCount": 551, "totalTokenCount": 1711}, (44, 1667, 0, 1116, 1711)),
    ({"promptTokenCount": 100, "cachedContentTokenCount": 80, "candidatesTokenCount": 1}, (100, 1, 80, 0, 101)),
    ({"promptTokenCount": 10, "toolUsePromptTokenCount": 5, "candidatesTokenCount": 1, "totalTokenCount": 16}, (15, 1, 0, 0, 16)),
    ({"promptTokenCount": "3", "candidatesTokenCount": "4"}, (3, 4, 0, 0, 7)),
    ({"promptTokenCount": 3.0, "candidatesTokenCount": 4.0}, (3, 4, 0, 0, 7)),
    ({"promptTokenCount": -3, "candidatesTokenCount": None}, (0, 0, 0, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(("usage", "counts"), USAGES, ids=[str(row[0])[:40] for row in USAGES])
def test_usage(recorder: Recorder, usage: Any, counts: tuple[int, ...] | None) -> None:
    found = ask(recorder, candidate("hi", usageMetadata=usage)).usage
    if counts is None:
        assert found is None
    else:
        assert found is not None
        fields = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")
        assert tuple(getattr(found, field) for field in fields) == counts


def test_model_and_id(recorder: Recorder) -> None:
    reply = ask(recorder, candidate("hi"))
    assert (reply.model, reply.id, reply.raw) == ("m-1", "r1", candidate("hi"))
    reply = ask(recorder, candidate("hi", modelVersion=None, responseId=7))
    assert (reply.model, reply.id) == (None, None)


# --- Structured answers ---


@pytest.mark.parametrize(
    "text", ['{"a": 1}', '```json\n{"a": 1}\n```', '```\n{"a": 1}\n```\n', ' {"a": 1} ', '\ufeff{"a": 1}']
)
def test_a_structured_answer(recorder: Recorder, text: str) -> None:
    assert ask(recorder, candidate(text), SCHEMA).value == {"a": 1}
    assert ask(recorder, candidate(THOUGHT, text[:4], text[4:]), SCHEMA).value == {"a": 1}


@pytest.mark.parametrize("text", ["", "no", '{"a": "x"}', "{}", '{"a": 1} {"a": 2}', '```json\n{"a": 1'])
def test_an_answer_that_does_not_fit(recorder: Recorder, text: str) -> None:
    with pytest.raises(llmbackend.InvalidOutputError) as caught:
        ask(recorder, candidate(text), SCHEMA)
    assert caught.value.text == text
    assert isinstance(caught.value, ValueError)


def test_a_root_of_any_type(recorder: Recorder) -> None:
    assert ask(recorder, candidate("[1, 2]"), {"type": "array", "items": {"type": "integer"}}).value == [1, 2]
    sent = recorder.requests[0].json["generationConfig"]["responseJsonSchema"]
    assert sent == {"type": "array", "items": {"type": "integer"}}
    assert ask(recorder, candidate('"b"'), {"enum": ["a", "b"]}).value == "b"
