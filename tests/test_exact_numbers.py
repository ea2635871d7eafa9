"""Numbers stay as they are written: integers of any size in answers, in what is validated and in what is sent; decimals
where nothing has to be done to them."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from recorder import Recorder, Reply
from replies import ALL, ANTHROPIC, GEMINI, OPENAI, Wire, anthropic_reply, play

import llmbackend

BIG = [2**64, 2**64 + 1, 2**63 + 1, -(2**63) - 1, 10**30 + 7, -(10**400) - 3, 10**4000 + 9]
SHORT = [f"{str(number)[:6]}-{len(str(number))}" for number in BIG]


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def wire(request: pytest.FixtureRequest) -> Any:
    return request.param


class Mood(enum.Enum):
    GOOD = "Good"
    BAD = "Bad"


class Entry(BaseModel):
    id: int
    mood: Mood
    note: float = 0.0


SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "mood": {"enum": ["Good", "Bad"]}, "note": {"type": "number"}},
    "required": ["id", "mood"],
}


def old_server(tool_input: str) -> list[Reply]:
    """A server that takes a forced tool alone, and answers with this JSON."""
    said = {"type": "invalid_request_error", "message": "output_config: Extra inputs are not permitted"}
    call = {"type": "tool_use", "id": "t", "name": "response", "input": "HERE"}
    body = json.dumps(anthropic_reply(call, stop_reason="tool_use")).replace('"HERE"', tool_input)
    return [Reply({"error": said}, status=400), Reply(body)]


@pytest.mark.parametrize("number", BIG, ids=SHORT)
def test_in_an_answer(recorder: Recorder, wire: Wire, number: int) -> None:
    text = f'{{"id": {number}, "mood": "Good", "note": 1.50}}'
    body = wire.reply(text)
    for kept in (
        wire.single(recorder, body, SCHEMA),
        wire.immediate(recorder, body, SCHEMA),
        wire.job(recorder, body, SCHEMA),
    ):
        assert (kept.value, kept.text) == ({"id": number, "mood": "Good", "note": 1.5}, text)
    assert wire.single(recorder, body, Entry).value == Entry(id=number, mood=Mood.GOOD, note=1.5)


@pytest.mark.parametrize("number", BIG, ids=SHORT)
def test_where_the_casing_of_a_word_is_restored(recorder: Recorder, number: int) -> None:
    body = anthropic_reply(f'{{"id": {number}, "mood": "GOOD", "note": 1.50}}')
    reply = ANTHROPIC.single(recorder, body, SCHEMA)
    assert (reply.value["id"], reply.value["mood"]) == (number, "Good")
    assert reply.text == f'{{"id":{number},"mood":"Good","note":1.50}}'
    assert ANTHROPIC.job(recorder, body, Entry).value == Entry(id=number, mood=Mood.GOOD, note=1.5)


def test_where_the_branch_of_a_union_is_told_by_its_numbers(recorder: Recorder) -> None:
    def branch(kind: str, **other: Any) -> dict[str, Any]:
        return {"type": "object", "properties": {"k": {"const": kind}, **other}, "required": ["k", *other]}

    union = {"anyOf": [branch("Int", n={"type": "integer"}), branch("int", s={"type": "string"})]}
    for number in (2**64 + 1, 10**400):
        body = anthropic_reply(json.dumps({"value": {"k": "INT", "n": number}}))
        assert ANTHROPIC.single(recorder, body, union).value == {"k": "Int", "n": number}


@pytest.mark.parametrize("number", BIG, ids=SHORT)
def test_in_the_input_of_a_forced_tool(recorder: Recorder, number: int) -> None:
    for schema, expected in (
        (SCHEMA, {"id": number, "mood": "Good", "note": 1.5}),
        (Entry, Entry(id=number, mood=Mood.GOOD, note=1.5)),
    ):
        shape = llmbackend.StructuredOutput(*((schema, None) if schema is SCHEMA else (None, schema)), name="response")
        play(recorder, *old_server(f'{{"id": {number}, "mood": "good", "note": 1.50}}'))
        reply = ANTHROPIC.client(recorder).generate("x", schema=shape)
        assert (reply.value, json.loads(reply.text)["id"]) == (expected, number)
        assert '"note":1.50' in reply.text


@pytest.mark.parametrize("number", BIG, ids=SHORT)
def test_in_a_wrapped_value(recorder: Recorder, number: int) -> None:
    for wire in (OPENAI, ANTHROPIC):
        body = wire.reply(f'{{"value": [{number}, 1.50]}}')
        reply = wire.single(recorder, body, {"type": "array", "items": {"type": "number"}})
        assert (reply.value, reply.text) == ([number, 1.5], f"[{number}, 1.50]")
        assert wire.single(recorder, wire.reply(f'{{"value": {number}}}'), int).value == number
    assert GEMINI.single(recorder, GEMINI.reply(str(number)), {"type": "integer"}).value == number


VALIDATED: list[tuple[dict[str, Any], int, bool]] = [
    ({"maximum": 2**64 + 1}, 2**64 + 1, True),
    ({"maximum": 2**64 + 1}, 2**64 + 2, False),
    ({"minimum": 2**64 + 1}, 2**64, False),
    ({"exclusiveMaximum": 2**64 + 1}, 2**64 + 1, False),
    ({"exclusiveMinimum": 2**70}, 2**70 + 1, True),
    ({"enum": [2**64 + 1]}, 2**64 + 1, True),
    ({"enum": [2**64 + 1]}, 2**64 + 2, False),
    ({"const": 10**30}, 10**30, True),
    ({"const": 10**30}, 10**30 + 1, False),
    ({"multipleOf": 3}, 3 * (2**64 + 1), True),
    ({"multipleOf": 3}, 3 * (2**64 + 1) + 1, False),
]


@pytest.mark.parametrize(("bounds", "number", "fits"), VALIDATED)
def test_in_what_is_validated(recorder: Recorder, wire: Wire, bounds: dict[str, Any], number: int, fits: bool) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", **bounds}}, "required": ["n"]}
    body = wire.reply(json.dumps({"n": number}))
    if fits:
        assert wire.single(recorder, body, schema).value == {"n": number}
    else:
        with pytest.raises(llmbackend.InvalidOutputError, match="at '/n'"):
            wire.single(recorder, body, schema)


def test_large_numbers_that_differ_are_unique(recorder: Recorder, wire: Wire) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "array", "uniqueItems": True}}}
    assert (
        wire.single(
            recorder,
            wire.reply(f'{{"n": [{2**64}, {2**64 + 1}]}}'),
            schema,
        ).value["n"][1]
        == 2**64 + 1
    )


# --- What is sent ---


@pytest.mark.parametrize("number", BIG, ids=SHORT)
def test_in_extra(recorder: Recorder, wire: Wire, number: int) -> None:
    extra = {"own_parameter": {"deep": [number, 1.5, True]}}
    wire.single(recorder, wire.reply("ok"), **extra)
    [request] = recorder.requests
    assert f"[{number},1.5,true]" in request.body.decode()
    play(recorder, Reply(wire.reply("ok")))
    wire.client(recorder).submit_batch(["x"], {"extra": extra}, batch_options={"native": False})
    assert f"[{number},1.5,true]" in recorder.requests[0].body.decode()


@pytest.mark.parametrize("number", [2**64 + 1, -(2**63) - 1, 10**30])
@pytest.mark.parametrize("keyword", ["minimum", "maximum", "const", "enum"])
def test_in_a_schema(recorder: Recorder, wire: Wire, number: int, keyword: str) -> None:
    limit = [number] if keyword == "enum" else number
    schema = {"type": "object", "properties": {"n": {"type": "integer", keyword: limit}}, "required": ["n"]}
    wire.single(recorder, wire.reply(json.dumps({"n": number})), schema)
    [request] = recorder.requests
    assert str(number) in request.body.decode()


def test_in_a_model(recorder: Recorder) -> None:
    class Exact(BaseModel):
        n: Literal[18446744073709551617]

    assert OPENAI.single(recorder, OPENAI.reply('{"n": 18446744073709551617}'), Exact).value.n == 2**64 + 1
    assert b'"const":18446744073709551617' in recorder.requests[0].body


def test_in_the_parts_of_a_message(recorder: Recorder) -> None:
    """Messages of an immediate batch are on the disk before they are sent."""
    part = {"type": "document", "source": {"id": 2**64 + 1, "ratio": 1.5, "n": 0}}
    play(recorder, Reply(ANTHROPIC.reply("ok")))
    ANTHROPIC.client(recorder).submit_batch([[{"role": "user", "content": [part]}]])
    assert b'{"id":18446744073709551617,"ratio":1.5,"n":0}' in recorder.requests[0].body


def test_an_int_that_python_does_not_write_out_is_a_mistake(recorder: Recorder, wire: Wire) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=r'config.extra\["a"\]\[1\] is an int of more digits'):
        wire.single(recorder, wire.reply("ok"), a=[1, 10**5000])
    assert recorder.requests == []


def test_what_no_double_holds_is_no_number(recorder: Recorder, wire: Wire) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number"}}}
    for text in ('{"n": 1e999}', '{"n": -1E+400}', '{"n": NaN}', '{"n": Infinity}'):
        with pytest.raises(llmbackend.InvalidOutputError, match="null is not of type"):
            wire.single(recorder, wire.reply(text), schema)
    assert wire.single(recorder, wire.reply('{"n": 1e308}'), schema).value == {"n": 1e308}


def test_ids_and_counts_are_read_as_before(recorder: Recorder) -> None:
    usage = {"input_tokens": 18446744073709551616, "output_tokens": 2.0, "input_tokens_details": {"cached_tokens": 1e3}}
    found = OPENAI.single(recorder, OPENAI.reply("ok", usage=usage)).usage
    assert found is not None
    assert (found.input_tokens, found.output_tokens, found.cached_tokens) == (2**64 - 1, 2, 1000)
