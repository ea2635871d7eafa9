"""What a provider refuses as a prompt is refused as a turn and as a part of one, before anything is sent: in single
calls, in immediate batches and in jobs, and where a conversation stands in for the input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from recorder import Recorder, Reply
from replies import ALL, ANTHROPIC, GEMINI, OPENAI, Wire, play

from llmbackend import ConfigurationError


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


HI = {"role": "user", "content": "hi"}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


IMAGE = {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}
# What each provider refuses, as a prompt.
BLANKS = {"anthropic": ["", " ", "\n\t", "\u2003"], "gemini": [""]}

# The turns around a text, and where in them it stands.
PLACES: dict[str, tuple[Any, str]] = {
    "the turn": (lambda blank: [user(blank)], '[0]["content"]'),
    "a later turn": (lambda blank: [HI, {"role": "assistant", "content": "a"}, user(blank)], '[2]["content"]'),
    "an answer": (lambda blank: [HI, {"role": "assistant", "content": blank}, HI], '[1]["content"]'),
    "the only part": (lambda blank: [user([text(blank)])], '[0]["content"][0]["text"]'),
    "a part after a text": (lambda blank: [user([text("a"), text(blank)])], '[0]["content"][1]["text"]'),
    "a part after an image": (lambda blank: [HI, user([IMAGE, text(blank)])], '[1]["content"][1]["text"]'),
    "a part of Gemini's": (lambda blank: [user([{"text": blank}])], '[0]["content"][0]["text"]'),
    "a part that is a str": (lambda blank: [user(["a", blank])], '[0]["content"][1]'),
}
CASES = [
    pytest.param(wire, blank, *place, id=f"{wire.name}-{name}-{blank!r}")
    for wire in (ANTHROPIC, GEMINI)
    for blank in BLANKS[wire.name]
    for name, place in PLACES.items()
]


@pytest.mark.parametrize(("wire", "blank", "turns", "place"), CASES)
def test_a_blank_text_is_refused_wherever_it_stands(
    recorder: Recorder, wire: Wire, blank: str, turns: Any, place: str
) -> None:
    play(recorder, Reply(wire.reply("ok")))
    client = wire.client(recorder)
    conversation = turns(blank)

    def refused(where: str, call: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert re.match(re.escape(f"{where}{place} is empty"), str(caught.value)), caught.value

    refused("input", lambda: client.get_response(conversation))
    extra = {"extra": {"conversation": conversation}}
    refused('config.extra["conversation"]', lambda: client.get_response("x", extra))
    for native in (True, False):
        options = {"native": native}
        inputs = ["a", [HI], "b", conversation]
        refused("inputs[3]", lambda: client.submit_batch(inputs, batch_options=options))  # noqa: B023
        extra = {"extra": {"conversations": [[HI], conversation]}}
        refused('config.extra["conversations"][1]', lambda: client.submit_batch(["a", "b"], extra, None, options))  # noqa: B023
    assert recorder.requests == []


@pytest.mark.parametrize(
    ("wire", "blank"), [(wire, blank) for wire in (ANTHROPIC, GEMINI) for blank in BLANKS[wire.name]]
)
def test_the_same_text_as_a_prompt(recorder: Recorder, wire: Wire, blank: str) -> None:
    play(recorder, Reply(wire.reply("ok")))
    with pytest.raises(ConfigurationError, match="^input is empty"):
        wire.client(recorder).get_response(blank)
    for native in (True, False):
        with pytest.raises(ConfigurationError, match=r"^inputs\[1\] is empty"):
            wire.client(recorder).submit_batch(["a", blank], batch_options={"native": native})
    assert recorder.requests == []


CALL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
WITHOUT_TEXT: list[tuple[Wire, list[dict[str, Any]]]] = [
    (ANTHROPIC, [user([IMAGE])]),
    (ANTHROPIC, [HI, {"role": "assistant", "content": [CALL]}, user([{"type": "tool_result", "tool_use_id": "t"}])]),
    (ANTHROPIC, [HI, user([{"type": "tool_result", "tool_use_id": "t", "content": ""}])]),
    (ANTHROPIC, [HI, {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "E"}, CALL]}]),
    (ANTHROPIC, [{"role": "system", "content": ""}, HI]),
    (ANTHROPIC, [user("\u200b")]),
    (GEMINI, [user(" ")]),
    (GEMINI, [user([{"inlineData": {"mimeType": "image/png", "data": "QQ=="}}])]),
    (GEMINI, [HI, {"role": "model", "content": [{"text": "", "thoughtSignature": "QQ=="}]}, HI]),
    (GEMINI, [HI, {"role": "model", "content": [{"functionCall": {"name": "f"}}]}, HI]),
    (GEMINI, [HI, user([{"functionResponse": {"name": "f", "response": {"text": ""}}}])]),
    (GEMINI, [{"role": "system", "content": [text("")]}, HI]),
    (OPENAI, [user("")]),
    (OPENAI, [user([text("")])]),
]


@pytest.mark.parametrize(("wire", "turns"), WITHOUT_TEXT)
def test_turns_that_need_no_text_are_sent(recorder: Recorder, wire: Wire, turns: Any) -> None:
    play(recorder, Reply(wire.reply("ok")))
    assert wire.client(recorder).get_response(turns) == "ok"
    assert wire.client(recorder).submit_batch([turns], batch_options={"native": False}).results() == ["ok"]
    assert len(recorder.requests) == 2


@pytest.mark.parametrize("blank", [" ", "\n"])
def test_a_blank_system_prompt_of_anthropic(recorder: Recorder, blank: str) -> None:
    play(recorder, Reply(ANTHROPIC.reply("ok")))
    client = ANTHROPIC.client(recorder)
    with pytest.raises(ConfigurationError, match=r'^input\[0\]\["content"\] is empty or blank'):
        client.get_response([{"role": "system", "content": blank}, HI])
    for key in ("system", "system_instruction"):
        with pytest.raises(ConfigurationError, match="^the system prompt is empty or blank"):
            client.get_response("x", {"extra": {key: blank}})
    with pytest.raises(ConfigurationError, match="^the system prompt is empty or blank"):
        client.submit_batch(["x"], batch_options={"system": blank})
    assert recorder.requests == []
    assert client.get_response("x", {"extra": {"system": ""}}) == "ok"
    assert "system" not in recorder.requests[0].json


@pytest.mark.parametrize("wire", ALL, ids=lambda it: it.name)
def test_what_else_is_wrong_with_a_conversation_is_named_by_its_place(recorder: Recorder, wire: Wire) -> None:
    turns = [{"role": "system", "content": "a"}, HI]
    config = {"extra": {"conversations": [[HI], turns], "system": "b"}}
    for native in (True, False):
        with pytest.raises(ConfigurationError, match=r'^config.extra\["conversations"\]\[1\]: the conversation has'):
            wire.client(recorder).submit_batch(["x", "y"], config, batch_options={"native": native})
