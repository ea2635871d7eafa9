"""What servers answer, and what becomes of it: OpenAI's own replies, those of the servers that speak its language, and
everything that a network makes of them."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorder import ANSWER, Recorder, Reply, answer

import llmbackend

SERVERS = Path(__file__).parent / "fixtures" / "openai" / "servers"
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def ask(recorder: Recorder, body: Any, schema: Any = None, config: Any = None, **reply: Any) -> llmbackend.Response:
    recorder.requests.clear()
    recorder.replies = [Reply(body, **reply)]
    client = llmbackend.Client("openai", "m", api_key="sk-test-1", base_url=recorder.url, max_retries=0)
    return client.generate("x", config, schema)


def message(*parts: Any, **fields: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"type": "message", "role": "assistant", "status": "completed", "content": content, **fields}


def response(*items: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "status": "completed", "output": list(items), **fields}


REASONING = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hmm"}], "content": None}
REFUSAL = {"type": "refusal", "refusal": "I can't."}
CUT = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
FILTERED = {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}

TEXTS = [
    ("plain", response(message("hi")), "hi"),
    ("parts are joined without a separator", response(message("a", "b"), message("c")), "abc"),
    ("reasoning comes first", response(REASONING, message("hi")), "hi"),
    (
        "commentary is not the answer",
        response(message("let me see", phase="commentary"), message("hi", phase="final_answer")),
        "hi",
    ),
    (
        "a message without a phase counts beside the final answer",
        response(message("a", phase=None), message("x", phase="commentary"), message("b", phase="final_answer")),
        "ab",
    ),
    ("commentary alone is all there is", response(message("hi", phase="commentary")), "hi"),
    ("unknown items and parts", response({"type": "quantum_call"}, 7, None, message({"type": "hologram"}, "hi")), "hi"),
    ("tool calls beside text", response({"type": "web_search_call", "id": "w"}, message("hi")), "hi"),
    ("a null part text beside a text", response(message({"type": "output_text", "text": None}, "hi")), "hi"),
    ("a null content beside a text", response({"type": "message", "content": None}, message("hi")), "hi"),
    ("a refusal beside text", response(message("hi", REFUSAL)), "hi"),
    ("no status", {"output": [message("hi")]}, "hi"),
    ("status null", response(message("hi"), status=None), "hi"),
    ("error and details null", response(message("hi"), error=None, incomplete_details=None), "hi"),
    ("an empty error object", response(message("hi"), error={}), "hi"),
    ("content as a str", response({"type": "message", "role": "assistant", "content": "hi"}), "hi"),
    ("a message without a role", response({"type": "message", "content": [{"type": "output_text", "text": "hi"}]}), "hi"),
    ("a message without a type", response({"role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}), "hi"),
    ("the prompt echoed", response(message("prompt", role="user"), message("hi")), "hi"),
    ("NaN among the log probabilities", '{"output":[{"type":"message","content":[{"type":"output_text","text":"hi",'
     '"logprobs":[{"logprob":NaN},{"logprob":-Infinity},{"logprob":-1e999}]}]}]}', "hi"),
    ("half an emoji", b'{"output":[{"type":"message","content":[{"type":"output_text","text":"hi \\ud83d"}]}]}', "hi �"),
    ("a whole emoji", b'{"output":[{"type":"message","content":[{"type":"output_text","text":"\\ud83d\\ude00"}]}]}', "😀"),
    ("bytes that are no UTF-8", b'{"output":[{"type":"message","content":[{"type":"output_text","text":"hi \xff"}]}]}', "hi �"),
    ("a raw newline in a str", b'{"output":[{"type":"message","content":[{"type":"output_text","text":"a\nb\tc"}]}]}', "a\nb\tc"),
    ("a byte order mark", b"\xef\xbb\xbf" + json.dumps(ANSWER).encode(), "ok"),
    ("separators of lines", response(message("a\u2028b\u2029c\x85d")), "a\u2028b\u2029c\x85d"),
    ("blanks are kept", response(message(" \n hi \n ")), " \n hi \n "),
    ("5 MB", response(message("é" * 2_500_000)), "é" * 2_500_000),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_a_text_is_found(recorder: Recorder, body: Any, text: str) -> None:
    reply = ask(recorder, body)
    assert (reply.text, reply.value, reply.finish_reason) == (text, text, "stop")
    assert isinstance(reply.raw, dict)
    assert len(recorder.requests) == 1


ERRORS: list[tuple[str, Any, type[Exception], str]] = [
    ("a refusal", response(message(REFUSAL)), llmbackend.RefusalError, "I can't."),
    ("a refusal beside an empty text", response(message("", REFUSAL)), llmbackend.RefusalError, "I can't."),
    ("a refusal that was cut", response(message(REFUSAL), **CUT), llmbackend.RefusalError, "I can't."),
    ("budget spent on reasoning", response(REASONING, **CUT), llmbackend.TruncatedError, "reasoning"),
    ("cut before any text", response(message(""), **CUT), llmbackend.TruncatedError, "max_tokens"),
    ("cut and output null", {**response(**CUT), "output": None}, llmbackend.TruncatedError, "max_tokens"),
    ("filtered", response(message("ab"), **FILTERED), llmbackend.ContentFilterError, "filter"),
    ("filtered, no text", response(**FILTERED), llmbackend.ContentFilterError, "filter"),
    ("no output", response(), llmbackend.OutputError, "no text"),
    ("output null", {**response(), "output": None}, llmbackend.OutputError, "no text"),
    ("output missing", {"object": "response", "status": "completed"}, llmbackend.OutputError, "no text"),
    ("only reasoning", response(REASONING), llmbackend.OutputError, "reasoning"),
    ("only a tool call", response({"type": "function_call", "name": "f"}), llmbackend.OutputError, "function_call"),
    ("only an unknown part", response(message({"type": "hologram"})), llmbackend.OutputError, "hologram"),
    ("content null", response({"type": "message", "content": None}), llmbackend.OutputError, "no text"),
    ("text null", response(message({"type": "output_text", "text": None})), llmbackend.OutputError, "no text"),
    (
        "failed",
        response(status="failed", error={"code": "server_error", "message": "boom"}),
        llmbackend.ServerError,
        "boom",
    ),
    ("failed without a reason", response(status="failed", error=None), llmbackend.APIError, "failed"),
    ("an error beside completed", response(error={"code": "x", "message": "boom"}), llmbackend.APIError, "boom"),
    ("an error as a str", {"error": "boom"}, llmbackend.APIError, "boom"),
    ("queued", response(status="queued"), llmbackend.APIError, "queued"),
    ("in progress", response(message("h"), status="in_progress"), llmbackend.APIError, "in_progress"),
    ("cancelled", response(message("h"), status="cancelled"), llmbackend.APIError, "cancelled"),
    ("empty", b"", llmbackend.APIError, "empty body"),
    ("blank", b" \r\n", llmbackend.APIError, "empty body"),
    ("HTML", "<!doctype html><title>Log in</title>", llmbackend.APIError, "Log in"),
    ("{}", {}, llmbackend.APIError, "no response object"),
    ("a list", [response(message("hi"))], llmbackend.APIError, "no response object"),
    ("a str", '"hi"', llmbackend.APIError, "no response object"),
    ("a number", "7", llmbackend.APIError, "no response object"),
    ("null", "null", llmbackend.APIError, "no response object"),
    ("true", "true", llmbackend.APIError, "no response object"),
    ("half of it", json.dumps(ANSWER)[:80], llmbackend.APIError, "no JSON"),
    ("a chat completion", {"object": "chat.completion", "choices": []}, llmbackend.APIError, "no response object"),
    ("events", 'event: response.created\ndata: {"type":"response.created"}\n\n', llmbackend.APIError, "event"),
]


@pytest.mark.parametrize(("body", "kind", "words"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_no_text_is_an_error_that_says_why(recorder: Recorder, body: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(llmbackend.LLMBackendError) as caught:
        ask(recorder, body, headers={"x-request-id": "req_7"})
    error = caught.value
    assert type(error) is kind
    assert words in str(error)
    assert len(recorder.requests) == 1  # undecodable and failed replies were paid for: not sent again
    if isinstance(error, llmbackend.APIError):
        assert (error.status, error.request_id, error.provider) == (200, "req_7", "openai")
        assert len(error.body or "") <= 4000
    else:
        assert isinstance(error, llmbackend.OutputError)
        assert json.loads(error.response or "") == json.loads(recorder.replies[0].payload())


def test_the_code_of_a_failed_response(recorder: Recorder) -> None:
    with pytest.raises(llmbackend.APIError) as caught:
        ask(recorder, response(status="failed", error={"code": "vector_store_timeout", "message": "slow sk-test-1"}))
    assert caught.value.code == "vector_store_timeout"
    assert caught.value.message == "slow ***"
    with pytest.raises(llmbackend.APIError) as caught:
        ask(recorder, response(status="failed", error={"code": 500, "message": "slow"}))
    assert caught.value.code == "500"


def test_a_refusal_and_a_filtered_text_are_kept(recorder: Recorder) -> None:
    with pytest.raises(llmbackend.RefusalError) as refused:
        ask(recorder, response(message(REFUSAL)), SCHEMA)
    assert refused.value.text == "I can't."
    with pytest.raises(llmbackend.ContentFilterError) as filtered:
        ask(recorder, response(message("half"), **FILTERED))
    assert filtered.value.text == "half"


def test_a_cut_text_is_a_value_but_not_with_a_schema(recorder: Recorder) -> None:
    reply = ask(recorder, response(message("half a"), **CUT))
    assert (reply.text, reply.finish_reason) == ("half a", "length")
    with pytest.raises(llmbackend.TruncatedError, match="raise max_tokens") as caught:
        ask(recorder, response(message('{"ok": tr'), **CUT), SCHEMA)
    assert caught.value.text == '{"ok": tr'
    steered = {"status": "incomplete", "incomplete_details": {"reason": "steered"}}
    assert ask(recorder, response(message("half a"), **steered)).finish_reason == "steered"
    assert ask(recorder, response(message("half a"), status="incomplete")).finish_reason == "length"


@pytest.mark.parametrize(
    "headers_body",
    [
        ({"content-encoding": "gzip"}, gzip.compress(json.dumps(ANSWER).encode())),
        ({"content-encoding": "deflate"}, zlib.compress(json.dumps(ANSWER).encode())),
        ({"content-type": "text/plain"}, json.dumps(ANSWER).encode()),
    ],
    ids=["gzip", "deflate", "text/plain"],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_however_it_is_wrapped(recorder: Recorder, headers_body: tuple[dict[str, str], bytes], chunked: bool) -> None:
    headers, body = headers_body
    assert ask(recorder, body, headers=headers, chunked=chunked).text == "ok"


USAGES = [
    (None, None),
    ([], None),
    ({}, None),
    ({"input_tokens": 3}, (3, 0, 0, 0, 3)),
    ({"input_tokens": 3.0, "output_tokens": 4.0}, (3, 4, 0, 0, 7)),
    ({"input_tokens": -3, "output_tokens": 4}, (0, 4, 0, 0, 4)),
    ({"input_tokens": None, "output_tokens": "4"}, None),
    ({"input_tokens": 9, "input_tokens_details": None, "output_tokens": 1, "output_tokens_details": None}, (9, 1, 0, 0, 10)),
    (
        {
            "input_tokens": 1210,
            "input_tokens_details": {"cached_tokens": 1024},
            "output_tokens": 325,
            "output_tokens_details": {"reasoning_tokens": 320},
            "total_tokens": 0,
        },
        (1210, 325, 1024, 320, 1535),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("usage", "counts"), USAGES, ids=[str(row[0])[:40] for row in USAGES])
def test_usage(recorder: Recorder, usage: Any, counts: tuple[int, ...] | None) -> None:
    found = ask(recorder, answer("hi", usage=usage)).usage
    if counts is None:
        assert found is None
    else:
        assert found is not None
        fields = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")
        assert tuple(getattr(found, field) for field in fields) == counts


@pytest.mark.parametrize("field", ["model", "id"])
@pytest.mark.parametrize("value", [None, 7, ""])
def test_odd_ids(recorder: Recorder, field: str, value: Any) -> None:
    assert getattr(ask(recorder, answer("hi", **{field: value})), field) in (None, "")


# --- Other servers ---

ROWS = [
    pytest.param(json.loads(line), id=f"{path.stem}-{json.loads(line)['case']}")
    for path in sorted(SERVERS.glob("*.jsonl"))
    for line in path.read_text().splitlines()
]


@pytest.mark.parametrize("row", ROWS)
def test_recorded_replies_of_other_servers(recorder: Recorder, row: dict[str, Any]) -> None:
    limit = row["request"].get("max_output_tokens")

    def again(schema: Any = None) -> llmbackend.Response:
        headers = {"content-type": row["content_type"]}
        return ask(recorder, row["body"], schema, {"max_tokens": limit}, status=row["status"], headers=headers)

    if "event-stream" in row["content_type"]:  # asked to stream, which our client never does
        with pytest.raises(llmbackend.APIError, match="no JSON"):
            again()
    elif row["status"] != 200:
        with pytest.raises(llmbackend.APIError) as caught:
            again()
        error = caught.value
        expected = {400: llmbackend.InvalidRequestError, 404: llmbackend.NotFoundError, 500: llmbackend.ServerError}
        assert type(error) is expected.get(row["status"], llmbackend.InvalidRequestError)
        if row["body"].startswith("{"):
            said = json.loads(row["body"])
            assert error.message == (said.get("detail") or said["error"]["message"])
        else:
            assert row["body"] in error.message
    else:
        body = json.loads(row["body"])
        text = "".join(part["text"] for part in body["output"][0]["content"])
        reply = again()
        assert (reply.text, reply.id, reply.model) == (text, body["id"], body["model"])
        assert reply.usage is not None
        # Two of the three servers call a response "completed" whatever ended it.
        was_cut = body["status"] == "incomplete" or reply.usage.output_tokens == limit
        assert reply.finish_reason == ("length" if was_cut else "stop")
        assert reply.usage.output_tokens == body["usage"]["output_tokens"] > 0
        format_asked = row["request"].get("text", {}).get("format", {}).get("type")
        if format_asked != "json_schema":
            return
        if text.lstrip().startswith("{"):
            assert again(SCHEMA).value == json.loads(text)
        else:  # this server does not heed the schema
            with pytest.raises(llmbackend.InvalidOutputError) as invalid:
                again(SCHEMA)
            assert invalid.value.text == text


def test_ollama_marks_no_cut_and_counts_no_details(recorder: Recorder) -> None:
    body = {
        "id": "resp_1", "object": "response", "created_at": 1, "completed_at": 1, "status": "completed",
        "incomplete_details": None, "model": "llama3.2", "previous_response_id": None, "instructions": None,
        "output": [{"id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
                    "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}]}],
        "error": None, "tools": [], "tool_choice": "auto", "truncation": "disabled", "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}}, "top_p": 1, "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    }  # fmt: skip
    reply = ask(recorder, body)
    assert (reply.text, reply.finish_reason, reply.model) == ("hi", "stop", "llama3.2")


def test_lm_studio_fences_its_json_and_says_errors_as_a_str(recorder: Recorder) -> None:
    assert ask(recorder, answer('```json\n{"ok": true, "n": 3}\n```'), SCHEMA).value == {"ok": True, "n": 3}
    with pytest.raises(llmbackend.InvalidRequestError) as caught:
        ask(recorder, {"error": "Model unloaded."}, status=400)
    assert caught.value.message == "Model unloaded."


def test_openai_itself_does_not_fence(recorder: Recorder) -> None:
    recorder.replies = [Reply(answer('```json\n{"ok": true, "n": 3}\n```'))]
    client = llmbackend.Client("openai", "m", api_key="k", base_url=recorder.openai_url)
    with pytest.raises(llmbackend.InvalidOutputError, match="no JSON"):
        client.get_response("x", schema=SCHEMA)


STOPS = [("one two three", ["three", " two"], "one"), ("one", "two", "one"), ("two one", "two", ""), ("aéb", "b", "aé")]


@pytest.mark.parametrize(("text", "stop", "kept"), STOPS)
def test_the_text_is_cut_at_stop(recorder: Recorder, text: str, stop: Any, kept: str) -> None:
    assert ask(recorder, answer(text), config={"extra": {"stop": stop}}).text == kept


DOCUMENTED = [json.loads(line) for line in (SERVERS.parent / "replies.jsonl").read_text().splitlines()]


def test_documented_replies(recorder: Recorder) -> None:
    plain, refusal, cut, reasoning = DOCUMENTED
    assert ask(recorder, plain).text == "Salt wind, folding blue."
    with pytest.raises(llmbackend.RefusalError, match="can't help"):
        ask(recorder, refusal, SCHEMA)
    found = ask(recorder, cut)
    assert (found.text[:16], found.finish_reason) == ("Machine learning", "length")
    with pytest.raises(llmbackend.TruncatedError):
        ask(recorder, cut, SCHEMA)
    found = ask(recorder, reasoning)
    assert (found.text, found.id, found.model) == ("There are three.", "resp_04", "gpt-5-mini-2025-08-07")
    assert found.raw == reasoning
    assert found.usage is not None
    assert (found.usage.cached_tokens, found.usage.reasoning_tokens) == (1024, 320)


def test_a_structured_answer_is_mended_before_it_is_read(recorder: Recorder) -> None:
    words = {"type": "object", "properties": {"w": {"type": "string"}}, "required": ["w"]}
    assert ask(recorder, answer('{"w": "half \\ud83d"}'), words).value == {"w": "half �"}
    assert ask(recorder, answer('{"w": "two\nlines"}'), words).value == {"w": "two\nlines"}
    assert ask(recorder, answer('\ufeff{"w": "x"}'), words).value == {"w": "x"}
    assert ask(recorder, answer('{"value": ["half \\ud83d"]}'), {"type": "array"}).value == ["half �"]
    with pytest.raises(llmbackend.InvalidOutputError, match="null"):
        ask(recorder, answer('{"w": NaN}'), words)
    with pytest.raises(llmbackend.InvalidOutputError, match="cannot be read|does not fit"):
        ask(recorder, answer("[" + "9" * 5000 + "]"), {"type": "object"})
