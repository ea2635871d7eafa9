"""A message quotes at most a few hundred characters of what a server or a model said; the error's attributes keep it."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, field_validator
from recorder import Recorder, Reply
from replies import ALL, ANTHROPIC, GEMINI, OPENAI, Wire, openai_message, play

import llmbackend
from llmbackend import StructuredOutput

LONG = "long " * 60_000
MOST = 1000
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}, "c": {"type": "string", "maxLength": 3}},
    "required": ["a"],
    "additionalProperties": False,
}


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int
    c: str = ""

    @field_validator("c")
    @classmethod
    def short(cls, c: str) -> str:
        if c == "bug":
            raise KeyError(LONG)
        if len(c) > 3:
            raise ValueError(f"too long: {c}")
        return c


class Entries(BaseModel):
    entries: list[Model]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def wire(request: pytest.FixtureRequest) -> Any:
    return request.param


def parser(value: Any) -> Any:
    raise ValueError(f"cannot use {value}")


# What the model says, what was asked for, and words that the message must keep.
UNFIT: dict[str, tuple[str, Any, list[str]]] = {
    "no JSON": (LONG, SCHEMA, ["no JSON", "long long"]),
    "no JSON for a model": (LONG, Model, ["no JSON"]),
    "half of it": ('{"a": 1, "c": "' + LONG, SCHEMA, ["no JSON", "EOF"]),
    "a wrong type": (json.dumps({"a": LONG}), SCHEMA, ["at '/a'", 'is not of type "integer"']),
    "no word of an enum": (json.dumps({"a": 1, "b": LONG}), SCHEMA, ["at '/b'", '"x"']),
    "too long": (json.dumps({"a": 1, "c": LONG}), SCHEMA, ["at '/c'", "longer than 3"]),
    "an unknown field": (json.dumps({"a": 1, LONG: 1}), SCHEMA, ["Additional properties", "unexpected"]),
    "many unknown fields": (json.dumps({"a": 1} | {f"{LONG[:500]}{n}": n for n in range(99)}), SCHEMA, ["unexpected"]),
    "all of it": (json.dumps([LONG]), SCHEMA, ['is not of type "object"']),
    "a field unknown to a model": (json.dumps({"a": 1, LONG: 1}), Model, ["Extra inputs are not permitted"]),
    "many fields unknown to a model": (
        json.dumps({"a": 1} | {f"{LONG[:500]}{n}": n for n in range(99)}),
        Model,
        ["Extra inputs are not permitted", "..."],
    ),
    "a validator that quotes": (json.dumps({"a": 1, "c": LONG}), Model, ["at 'c'", "too long: long"]),
    "a validator with a bug": (json.dumps({"a": 1, "c": "bug"}), Model, ["KeyError", "long"]),
    "many items": (json.dumps({"entries": [{"a": LONG}] * 50}), Entries, ["at 'entries.0.a'", "valid integer"]),
    "a parser that quotes": (
        json.dumps({"a": 1, "c": LONG}),
        StructuredOutput({"type": "object"}, parser=parser),
        ["the parser", "ValueError: cannot use"],
    ),
}


def check(message: str, words: list[str]) -> None:
    assert len(message) < MOST
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", UNFIT)
def test_an_answer_that_does_not_fit(recorder: Recorder, wire: Wire, name: str) -> None:
    text, schema, words = UNFIT[name]
    with pytest.raises(llmbackend.InvalidOutputError) as caught:
        wire.single(recorder, wire.reply(text), schema)
    check(str(caught.value), words)
    assert caught.value.text == text
    assert len(caught.value.response or "") >= len(text)
    item = wire.job(recorder, wire.reply(text), schema)
    check(str(item.error), words)
    assert (item.status, item.text) == ("invalid", text)


def test_a_wrapped_answer_without_its_value(recorder: Recorder) -> None:
    for wire in (OPENAI, ANTHROPIC):
        with pytest.raises(llmbackend.InvalidOutputError) as caught:
            wire.single(recorder, wire.reply(json.dumps({"other": LONG})), {"type": "array"})
        check(str(caught.value), ['no "value"', "other"])


def test_the_error_of_a_batch(recorder: Recorder, wire: Wire) -> None:
    play(recorder, Reply(wire.reply(json.dumps({"a": LONG}))))
    batch = wire.client(recorder).submit_batch(["x"], None, SCHEMA, batch_options={"native": False})
    with pytest.raises(llmbackend.BatchItemsError) as caught:
        batch.results()
    check(str(caught.value), ["1 of 1 items", 'is not of type "integer"', ".results"])


USELESS: list[tuple[Wire, Any, type[Exception], str | None]] = [
    (OPENAI, OPENAI.reply(openai_message("", content=[{"type": "refusal", "refusal": LONG}])), llmbackend.RefusalError, LONG),
    (OPENAI, OPENAI.reply(*[{"type": LONG} for _ in range(50)]), llmbackend.OutputError, None),
    (OPENAI, OPENAI.reply(*[{"type": f"tool_{n}"} for n in range(5000)]), llmbackend.OutputError, None),
    (OPENAI, OPENAI.reply(status=LONG), llmbackend.APIError, None),
    (OPENAI, OPENAI.reply(status="incomplete", incomplete_details={"reason": LONG}), llmbackend.TruncatedError, None),
    (ANTHROPIC, ANTHROPIC.reply(LONG, stop_reason="refusal", stop_details={"category": LONG, "explanation": LONG}), llmbackend.RefusalError, LONG),
    (ANTHROPIC, ANTHROPIC.reply(*[{"type": LONG} for _ in range(50)], stop_reason=LONG), llmbackend.OutputError, None),
    (GEMINI, {"promptFeedback": {"blockReason": LONG, "blockReasonMessage": LONG}}, llmbackend.ContentFilterError, None),
    (GEMINI, GEMINI.reply(*[{LONG: 1} for _ in range(50)], reason=LONG), llmbackend.OutputError, None),
    (GEMINI, {"candidates": [{"content": {"parts": [{"text": LONG}]}, "finishReason": "SAFETY", "finishMessage": LONG}]}, llmbackend.ContentFilterError, LONG),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "body", "kind", "text"), USELESS)
def test_an_answer_of_no_use(
    recorder: Recorder, wire: Wire, body: Any, kind: type[llmbackend.LLMBackendError], text: str | None
) -> None:
    with pytest.raises(kind) as caught:
        wire.single(recorder, body)
    assert len(str(caught.value)) < MOST
    if isinstance(caught.value, llmbackend.OutputError):
        assert caught.value.text == text
    item = wire.job(recorder, body)
    assert type(item.error) is kind
    assert len(str(item.error)) < MOST


SERVER_ERRORS: list[Any] = [
    {"error": {"message": f"first {LONG}", "code": LONG, "type": LONG}},
    {"error": f"first {LONG}"},
    {"message": f"first {LONG}"},
    {"detail": f"first {LONG}"},
    {"detail": [{"loc": ["body", "first"], "msg": LONG}] * 50},
    {"detail": [{"loc": ["first", *(["x"] * 9999)], "msg": "m"}]},
    {"first": LONG},
    f"<html>first {LONG}</html>",
]


@pytest.mark.parametrize("body", SERVER_ERRORS, ids=range(len(SERVER_ERRORS)))
@pytest.mark.parametrize("status", [400, 401, 429, 500, 200])
def test_a_server_with_much_to_say(recorder: Recorder, wire: Wire, body: Any, status: int) -> None:
    play(recorder, Reply(body, status=status, headers={"request-id": "r" * 3000}))
    with pytest.raises(llmbackend.APIError) as caught:
        wire.client(recorder, max_retries=0).get_response("x")
    assert len(str(caught.value)) < MOST
    assert len(caught.value.message) < 700
    assert len(caught.value.code or "") < 200
    if status != 200 or (isinstance(body, dict) and "error" in body):
        assert "first" in str(caught.value)
    assert 3000 < len(caught.value.body or "") <= 4000


def test_where_a_redirect_leads(recorder: Recorder, wire: Wire) -> None:
    play(recorder, Reply("", status=302, headers={"location": "http://x/" + "y" * 20_000}))
    with pytest.raises(llmbackend.APIError, match="redirects to http://x/yyy") as caught:
        wire.client(recorder, max_retries=0).get_response("x")
    assert len(str(caught.value)) < MOST


# --- Jobs ---


def test_why_a_job_failed(recorder: Recorder) -> None:
    errors = [{"message": f"first {LONG}", "line": 1}, *[{"message": f"m {n}", "line": n} for n in range(50_000)]]
    play(recorder, Reply({"id": "b1", "status": "failed", "errors": {"data": errors}}))
    with pytest.raises(llmbackend.BatchFailedError, match="first long") as caught:
        OPENAI.client(recorder).get_batch("b1").results()
    assert len(str(caught.value)) < MOST
    failed = {"name": "batches/b1", "done": True, "error": {"code": 3, "message": f"first {LONG}"}}
    play(recorder, Reply(failed))
    with pytest.raises(llmbackend.BatchFailedError, match="first long") as caught:
        GEMINI.client(recorder).get_batch("b1").results()
    assert len(str(caught.value)) < MOST


def test_a_state_that_is_long(recorder: Recorder) -> None:
    play(recorder, Reply({"id": "b1", "status": LONG}))
    with pytest.raises(llmbackend.BatchNotCompletedError, match="long long") as caught:
        OPENAI.client(recorder).get_batch("b1").results()
    assert len(str(caught.value)) < MOST


def test_rows_without_an_answer(recorder: Recorder) -> None:
    def row(**fields: Any) -> str:
        return json.dumps({"custom_id": "llmb-000000", **fields})

    for line in (
        row(response=None, error={"code": LONG, "message": f"first {LONG}"}),
        row(response=None, error={"code": "batch_expired", "message": f"first {LONG}"}),
        row(response={"status_code": 400, "body": {"error": {"message": f"first {LONG}"}}}),
        row(response={"status_code": 400, "body": {"first": LONG}}),
    ):
        [ended, _] = OPENAI.job_replies({})
        play(recorder, ended, Reply(line))
        [item] = OPENAI.client(recorder).get_batch("b1").items()
        assert "first" in str(item.error)
        assert len(str(item.error)) < MOST
    [ended, _] = ANTHROPIC.job_replies({})
    for result in (
        {"type": "errored", "error": {"type": "error", "error": {"type": LONG, "message": f"first {LONG}"}}},
        {"type": f"first {LONG}"},
    ):
        play(recorder, ended, Reply(row(result=result)))
        [item] = ANTHROPIC.client(recorder).get_batch("b1").items()
        assert "first" in str(item.error)
        assert len(str(item.error)) < MOST
    rows = {
        "inlinedResponses": [{"error": {"code": 3, "message": f"first {LONG}"}, "metadata": {"key": "llmb-000000"}}]
    }
    play(recorder, Reply({"name": "batches/b1", "done": True, "response": rows}))
    [item] = GEMINI.client(recorder).get_batch("b1").items()
    assert "first" in str(item.error)
    assert len(str(item.error)) < MOST
