"""A stop string cuts the text before it, on every provider, whatever the server did; at the very start it leaves nothing."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from recorder import ANSWER, Recorder, Reply
from replies import ALL, ANTHROPIC, GEMINI, OPENAI, Wire, openai_message, play

import llmbackend


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def wire(request: pytest.FixtureRequest) -> Any:
    return request.param


CUTS = [
    ("END", "END and more", ""),
    ("END", "END", ""),
    (["more", "END"], "END and more", ""),
    ("END", "a END b", "a "),
    ("END", "no end", "no end"),
    (["\n"], "\nline", ""),
    (["\n\n", "x"], "a\n\nb", "a"),
    ("é", "éa", ""),
]
CUT: dict[str, dict[str, Any]] = {
    "openai": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
    "anthropic": {"stop_reason": "max_tokens"},
    "gemini": {"reason": "MAX_TOKENS"},
}


@pytest.mark.parametrize(("stop", "text", "kept"), CUTS)
def test_a_text_that_the_server_did_not_cut(recorder: Recorder, wire: Wire, stop: Any, text: str, kept: str) -> None:
    for texts in ((text,), (text[:1], text[1:])):
        reply = wire.single(recorder, wire.reply(*texts), stop=stop)
        assert (reply.value, reply.text, reply.finish_reason) == (kept, kept, "stop")
        item = wire.immediate(recorder, wire.reply(*texts), stop=stop)
        assert (item.status, item.value, item.finish_reason) == ("succeeded", kept, "stop")
    # What comes after the stop string may be cut: the answer was over by then.
    reply = wire.single(recorder, wire.reply(text, **CUT[wire.name]), stop=stop)
    assert (reply.text, reply.finish_reason) == (kept, "length" if kept == text else "stop")


THINKING: dict[str, Any] = {
    "openai": {"type": "reasoning", "summary": []},
    "anthropic": {"type": "thinking", "thinking": "hm", "signature": "E"},
    "gemini": {"text": "hm", "thought": True},
}


def without_text(wire: Wire) -> dict[str, Any]:
    """What servers reply that stopped at once."""
    thinking = THINKING[wire.name]
    replies = {"empty": wire.reply(), "an empty text": wire.reply(""), "thinking only": wire.reply(thinking)}
    if wire is OPENAI:
        replies["no parts"] = wire.reply(openai_message("", content=[]))
        replies["content null"] = wire.reply(thinking, openai_message("", content=None))
        replies["output null"] = {**wire.reply(), "output": None}
    elif wire is ANTHROPIC:
        replies["said so"] = wire.reply(stop_reason="stop_sequence", stop_sequence="END")
        replies["said so, after thinking"] = wire.reply(thinking, stop_reason="stop_sequence", stop_sequence="END")
        replies["no reason"] = wire.reply(stop_reason=None)
    else:
        replies["no content"] = {"candidates": [{"finishReason": "STOP"}]}
        replies["content without parts"] = {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}
        replies["a signature alone"] = wire.reply({"thoughtSignature": "QQ=="})
    return replies


REPLIES = [
    pytest.param(wire, body, id=f"{wire.name}-{name}") for wire in ALL for name, body in without_text(wire).items()
]


@pytest.mark.parametrize(("wire", "body"), REPLIES)
def test_a_server_that_stopped_before_any_text(recorder: Recorder, wire: Wire, body: Any) -> None:
    reply = wire.single(recorder, body, stop="END")
    assert (reply.value, reply.text, reply.finish_reason) == ("", "", "stop")
    item = wire.immediate(recorder, body, stop=["END", "STOP"])
    assert (item.status, item.value, item.error) == ("succeeded", "", None)


@pytest.mark.parametrize("wire", ALL, ids=lambda it: it.name)
def test_without_a_stop_string_no_text_is_an_error(recorder: Recorder, wire: Wire) -> None:
    for body in (wire.reply(), wire.reply(THINKING[wire.name])):
        with pytest.raises(llmbackend.OutputError, match="no text"):
            wire.single(recorder, body)
        with pytest.raises(llmbackend.OutputError, match="no text"):
            wire.single(recorder, body, stop=[])


OTHER_ENDS = [
    (OPENAI, OPENAI.reply({"type": "function_call", "name": "f"}), llmbackend.OutputError),
    (OPENAI, OPENAI.reply(**CUT["openai"]), llmbackend.TruncatedError),
    (OPENAI, OPENAI.reply(openai_message("", content=[{"type": "refusal", "refusal": "No."}])), llmbackend.RefusalError),
    (ANTHROPIC, ANTHROPIC.reply({"type": "tool_use", "name": "f", "input": {}}, stop_reason="tool_use"), llmbackend.OutputError),
    (ANTHROPIC, ANTHROPIC.reply(stop_reason="refusal"), llmbackend.RefusalError),
    (ANTHROPIC, ANTHROPIC.reply(stop_reason="max_tokens"), llmbackend.TruncatedError),
    (GEMINI, GEMINI.reply({"functionCall": {"name": "f"}}), llmbackend.OutputError),
    (GEMINI, GEMINI.reply(reason="MAX_TOKENS"), llmbackend.TruncatedError),
    (GEMINI, GEMINI.reply(reason="SAFETY"), llmbackend.ContentFilterError),
    (GEMINI, {"candidates": []}, llmbackend.OutputError),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "body", "kind"), OTHER_ENDS)
def test_another_reason_for_no_text_stays_an_error(
    recorder: Recorder, wire: Wire, body: Any, kind: type[Exception]
) -> None:
    with pytest.raises(llmbackend.OutputError) as caught:
        wire.single(recorder, body, stop="END")
    assert type(caught.value) is kind


def test_openai_itself_knows_no_stop_strings(recorder: Recorder) -> None:
    """So that a reply of its without a text did not stop at one."""
    play(recorder, Reply(OPENAI.reply()), Reply(OPENAI.reply("END of it")))
    client = llmbackend.Client("openai", "m", api_key="k", base_url=recorder.openai_url)
    with pytest.raises(llmbackend.OutputError, match="no text"):
        client.get_response("x", {"extra": {"stop": "END"}})
    assert client.get_response("x", {"extra": {"stop": "END"}}) == ""
    assert "stop" not in recorder.requests[0].json


@pytest.mark.parametrize(
    ("body", "kept"), [(OPENAI.reply("END of it"), ""), (OPENAI.reply("a", "END"), "a"), (OPENAI.reply(), "")]
)
def test_a_job_keeps_its_stop_strings(recorder: Recorder, body: Any, kept: str) -> None:
    item = OPENAI.job(recorder, body, metadata={"llmbackend_stop": '["END"]'})
    assert (item.status, item.value) == ("succeeded", kept)
    assert OPENAI.job(recorder, ANSWER).value == "ok"


def test_a_native_batch_of_this_process(box: Any, wire: Wire) -> None:
    client = llmbackend.client(wire.name, "gemini-1.5-flash" if wire is GEMINI else "m", **box.options(wire.name))
    config = {"extra": {"stop": ["Prompt", "x"]}}
    batch = client.submit_batch(["Prompt 1", "b Prompt", "c"], config, batch_options={"native": True})
    assert batch.wait(0.01).results() == ["", "b ", "c"]
