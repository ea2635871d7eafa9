"""An answer in several messages, or blocks, or parts: plain texts are joined, and what comes again counts once; with a
schema, the first text that fits is the answer. In single calls, in immediate batches and in jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from recorder import Recorder, Reply
from replies import ALL, ANTHROPIC, GEMINI, OPENAI, Wire, anthropic_reply, openai_message, openai_reply, play

import llmbackend
from llmbackend import StructuredOutput

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 3}},
    "required": ["a"],
    "additionalProperties": False,
}


class Model(BaseModel):
    a: int

    @field_validator("a")
    @classmethod
    def large(cls, a: int) -> int:
        if a < 3:
            raise ValueError("must be 3 or more")
        return a


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def wire(request: pytest.FixtureRequest) -> Any:
    return request.param


# The texts, and which JSON is the answer.
ANSWERS: dict[str, tuple[tuple[str, ...], str]] = {
    "the same twice": (('{"a": 5}', '{"a": 5}'), '{"a": 5}'),
    "the same three times": (('{"a": 5}',) * 3, '{"a": 5}'),
    "a fragment, then the whole": (('{"a": ', '{"a": 5}'), '{"a": 5}'),
    "the whole, then a fragment": (('{"a": 5}', '{"a": '), '{"a": 5}'),
    "a preamble, then the JSON": (("Let me see.", '{"a": 5}'), '{"a": 5}'),
    "the JSON, then a remark": (('{"a": 5}', "I hope that helps."), '{"a": 5}'),
    "two that fit": (('{"a": 5}', '{"a": 6}'), '{"a": 5}'),
    "the first does not fit": (('{"a": 2}', '{"a": 6}'), '{"a": 6}'),
    "the first has another shape": (('{"b": 5}', "[5]", '{"a": 6}'), '{"a": 6}'),
    "one in several pieces": (('{"a"', ": ", "5}"), '{"a": 5}'),
    "in pieces after a preamble": (("Let me see.", '{"a"', ": 5}"), '{"a": 5}'),
    "in pieces before a remark": (('{"a"', ": 5}", "I hope that helps."), '{"a": 5}'),
    "in pieces between texts": (("So:", '{"a"', " ", ": 5}", "Bye."), '{"a": 5}'),
    "blank texts around it": ((" ", '{"a": 5}', "\n"), '{"a": 5}'),
    "a fence around it": (("Here it is:", '```json\n{"a": 5}\n```'), '{"a": 5}'),
    "a fence in pieces": (("```json\n", '{"a": 5}', "\n```"), '{"a": 5}'),
}


def check(kept: Any, text: str, schema: Any) -> None:
    """`kept` is a Response or a BatchItem."""
    a = json.loads(text)["a"]
    assert kept.value == (Model(a=a) if schema is Model else {"a": a})
    assert json.loads(kept.text) == {"a": a}
    assert kept.finish_reason == "stop"
    assert (kept.usage.input_tokens, kept.usage.output_tokens) == (3, 2)


@pytest.mark.parametrize("schema", [SCHEMA, Model], ids=["schema", "model"])
@pytest.mark.parametrize("name", ANSWERS)
def test_the_first_text_that_fits_is_the_answer(recorder: Recorder, wire: Wire, name: str, schema: Any) -> None:
    texts, expected = ANSWERS[name]
    check(wire.single(recorder, wire.reply(*texts), schema), expected, schema)
    for item in (
        wire.immediate(recorder, wire.reply(*texts), schema),
        wire.job(recorder, wire.reply(*texts), schema),
    ):
        assert (item.status, item.error) == ("succeeded", None)
        check(item, expected, schema)


UNFIT: dict[str, tuple[tuple[str, ...], str]] = {
    "no JSON": (("Let me see.", "No."), "no JSON"),
    "none fits": (('{"a": 1}', '{"a": 2}'), "at '"),
    "a preamble, then what does not fit": (("Let me see.", '{"a": 1}'), "at '"),
    "pieces that make nothing": (('{"a"', ": "), "no JSON"),
}


@pytest.mark.parametrize("schema", [SCHEMA, Model], ids=["schema", "model"])
@pytest.mark.parametrize("name", UNFIT)
def test_where_none_fits_the_first_json_says_why(recorder: Recorder, wire: Wire, name: str, schema: Any) -> None:
    texts, words = UNFIT[name]
    with pytest.raises(llmbackend.InvalidOutputError) as caught:
        wire.single(recorder, wire.reply(*texts), schema)
    assert words in str(caught.value)
    assert caught.value.usage == llmbackend.Usage(3, 2)
    for item in (
        wire.immediate(recorder, wire.reply(*texts), schema),
        wire.job(recorder, wire.reply(*texts), schema),
    ):
        assert (item.status, item.value, item.usage) == ("invalid", None, llmbackend.Usage(3, 2))
        assert words in str(item.error)


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (('{"value": [1, 2]}', '{"value": [1, 2]}'), [1, 2]),
        (("Well:", '{"value": [1', ", 2]}"), [1, 2]),
        (('{"value": "no"}', '{"valve": [1]}', '{"value": [3]}'), [3]),
    ],
)
@pytest.mark.parametrize("wire", [OPENAI, ANTHROPIC], ids=lambda it: it.name)
def test_a_wrapped_answer(recorder: Recorder, wire: Wire, texts: tuple[str, ...], value: Any) -> None:
    schema = {"type": "array", "items": {"type": "integer"}}
    for shape in (schema, list[int]):
        assert wire.single(recorder, wire.reply(*texts), shape).value == value
        assert wire.job(recorder, wire.reply(*texts), shape).value == value


def test_parts_that_are_numbers(recorder: Recorder) -> None:
    """Run together they would be another one."""
    assert GEMINI.single(recorder, GEMINI.reply("4", "4"), {"type": "integer"}).value == 4
    assert GEMINI.single(recorder, GEMINI.reply("4", "2"), int).value == 4
    assert GEMINI.single(recorder, GEMINI.reply("4", "2"), {"type": "integer", "minimum": 10}).value == 42


def test_parts_of_one_message_of_openai(recorder: Recorder) -> None:
    parts = [{"type": "output_text", "text": text} for text in ("Well:", '{"a"', ": 5}")]
    body = openai_reply(openai_message("", content=parts), openai_message('{"a": 6}'))
    assert OPENAI.single(recorder, body, SCHEMA).value == {"a": 5}
    assert OPENAI.single(recorder, body, Model).value == Model(a=5)


def test_text_before_and_between_the_tools_of_a_server(recorder: Recorder) -> None:
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    for texts in (['{"a": 5}'], ['{"a"', ": 5}"]):
        body = anthropic_reply("I'll look it up.", search, found, "Based on that:", *texts)
        assert ANTHROPIC.single(recorder, body, SCHEMA).value == {"a": 5}
        assert ANTHROPIC.job(recorder, body, Model).value == Model(a=5)
    items = [{"type": "web_search_call", "id": "w"}, "Based on that:", {"type": "reasoning", "summary": []}, '{"a": 5}']
    assert OPENAI.single(recorder, openai_reply("I'll look it up.", *items), SCHEMA).value == {"a": 5}


def test_inputs_of_a_forced_tool(recorder: Recorder) -> None:
    old = {"type": "error", "error": {"type": "invalid_request_error", "message": "output_config: Extra inputs"}}
    call = {"type": "tool_use", "id": "t", "name": "response"}
    calls = [{**call, "input": given} for given in ({"a": 1}, {"a": 5}, {"a": 6})]
    play(recorder, Reply(old, status=400), Reply(anthropic_reply("Calling.", *calls, stop_reason="tool_use")))
    assert ANTHROPIC.client(recorder).get_response("x", schema=SCHEMA) == {"a": 5}


# --- Refusals, phases, cuts ---

REFUSAL = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "I can't."}]}


@pytest.mark.parametrize("schema", [SCHEMA, Model], ids=["schema", "model"])
def test_a_refusal_beside_texts(recorder: Recorder, schema: Any) -> None:
    for items in ((REFUSAL, '{"a": 5}'), ('{"a": 5}', REFUSAL), ("Well:", REFUSAL, '{"a": 5}')):
        assert OPENAI.single(recorder, openai_reply(*items), schema).text == '{"a": 5}'
        assert OPENAI.job(recorder, openai_reply(*items), schema).status == "succeeded"
    with pytest.raises(llmbackend.RefusalError, match="I can't") as caught:
        OPENAI.single(recorder, openai_reply("Let me see.", REFUSAL, REFUSAL), schema)
    assert (caught.value.text, caught.value.usage) == ("I can't.", llmbackend.Usage(3, 2))
    assert OPENAI.job(recorder, openai_reply("Let me see.", REFUSAL), schema).status == "refused"
    # Without a schema, a text is a text.
    assert OPENAI.single(recorder, openai_reply("Let me see.", REFUSAL)).text == "Let me see."


def test_commentary_is_never_the_answer(recorder: Recorder) -> None:
    said = [openai_message('{"a": 4}', phase="commentary"), openai_message('{"a": 5}', phase="final_answer")]
    assert OPENAI.single(recorder, openai_reply(*said, said[1]), SCHEMA).value == {"a": 5}
    assert OPENAI.single(recorder, openai_reply(*said, said[1])).text == '{"a": 5}'
    assert OPENAI.single(recorder, openai_reply(said[0], said[0]), SCHEMA).value == {"a": 4}


CUT: dict[str, dict[str, Any]] = {
    "openai": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    "anthropic": {"stop_reason": "max_tokens"},
    "gemini": {"reason": "MAX_TOKENS"},
}


@pytest.mark.parametrize("schema", [SCHEMA, Model], ids=["schema", "model"])
def test_only_the_last_text_is_cut_by_max_tokens(recorder: Recorder, wire: Wire, schema: Any) -> None:
    for texts in (('{"a": 5}', '{"a": '), ('{"a": 5}', '{"a": 5}'), ("Well:", '{"a"', ": 5}", "Anyw")):
        body = wire.reply(*texts, **CUT[wire.name])
        check(wire.single(recorder, body, schema), '{"a": 5}', schema)
        assert wire.job(recorder, body, schema).status == "succeeded"
    for texts in (('{"a": 5}',), ("Well:", '{"a": 5}'), ('{"a"', ": 5}"), ('{"a": 1}', '{"a": 5}')):
        body = wire.reply(*texts, **CUT[wire.name])
        kind = llmbackend.InvalidOutputError if texts[0] == '{"a": 1}' else llmbackend.TruncatedError
        with pytest.raises(kind) as caught:
            wire.single(recorder, body, schema)
        if kind is llmbackend.TruncatedError:
            assert caught.value.text == "".join(texts)


# --- Plain texts ---


def test_plain_texts_are_joined(recorder: Recorder, wire: Wire) -> None:
    body = wire.reply("ha ", "ha ", "", "Well.")
    assert wire.single(recorder, body).text == "ha ha Well."
    assert wire.job(recorder, body).text == "ha ha Well."


REPEATED = [
    (("one", "one"), "one"),
    (("one", "one", "one"), "one"),
    (("on", "one"), "one"),
    (("one", "on"), "one"),
    (("one ", "two"), "one two"),
    (("one ", "two", "one "), "one two"),
    (("", "one"), "one"),
]


@pytest.mark.parametrize(("texts", "expected"), REPEATED)
def test_a_text_that_comes_again_under_the_same_id_counts_once(
    recorder: Recorder, texts: tuple[str, ...], expected: str
) -> None:
    body = openai_reply(*(openai_message(text, id="msg_1") for text in texts))
    assert OPENAI.single(recorder, body).value == expected
    assert OPENAI.immediate(recorder, body).value == expected
    assert OPENAI.job(recorder, body).value == expected


def test_ids_tell_messages_apart(recorder: Recorder) -> None:
    first, other = openai_message("one ", id="msg_1"), openai_message("one ", id="msg_2")
    assert OPENAI.single(recorder, openai_reply(first, other, first)).text == "one one "
    # Without ids, what is the same in everything is the same message.
    assert OPENAI.single(recorder, openai_reply(openai_message("one"), openai_message("one"))).text == "one"


def test_an_immediate_batch_is_read_again_with_a_model(recorder: Recorder) -> None:
    """Its answers were joined when it had none."""
    play(recorder, Reply(openai_reply("Well:", '{"a": 2}', '{"a": 5}')))
    client = OPENAI.client(recorder)
    batch = client.submit_batch(["x"], batch_options={"native": False})
    assert batch.results() == ['Well:{"a": 2}{"a": 5}']
    assert client.get_batch(batch.id, Model).results() == [Model(a=5)]


def test_the_parser_gets_what_fits_and_only_that(recorder: Recorder) -> None:
    seen = []

    def parser(value: Any) -> Any:
        seen.append(value)
        raise KeyError("gone")

    body = openai_reply('{"a": 1}', '{"a": 5}', '{"a": 6}')
    for shape in (StructuredOutput(schema=SCHEMA, parser=parser), StructuredOutput(None, Model, parser=parser)):
        with pytest.raises(llmbackend.InvalidOutputError, match="gone") as caught:
            OPENAI.single(recorder, body, shape)
        assert caught.value.text == '{"a": 5}'
    assert seen == [{"a": 5}, Model(a=5)]


def test_a_thousand_texts_are_read_in_no_time(recorder: Recorder, wire: Wire) -> None:
    texts = [*("[" for _ in range(2000)), '{"a": 5}']
    with pytest.raises(llmbackend.InvalidOutputError):
        wire.single(recorder, wire.reply(*texts), SCHEMA)
    assert wire.single(recorder, wire.reply(*texts[1200:]), SCHEMA).value == {"a": 5}
