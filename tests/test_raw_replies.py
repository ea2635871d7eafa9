"""`Response.raw` and `to_sdk()` of replies that a parser or an SDK's models do not take as they are."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from recorder import Recorder
from replies import ALL, GEMINI, OPENAI, Wire

import llmbackend


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def wire(request: pytest.FixtureRequest) -> Any:
    return request.param


def with_field(wire: Wire, written: str) -> str:
    """A reply with a field `odd`, whose JSON is given, beside the text `hi`."""
    return json.dumps(wire.reply("hi", odd="HERE")).replace('"HERE"', written)


def sdk_text(native: Any) -> Any:
    if hasattr(native, "output_text"):
        return native.output_text
    if hasattr(native, "content"):
        return "".join(block.text for block in native.content)
    return native.text


DIGITS = "9" * 10_000
ODD: dict[str, tuple[str, Any]] = {
    "an int of 10,000 digits": (DIGITS, 10**10_000 - 1),
    "a negative one": (f"-{DIGITS}", 1 - 10**10_000),
    "an int of 200,000 digits": ("1" + "0" * 199_999, Decimal(f"1e{199_999}")),
    "several": (f"[{DIGITS}, 1, -2, 1.5]", [10**10_000 - 1, 1, -2, 1.5]),
    "a decimal of 10,000 digits": (f"0.{DIGITS}", 1.0),
    "beyond a double": ("1e999", math.inf),
    "infinity": ("-Infinity", -math.inf),
    "infinity in capitals": ("[INFINITY, NAN, Inf]", [None, None, None]),
    "duplicate keys": ('{"a": 1, "a": 2}', {"a": 2}),
    "a line break in a string": ('"a\\nb"'.replace("\\n", "\n"), "a\nb"),
    "a line break and a long int": (f'["a\tb", {DIGITS}]', ["a\tb", 10**10_000 - 1]),
    "half an emoji": ('"\\ud83d"', "\ud83d"),
    "half an emoji and a long int": (f'["\\ud83d", {DIGITS}]', ["\ud83d", 10**10_000 - 1]),
    "a hundred levels": ("[" * 100 + "]" * 100, json.loads("[" * 100 + "]" * 100)),
    "a null character": ('"\\u0000"', "\x00"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_field(recorder: Recorder, wire: Wire, name: str) -> None:
    written, expected = ODD[name]
    reply = wire.single(recorder, with_field(wire, written).encode())
    assert reply.text == "hi"
    assert reply.raw["odd"] == expected
    pytest.importorskip({"gemini": "google.genai"}.get(wire.name, wire.name))
    assert sdk_text(reply.to_sdk()) == "hi"


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b" \n", b""])
@pytest.mark.parametrize("after", [b"\r\n", b""])
def test_what_stands_around_a_reply(recorder: Recorder, wire: Wire, before: bytes, after: bytes) -> None:
    body = wire.reply("hi")
    reply = wire.single(recorder, before + json.dumps(body).encode() + after)
    assert reply.raw == body
    assert sdk_text(reply.to_sdk()) == "hi"


def test_bytes_that_are_not_utf_8(recorder: Recorder, wire: Wire) -> None:
    reply = wire.single(recorder, with_field(wire, '"a?b"').encode().replace(b"?", b"\xff"))
    assert reply.raw["odd"] == "a\ufffdb"
    assert sdk_text(reply.to_sdk()) == "hi"


def test_half_an_emoji_in_the_text(recorder: Recorder, wire: Wire) -> None:
    body = json.dumps(wire.reply("hi HERE")).replace("HERE", "\\ud83d")
    reply = wire.single(recorder, body)
    assert reply.text == sdk_text(reply.to_sdk()) == "hi \ufffd"


def test_nan_in_a_structured_reply(recorder: Recorder, wire: Wire) -> None:
    reply = wire.single(recorder, with_field(wire, "[NaN]"))
    assert math.isnan(reply.raw["odd"][0])
    assert sdk_text(reply.to_sdk()) == "hi"


# --- google-genai ---

BAD = [
    "not base64!",
    "QQ",
    "é",
    7,
    {"a": 1},
]


@pytest.mark.parametrize("signature", BAD)
@pytest.mark.parametrize("in_list", [False, True])
def test_a_signature_that_cannot_be_decoded_is_left_out(recorder: Recorder, signature: Any, in_list: bool) -> None:
    genai = pytest.importorskip("google.genai.types")
    good = {"text": "b", "thoughtSignature": "QQ=="}
    body = GEMINI.reply("a", {"text": "", "thoughtSignature": signature}, good, {"thoughtSignature": signature})
    reply = GEMINI.single(recorder, [body] if in_list else body)
    native: Any = reply.to_sdk()
    assert type(native) is genai.GenerateContentResponse
    assert native.text == reply.text == "ab"
    parts = native.candidates[0].content.parts
    assert (len(parts), parts[2].thought_signature) == (4, b"A")
    assert native.usage_metadata.prompt_token_count == 3
    assert reply.raw == ([body] if in_list else body)


def test_a_reply_in_lists_of_one(recorder: Recorder) -> None:
    pytest.importorskip("google.genai.types")
    body = GEMINI.reply("hi", newField={"a": 1})
    for wrapped in ([body], [[body]]):
        reply = GEMINI.single(recorder, wrapped)
        assert reply.raw == wrapped
        assert reply.to_sdk().text == "hi"


@pytest.mark.parametrize(
    "fields",
    [
        {"usageMetadata": {"promptTokenCount": 10**30}},
        {"usageMetadata": {"promptTokenCount": "many"}},
        {"usageMetadata": []},
        {"modelVersion": 7},
        {"responseId": ["r"]},
        {"candidates": [{"content": {"parts": [7, {"text": "hi"}, None, "x"], "role": 3}, "index": "first"}]},
        {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "safetyRatings": [1, {"blocked": "?"}, 2]}, 7, None]},
    ],
)
def test_fields_of_another_type_are_left_out(recorder: Recorder, fields: dict[str, Any]) -> None:
    pytest.importorskip("google.genai.types")
    reply = GEMINI.single(recorder, {**GEMINI.reply("hi"), **fields})
    assert reply.to_sdk().text == reply.text == "hi"


def test_a_structured_answer_with_a_long_number(recorder: Recorder) -> None:
    for wire in ALL:
        reply = wire.single(recorder, wire.reply(f'{{"n": {DIGITS}}}'), {"type": "object"})
        assert reply.value == {"n": 10**10_000 - 1}
        assert reply.raw == wire.reply(f'{{"n": {DIGITS}}}')


def test_openais_construct_takes_any_field(recorder: Recorder) -> None:
    pytest.importorskip("openai")
    assert OPENAI.single(recorder, OPENAI.reply("hi", self=1, values=[2])).to_sdk().output_text == "hi"


def test_a_nesting_that_is_too_deep_is_an_error_that_says_so(recorder: Recorder, wire: Wire) -> None:
    with pytest.raises(llmbackend.APIError, match="recursion limit"):
        wire.single(recorder, with_field(wire, "[" * 5000 + "]" * 5000))
