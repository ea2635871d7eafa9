"""What servers answer on Anthropic's wire, and what becomes of it: Anthropic's own replies, those of the servers that speak
its language, and everything that a network makes of them."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from recorder import Recorder, Reply

import llmbackend

FIXTURES = Path(__file__).parent / "fixtures" / "anthropic"
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
    client = llmbackend.Client("anthropic", "m", api_key="sk-ant-test-1", base_url=recorder.root, max_retries=0)
    return client.generate("x", config, schema)


def message(*blocks: Any, **fields: Any) -> dict[str, Any]:
    content = [
        {"type": "text", "text": block, "citations": None} if isinstance(block, str) else block for block in blocks
    ]
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": content}
    return {**head, "stop_reason": "end_turn", "stop_sequence": None, **fields}


THINKING = {"type": "thinking", "thinking": "hmm", "signature": "Eq"}
REDACTED = {"type": "redacted_thinking", "data": "Em"}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
CITED = {"type": "text", "text": "b", "citations": [{"type": "char_location", "cited_text": "c", "document_index": 0}]}

TEXTS = [
    ("plain", message("hi"), "hi"),
    ("blocks are joined without a separator", message("a", "b", "c"), "abc"),
    ("thinking comes first", message(THINKING, "hi"), "hi"),
    ("thinking whose text is left out", message({"type": "thinking", "thinking": "", "signature": "E"}, "hi"), "hi"),
    ("redacted thinking", message(REDACTED, THINKING, "hi"), "hi"),
    ("thinking in between", message("a", THINKING, "b"), "ab"),
    ("citations", message("a ", CITED, " c"), "a b c"),
    ("tools of the server", message({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                                    {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}, "hi"), "hi"),
    ("unknown blocks", message({"type": "hologram", "text": "no"}, 7, None, {"type": "fallback"}, "hi"), "hi"),
    ("container upload", message("hi", {"type": "container_upload", "file_id": "f"}), "hi"),
    ("a null text beside a text", message({"type": "text", "text": None}, "hi"), "hi"),
    ("an empty text", message(""), ""),
    ("stop_reason null", message("hi", stop_reason=None), "hi"),
    ("stop_reason missing", {"type": "message", "content": [{"type": "text", "text": "hi"}]}, "hi"),
    ("nothing but content", {"content": [{"type": "text", "text": "hi"}]}, "hi"),
    ("content as a str", {"type": "message", "content": "hi"}, "hi"),
    ("content as a str and nothing else", {"role": "assistant", "content": "hi"}, "hi"),
    ("a stop sequence", message("hi", stop_reason="stop_sequence", stop_sequence="END"), "hi"),
    ("a stop sequence at once", message(stop_reason="stop_sequence", stop_sequence="END"), ""),
    ("a stop sequence after thinking", message(THINKING, stop_reason="stop_sequence", stop_sequence="END"), ""),
    ("an error that is null", message("hi", error=None), "hi"),
    ("unknown fields", message("hi", container=None, diagnostics={"x": 1}, quantum=[1]), "hi"),
    ("stop_details without a refusal", message("hi", stop_details=None), "hi"),
    ("half an emoji", b'{"type":"message","content":[{"type":"text","text":"hi \\ud83d"}]}', "hi \ufffd"),
    ("bytes that are no UTF-8", b'{"type":"message","content":[{"type":"text","text":"hi \xff"}]}', "hi \ufffd"),
    ("a raw newline in a str", b'{"type":"message","content":[{"type":"text","text":"a\nb"}]}', "a\nb"),
    ("NaN somewhere", b'{"type":"message","score":NaN,"content":[{"type":"text","text":"hi"}]}', "hi"),
    ("a byte order mark", b"\xef\xbb\xbf" + json.dumps(message("hi")).encode(), "hi"),
    ("separators of lines", message("a\u2028b\x85c"), "a\u2028b\x85c"),
    ("blanks are kept", message(" \n hi \n "), " \n hi \n "),
]  # fmt: skip


@pytest.mark.parametrize(("body", "text"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_a_text_is_found(recorder: Recorder, body: Any, text: str) -> None:
    reply = ask(recorder, body)
    assert (reply.text, reply.value, reply.finish_reason) == (text, text, "stop")
    assert len(recorder.requests) == 1


REASONS = [
    ("max_tokens", "length"), ("model_context_window_exceeded", "length"), ("length", "length"), ("stop", "stop"),
    ("tool_use", "tool_use"), ("pause_turn", "pause_turn"), ("brand_new", "brand_new"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "ours"), REASONS)
def test_a_text_is_a_value_however_it_ended(recorder: Recorder, reason: str, ours: str) -> None:
    reply = ask(recorder, message("half a", TOOL, stop_reason=reason))
    assert (reply.text, reply.finish_reason) == ("half a", ours)


def refusal(*blocks: Any, **details: Any) -> dict[str, Any]:
    return message(*blocks, stop_reason="refusal", stop_details={"type": "refusal", **details} if details else None)


CUT = {"stop_reason": "max_tokens"}
ERRORS: list[tuple[str, Any, type[Exception], str]] = [
    ("a refusal without content", refusal(category="cyber", explanation="Declined."), llmbackend.RefusalError, "(cyber): Declined."),
    ("a refusal in the middle", refusal("Well, "), llmbackend.RefusalError, "refused"),
    ("a refusal without reasons", refusal(category=None, explanation=None), llmbackend.RefusalError, "refused"),
    ("a refusal, content null", {**refusal(), "content": None}, llmbackend.RefusalError, "refused"),
    ("budget spent on thinking", message(THINKING, **CUT), llmbackend.TruncatedError, "went into thinking"),
    ("budget spent on redacted thinking", message(REDACTED, "", **CUT), llmbackend.TruncatedError, "went into thinking"),
    ("cut before any text", message(**CUT), llmbackend.TruncatedError, "raise max_tokens"),
    ("cut, content null", {**message(**CUT), "content": None}, llmbackend.TruncatedError, "raise max_tokens"),
    ("the context is full", message(stop_reason="model_context_window_exceeded"), llmbackend.TruncatedError, "context"),
    ("no content", message(), llmbackend.OutputError, "stop_reason end_turn"),
    ("content null", {**message(), "content": None}, llmbackend.OutputError, "no text"),
    ("content missing", {"type": "message", "role": "assistant"}, llmbackend.OutputError, "stop_reason none"),
    ("only thinking", message(THINKING), llmbackend.OutputError, "thinking"),
    ("only a tool call", message(TOOL, stop_reason="tool_use"), llmbackend.OutputError, "tool_use"),
    ("only a pause", message({"type": "server_tool_use"}, stop_reason="pause_turn"), llmbackend.OutputError, "pause_turn"),
    ("only an unknown block", message({"type": "hologram"}, {}), llmbackend.OutputError, "hologram, untyped"),
    ("text null", message({"type": "text", "text": None}), llmbackend.OutputError, "no text"),
    ("an error", {"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}, llmbackend.ServerError, "boom"),
    ("an error of no type", {"type": "error", "error": {"message": "boom"}}, llmbackend.APIError, "boom"),
    ("an error and nothing in it", {"type": "error"}, llmbackend.APIError, "error"),
    ("an error in OpenAI's words", {"error": {"code": 400, "type": "x", "message": "boom"}}, llmbackend.InvalidRequestError, "boom"),
    ("an error as a str", {"error": "boom"}, llmbackend.APIError, "boom"),
    ("empty", b"", llmbackend.APIError, "empty body"),
    ("blank", b" \r\n", llmbackend.APIError, "empty body"),
    ("HTML", "<!doctype html><title>Log in</title>", llmbackend.APIError, "Log in"),
    ("{}", {}, llmbackend.APIError, "no message"),
    ("a list", [message("hi")], llmbackend.APIError, "no message"),
    ("a str", '"hi"', llmbackend.APIError, "no message"),
    ("null", "null", llmbackend.APIError, "no message"),
    ("half of it", json.dumps(message("hi"))[:80], llmbackend.APIError, "no JSON"),
    ("a chat completion", {"object": "chat.completion", "choices": []}, llmbackend.APIError, "no message"),
    ("a batch", {"id": "msgbatch_1", "type": "message_batch"}, llmbackend.APIError, "no message"),
    ("events", 'event: message_start\ndata: {"type":"message_start"}\n\n', llmbackend.APIError, "event"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "words"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_no_text_is_an_error_that_says_why(recorder: Recorder, body: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(llmbackend.LLMBackendError) as caught:
        ask(recorder, body, headers={"request-id": "req_7"})
    error = caught.value
    assert type(error) is kind
    assert words in str(error)
    assert len(recorder.requests) == 1
    if isinstance(error, llmbackend.APIError):
        assert (error.status, error.request_id, error.provider) == (200, "req_7", "anthropic")
    else:
        assert isinstance(error, llmbackend.OutputError)
        assert json.loads(error.response or "") == json.loads(recorder.replies[0].payload())


def test_what_was_said_before_a_refusal_or_a_cut_is_kept(recorder: Recorder) -> None:
    with pytest.raises(llmbackend.RefusalError) as refused:
        ask(recorder, refusal('{"ok": true, "n": 1}'), SCHEMA)
    assert refused.value.text == '{"ok": true, "n": 1}'
    with pytest.raises(llmbackend.TruncatedError, match="raise max_tokens") as cut:
        ask(recorder, message(THINKING, '{"ok": tr', **CUT), SCHEMA)
    assert cut.value.text == '{"ok": tr'
    with pytest.raises(llmbackend.TruncatedError):  # whole by accident, but nobody can know
        ask(recorder, message('{"ok": true, "n": 1}', **CUT), SCHEMA)


STRUCTURED = [
    message('{"ok": true, "n": 3}'),
    message(THINKING, '{"ok": tr', 'ue, "n": 3}'),
    message('```json\n{"ok": true, "n": 3}\n```'),
    message(' {"ok":true,"n":3}\n', stop_reason="stop_sequence", stop_sequence="}"),
    message('\ufeff{"ok": true, "n": 3}'),
]


@pytest.mark.parametrize("body", STRUCTURED)
def test_a_structured_answer(recorder: Recorder, body: Any) -> None:
    assert ask(recorder, body, SCHEMA).value == {"ok": True, "n": 3}


@pytest.mark.parametrize("text", ['{"ok": true}', '{"ok": true, "n": 10}', "[]", "hello", '{"ok": 1, "n": 3}', ""])
def test_a_structured_answer_that_does_not_fit(recorder: Recorder, text: str) -> None:
    with pytest.raises(llmbackend.InvalidOutputError) as caught:
        ask(recorder, message(text), SCHEMA)
    assert caught.value.text == text


def test_roots_that_are_no_object_are_unwrapped(recorder: Recorder) -> None:
    assert ask(recorder, message('{"value": [1, 2]}'), {"type": "array", "items": {"type": "integer"}}).value == [1, 2]
    assert ask(recorder, message('{"value": "Good"}'), {"enum": ["good", "bad"]}).value == "good"


class Mood(Enum):
    GOOD = "Good"
    BAD = "Bad"


class Cat(BaseModel):
    kind: Literal["Cat"]


class Dog(BaseModel):
    kind: Literal["Dog"]
    mood: Mood | None = None


class Home(BaseModel):
    pets: list[Cat | Dog]
    mood: Mood
    note: str


def test_the_casing_of_words_is_the_schemas(recorder: Recorder) -> None:
    said = {"pets": [{"kind": "cat"}, {"kind": "DOG", "mood": "bad"}], "mood": "good", "note": "GOOD"}
    home = ask(recorder, message(json.dumps(said)), Home).value
    assert home == Home(pets=[Cat(kind="Cat"), Dog(kind="Dog", mood=Mood.BAD)], mood=Mood.GOOD, note="GOOD")
    assert ask(recorder, message(json.dumps(said)), Home.model_json_schema()).value == home.model_dump(mode="json") | {
        "pets": [{"kind": "Cat"}, {"kind": "Dog", "mood": "Bad"}]
    }
    with pytest.raises(llmbackend.InvalidOutputError):
        ask(recorder, message(json.dumps({**said, "mood": "so-so"})), Home)


USAGES = [
    (None, None),
    ([], None),
    ({}, None),
    ({"service_tier": "standard"}, None),
    ({"input_tokens": None, "output_tokens": "4"}, None),
    ({"input_tokens": 3}, (3, 0, 0, 0, 3)),
    ({"output_tokens": 3}, (0, 3, 0, 0, 3)),
    ({"input_tokens": 3.0, "output_tokens": 4.0}, (3, 4, 0, 0, 7)),
    ({"input_tokens": -3, "output_tokens": 4}, (0, 4, 0, 0, 4)),
    ({"input_tokens": 1, "cache_read_input_tokens": None, "cache_creation": None, "output_tokens": 2}, (1, 2, 0, 0, 3)),
    (
        {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 9,
         "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
         "output_tokens_details": {"thinking_tokens": 4}, "server_tool_use": {"web_search_requests": 1}},
        (22, 9, 7, 4, 31),
    ),
    ({"input_tokens": 1, "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3}, "output_tokens": 0}, (6, 0, 0, 0, 6)),
]  # fmt: skip


@pytest.mark.parametrize(("usage", "counts"), USAGES, ids=[str(row[0])[:40] for row in USAGES])
def test_usage(recorder: Recorder, usage: Any, counts: tuple[int, ...] | None) -> None:
    found = ask(recorder, message("hi", usage=usage)).usage
    if counts is None:
        assert found is None
    else:
        assert found is not None
        fields = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "total_tokens")
        assert tuple(getattr(found, field) for field in fields) == counts


@pytest.mark.parametrize("field", ["model", "id"])
@pytest.mark.parametrize("value", [None, 7])
def test_odd_ids(recorder: Recorder, field: str, value: Any) -> None:
    assert getattr(ask(recorder, message("hi", **{field: value})), field) is None


@pytest.mark.parametrize("chunked", [False, True])
def test_however_it_is_wrapped(recorder: Recorder, chunked: bool) -> None:
    body = gzip.compress(json.dumps(message("ok")).encode())
    assert ask(recorder, body, headers={"content-encoding": "gzip"}, chunked=chunked).text == "ok"


DOCUMENTED = [json.loads(line) for line in (FIXTURES / "replies.jsonl").read_text().splitlines()]


def test_documented_replies(recorder: Recorder) -> None:
    text, structured, _tool, refused, cut = DOCUMENTED
    reply = ask(recorder, text)
    assert (reply.text, reply.id, reply.model) == ("Salt wind on grey waves", "msg_01A", "claude-sonnet-4-6")
    assert reply.raw == text
    review = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "rating": {"type": "number"}, "summary": {"type": "string"}},
    }
    reply = ask(recorder, structured, review)
    assert reply.value == {"title": "Inception", "rating": 9.0, "summary": "A heist in dreams."}
    assert reply.usage is not None
    assert reply.usage.reasoning_tokens == 141
    with pytest.raises(llmbackend.RefusalError, match="cyber.*Declined"):
        ask(recorder, refused)
    for schema in (None, review):
        with pytest.raises(llmbackend.TruncatedError, match="thinking"):
            ask(recorder, cut, schema)


SENTIMENT = {
    "type": "object",
    "properties": {"sentiment": {"enum": ["positive", "negative"]}, "confidence": {"type": "number"}},
    "required": ["sentiment", "confidence"],
}


def fall_back(recorder: Recorder, *replies: Any) -> llmbackend.Response:
    old = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "output_config: Extra inputs are not permitted"},
    }
    recorder.requests.clear()
    recorder.replies = [Reply(old, status=400), *map(Reply, replies)]
    client = llmbackend.Client("anthropic", "m", api_key="k", base_url=recorder.root)
    return client.generate("x", None, llmbackend.StructuredOutput(schema=SENTIMENT, name="SentimentAnalysis"))


def test_the_answer_of_a_forced_tool(recorder: Recorder) -> None:
    tool = DOCUMENTED[2]
    reply = fall_back(recorder, tool)
    assert reply.value == {"sentiment": "positive", "confidence": 0.97}
    assert reply.finish_reason == "stop"
    call = tool["content"][0]
    as_text = {**tool, "content": ["noise", {**call, "name": "other"}, {**call, "input": json.dumps(call["input"])}]}
    assert fall_back(recorder, as_text).value == reply.value
    words = {**tool, "content": [{**call, "input": {"sentiment": "Positive", "confidence": 1}}]}
    assert fall_back(recorder, words).value == {"sentiment": "positive", "confidence": 1}
    # llama.cpp takes the tool and answers in text all the same.
    assert fall_back(recorder, message(json.dumps(call["input"]))).value == reply.value
    with pytest.raises(llmbackend.InvalidOutputError, match="confidence"):
        fall_back(recorder, {**tool, "content": [{**call, "input": {"sentiment": "positive"}}]})
    with pytest.raises(llmbackend.TruncatedError):
        fall_back(recorder, {**tool, "stop_reason": "max_tokens"})
    with pytest.raises(llmbackend.RefusalError):
        fall_back(recorder, {**tool, "stop_reason": "refusal"})
    with pytest.raises(llmbackend.OutputError, match="thinking"):
        fall_back(recorder, message(THINKING))


# --- Other servers ---

ROWS = [
    pytest.param(json.loads(line), id=f"{path.stem}-{json.loads(line)['case']}")
    for path in sorted((FIXTURES / "servers").glob("*.jsonl"))
    for line in path.read_text().splitlines()
]


@pytest.mark.parametrize("row", ROWS)
def test_recorded_replies_of_other_servers(recorder: Recorder, row: dict[str, Any]) -> None:
    def again(schema: Any = None) -> llmbackend.Response:
        return ask(recorder, row["body"], schema, status=row["status"], headers={"content-type": row["content_type"]})

    body = json.loads(row["body"])
    if row["status"] != 200:
        with pytest.raises(llmbackend.APIError) as caught:
            again()
        expected = {400: llmbackend.InvalidRequestError, 404: llmbackend.NotFoundError}
        assert type(caught.value) is expected[row["status"]]
        assert caught.value.message == (body.get("detail") or body["error"]["message"])
        return
    text = "".join(block["text"] for block in body["content"])
    reply = again()
    assert (reply.text, reply.id, reply.model) == (text, body["id"], body["model"])
    assert reply.finish_reason == ("length" if body["stop_reason"] == "max_tokens" else "stop")
    assert reply.usage is not None
    assert reply.usage.output_tokens == body["usage"]["output_tokens"] > 0
    assert reply.usage.input_tokens == body["usage"]["input_tokens"] + body["usage"].get("cache_read_input_tokens", 0)
    if "output_config" not in row["request"]:
        return
    if text.lstrip().startswith("{"):
        assert again(SCHEMA).value == json.loads(text)
    else:  # this server does not heed the schema
        with pytest.raises(llmbackend.InvalidOutputError) as invalid:
            again(SCHEMA)
        assert invalid.value.text == text


def test_ollama(recorder: Recorder) -> None:
    body = {
        "id": "msg_a1", "type": "message", "role": "assistant", "model": "qwen3",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hi"}],
        "stop_reason": "max_tokens", "usage": {"input_tokens": 4, "output_tokens": 2},
    }  # fmt: skip
    reply = ask(recorder, body)
    assert (reply.text, reply.finish_reason, reply.model) == ("hi", "length", "qwen3")
