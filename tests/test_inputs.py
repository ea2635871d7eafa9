"""Every mistake in an argument: a ConfigurationError that says what and where, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import llmbackend
from llmbackend import ConfigurationError, GenerationConfig, StructuredOutput

NAN = float("nan")
INFINITY = float("inf")
LONE = "half \ud83d of it"
SCHEMA = {"type": "object", "properties": {"t": {"type": "string"}}, "required": ["t"]}


class Model(BaseModel):
    t: str


@pytest.fixture
def refused(box: llmbackend.Sandbox, client: llmbackend.Client) -> Iterator[Callable[..., str]]:
    """Calls something that must be refused before anything is sent; the message."""

    def call(make: Callable[..., object], *args: Any, **options: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            make(*args, **options)
        assert isinstance(caught.value, ValueError)
        return str(caught.value)

    yield call
    assert box.requests() == []


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ("one prompt", ["inputs is one str", "[prompt]"]),
        (b"bytes", ["inputs is one bytes"]),
        (bytearray(b"bytes"), ["inputs is one bytearray"]),
        ({"a": "b"}, ["inputs is a dict", "custom_ids"]),
        ({"a"}, ["inputs is a set", "no order"]),
        (frozenset("a"), ["inputs is a frozenset", "no order"]),
        (None, ["inputs is a NoneType", "list"]),
        (7, ["inputs is a int", "list"]),
        (["a", 7], ["inputs[1] is a int", "str"]),
        (["a", None], ["inputs[1] is a NoneType"]),
        (["a", b"b"], ["inputs[1] is a bytes"]),
        (["a", {"role": "user", "content": "b"}], ["inputs[1] is a dict", "list of messages"]),
        (["a", []], ["inputs[1] is an empty list of messages"]),
        (["a", ["b"]], ["inputs[1][0]", "not a str"]),
        (["a", [{"role": "user"}]], ["inputs[1][0]", "content"]),
        (["a", [{"role": 1, "content": "b"}]], ['inputs[1][0]["role"]', "the number 1"]),
        (["a", [{"role": "user", "content": None}]], ['inputs[1][0]["content"]', "None"]),
        (["a", [{"role": "user", "content": NAN}]], ['inputs[1][0]["content"]', "NaN"]),
        (["a", [{"role": "user", "content": LONE}]], ['inputs[1][0]["content"]', "lone surrogate", "character 5"]),
        (["a", LONE], ["inputs[1]", "lone surrogate", "character 5"]),
        (["a"] * 3000 + [LONE], ["inputs[3000]", "lone surrogate"]),
        (["a"] * 3000 + [7], ["inputs[3000] is a int"]),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, list) else "",
)
def test_inputs(client: Any, refused: Any, inputs: Any, said: list[str]) -> None:
    message = refused(client.submit_batch, inputs)
    for words in said:
        assert words in message


class Broken:
    def __init__(self, error: BaseException, after: int | None) -> None:
        self.error = error
        self.after = after

    def __iter__(self) -> Iterator[str]:
        if self.after is None:
            raise self.error
        return self.pull(self.after)

    def pull(self, after: int) -> Iterator[str]:
        for n in range(after):
            yield f"Prompt {n}"
        raise self.error


@pytest.mark.parametrize("after", [None, 0, 5, 2500])
def test_inputs_that_raise(client: Any, refused: Any, after: int | None) -> None:
    """What the caller's own code raises stays catchable as what it was; a note says what came of it."""
    for error in (OSError("the disk of the caller"), KeyError("title"), TypeError("inside"), StopAsyncIteration()):
        with pytest.raises(type(error)) as caught:
            client.submit_batch(Broken(error, after))
        assert caught.value is error
        assert error.__notes__ == [f"llmbackend: raised by inputs after {after or 0} prompts; nothing was sent"]


@pytest.mark.parametrize("after", [None, 0, 3])
def test_ids_that_raise(client: Any, refused: Any, after: int | None) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        client.submit_batch(["a", "b"], batch_options={"custom_ids": Broken(error, after)})
    assert caught.value is error
    note = f'llmbackend: raised by batch_options["custom_ids"] after {after or 0} ids; nothing was sent'
    assert error.__notes__ == [note]


def test_lines_that_cannot_be_decoded(client: Any, refused: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"fine\n\xff\n")
    with (tmp_path / "prompts.txt").open(encoding="utf-8") as lines, pytest.raises(UnicodeDecodeError) as caught:
        client.submit_batch(lines)
    assert "nothing was sent" in caught.value.__notes__[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("after", [None, 1500])
def test_an_interrupt_is_not_about_the_inputs(client: Any, refused: Any, error: type, after: int | None) -> None:
    with pytest.raises(error):
        client.submit_batch(Broken(error(), after))


@pytest.mark.parametrize(
    ("input", "said"),
    [
        (7, ["input is a int", "str"]),
        (b"a", ["input is a bytes"]),
        (None, ["input is a NoneType"]),
        ({"role": "user", "content": "a"}, ["input is a dict", "list of messages"]),
        ([], ["input is an empty list"]),
        (["a"], ["input[0]"]),
        (LONE, ["input has a lone surrogate at character 5"]),
    ],
    ids=repr,
)
def test_a_single_input(client: Any, refused: Any, input: Any, said: list[str]) -> None:
    message = refused(client.get_response, input)
    for words in said:
        assert words in message


CONFIGS = [
    ({"temperature": NAN}, ["config.temperature is nan"]),
    ({"temperature": INFINITY}, ["config.temperature is inf", "finite"]),
    ({"temperature": -0.1}, ["config.temperature is -0.1"]),
    ({"temperature": "hot"}, ["config.temperature is 'hot'", "number"]),
    ({"temperature": True}, ["config.temperature is True"]),
    ({"temperature": 10**400}, ["config.temperature"]),
    ({"temperature": [1]}, ["config.temperature is [1]"]),
    ({"top_p": 1.5}, ["config.top_p is 1.5", "0 to 1"]),
    ({"top_p": NAN}, ["config.top_p is nan"]),
    ({"max_tokens": 0}, ["config.max_tokens is 0", "1 or more"]),
    ({"max_tokens": 10.0}, ["config.max_tokens is 10.0", "int"]),
    ({"max_tokens": NAN}, ["config.max_tokens is nan"]),
    ({"max_tokens": 2**70}, ["config.max_tokens"]),
    ({"max_tokens": True}, ["config.max_tokens is True"]),
    ({"seed": 2**63}, ["config.seed"]),
    ({"seed": "1"}, ["config.seed is '1'"]),
    ({"extra": [1]}, ["config.extra is a list", "dict"]),
    ({"extra": {"a": NAN}}, ['config.extra["a"] is NaN']),
    ({"extra": {"a": [1, {"b": -INFINITY}]}}, ['config.extra["a"][1]["b"] is -inf']),
    ({"extra": {"a": ...}}, ['config.extra["a"] is a ellipsis', "JSON"]),
    ({"extra": {"a": b"x"}}, ['config.extra["a"] is a bytes']),
    ({"extra": {"a": {1: 2}}}, ['config.extra["a"] has the key 1']),
    ({"extra": {"a": LONE}}, ['config.extra["a"] has a lone surrogate']),
    ({"extra": {LONE: 1}}, ["config.extra has a lone surrogate"]),
    ({"extra": {"system": 3}}, ['config.extra["system"] must be a str']),
    ({"extra": {"system": LONE}}, ['config.extra["system"] has a lone surrogate']),
    ({"extra": {"stop": ["a", 1]}}, ['config.extra["stop"][1] must be a str']),
    ({"extra": {"stop": ["a", ""]}}, ['config.extra["stop"][1] is an empty str']),
    ({"extra": {"model": "x"}}, ['config.extra["model"]', "overwrite"]),
    ({"extra": {"text": 3}}, ['config.extra["text"] must be a dict']),
    ({"temprature": 1}, ["config key", "'temprature'", "Did you mean 'temperature'?", 'config["extra"]']),
    ({"stop": ["a"]}, ["'stop'", 'config["extra"]']),
    ({LONE: 1}, ["config key"]),
    ({1: 1}, ["config key", "'1'"]),
    ([("temperature", 1)], ["config is a list"]),
    ("hot", ["config is a str"]),
    (7, ["config is a int"]),
]


@pytest.mark.parametrize(("config", "said"), CONFIGS, ids=[ascii(config)[:40] for config, _ in CONFIGS])
def test_configs(client: Any, refused: Any, config: Any, said: list[str]) -> None:
    for call in (lambda: client.get_response("a", config), lambda: client.submit_batch(["a"], config)):
        message = refused(call)
        for words in said:
            assert words in message


def test_a_config_that_contains_itself(client: Any, refused: Any) -> None:
    extra: dict[str, Any] = {}
    extra["again"] = extra
    assert "nested more than" in refused(client.submit_batch, ["a"], {"extra": extra})


def test_a_config_that_was_changed_later(client: Any, refused: Any) -> None:
    config = GenerationConfig(temperature=1)
    config.temperature = NAN
    assert "config.temperature is nan" in refused(client.submit_batch, ["a"], config)


@pytest.mark.parametrize("number", [Decimal("0.5"), Fraction(1, 2)])
def test_other_kinds_of_number(client: Any, number: Any) -> None:
    assert client.get_response("a", {"temperature": number}) == "a"


OPTIONS = [
    ({"custom_id": ["a"]}, ["'custom_id'", "Did you mean 'custom_ids'?"]),
    ({"completion_windw": "24h"}, ["Did you mean 'completion_window'?"]),
    ({LONE: 1}, ["batch option"]),
    ({"display_name": 7}, ['batch_options["display_name"] is a int']),
    ({"display_name": LONE}, ['batch_options["display_name"] has a lone surrogate']),
    ({"display_name": "x" * 513}, ['batch_options["display_name"]', "512"]),
    ({"completion_window": 24}, ['batch_options["completion_window"] is a int']),
    ({"completion_window": "12h"}, ["batch_options[\"completion_window\"] is '12h'", '"24h"']),
    ({"completion_window": LONE}, ['batch_options["completion_window"] is']),
    ({"system": ["S"]}, ['batch_options["system"] is a list']),
    ({"system": LONE}, ['batch_options["system"] has a lone surrogate']),
    ({"custom_ids": "ab"}, ['batch_options["custom_ids"] is a str']),
    ({"custom_ids": 7}, ['batch_options["custom_ids"] is a int']),
    ({"custom_ids": {"a": 1, "b": 2}}, ['batch_options["custom_ids"] is a dict']),
    ({"custom_ids": {"a"}}, ['batch_options["custom_ids"] is a set']),
    ({"custom_ids": ["a", 7]}, ['batch_options["custom_ids"][1] is a int']),
    ({"custom_ids": ["a", ""]}, ['batch_options["custom_ids"][1] is empty']),
    ({"custom_ids": ["a", "  "]}, ['batch_options["custom_ids"][1] is empty']),
    ({"custom_ids": ["a", "a"]}, ["batch_options[\"custom_ids\"][1] is 'a'", "custom_ids[0]", "distinct"]),
    ({"custom_ids": ["a", "llmb-000000"]}, ["batch_options[\"custom_ids\"][1] is 'llmb-000000'", "default id"]),
    ({"custom_ids": ["a", LONE]}, ['batch_options["custom_ids"][1] has a lone surrogate']),
    ({"custom_ids": ["a"]}, ["1 ids", "at least 2 inputs"]),
    ({"custom_ids": ["a", "b", "c"]}, ["3 ids", "2 inputs"]),
    ({"custom_ids": []}, ["0 ids"]),
    ([("system", "S")], ["batch_options is a list"]),
]


@pytest.mark.parametrize(("options", "said"), OPTIONS, ids=[ascii(options)[:40] for options, _ in OPTIONS])
def test_batch_options(client: Any, refused: Any, options: Any, said: list[str]) -> None:
    message = refused(client.submit_batch, ["a", "b"], batch_options=options)
    for words in said:
        assert words in message


def test_ids_without_inputs(client: Any, refused: Any) -> None:
    assert "1 ids for 0 inputs" in refused(client.submit_batch, [], batch_options={"custom_ids": ["a"]})


def test_one_bad_id_among_thousands(client: Any, refused: Any) -> None:
    ids = [f"id-{n}" for n in range(5000)]
    ids[4321] = "id-17"
    message = refused(client.submit_batch, ["a"] * 5000, batch_options={"custom_ids": ids})
    assert "custom_ids\"][4321] is 'id-17'" in message
    assert "custom_ids[17]" in message


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"conversations": [[{"role": "user", "content": "a"}]]}, ["1 conversations for at least 2 inputs"]),
        ({"conversations": [[{"role": "user", "content": "a"}]] * 3}, ["3 conversations for 2 inputs"]),
        ({"conversations": "a"}, ['config.extra["conversations"] must be a list']),
        ({"conversations": [[], []]}, ['config.extra["conversations"][0] is an empty list']),
        ({"conversations": [[{"role": "user", "content": LONE}]] * 2}, ['["conversations"][0][0]["content"]']),
        ({"conversation": [{"role": "user", "content": "a"}]}, ["single call", '"conversations"']),
    ],
)
def test_conversations_of_a_batch(client: Any, refused: Any, extra: Any, said: list[str]) -> None:
    message = refused(client.submit_batch, ["a", "b"], {"extra": extra})
    for words in said:
        assert words in message


def test_conversations_of_a_single_call(client: Any, refused: Any) -> None:
    extra = {"conversations": [[{"role": "user", "content": "a"}]]}
    assert '"conversation"' in refused(client.get_response, "a", {"extra": extra})


def test_a_second_system_text(client: Any, refused: Any) -> None:
    turns = [[{"role": "system", "content": "S"}, {"role": "user", "content": "a"}]]
    assert "system" in refused(client.submit_batch, turns, batch_options={"system": "T"})
    both = {"extra": {"system": "S", "system_instruction": "T"}}
    assert "different texts" in refused(client.submit_batch, ["a"], both)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, ["neither schema nor pydantic_model"]),
        ({"schema": SCHEMA, "pydantic_model": Model}, ["both schema and pydantic_model"]),
        ({"schema": "text"}, ["schema is 'text'", "dict"]),
        ({"schema": Model}, ["schema is", "pydantic_model"]),
        ({"schema": SCHEMA, "name": 7}, ["name is 7"]),
        ({"schema": SCHEMA, "name": " "}, ["name is ' '"]),
        ({"schema": SCHEMA, "name": LONE}, ["name has a lone surrogate"]),
        ({"schema": SCHEMA, "strict": "yes"}, ["strict is 'yes'"]),
        ({"schema": SCHEMA, "parser": 7}, ["parser is 7"]),
        ({"schema": {"type": "object", "minProperties": NAN}}, ['schema["minProperties"] is NaN']),
        ({"schema": {"type": "strnig"}}, ["schema at"]),
        ({"schema": {"$ref": "http://127.0.0.1:1/schema.json"}}, ["schema at"]),
        ({"pydantic_model": 7}, ["pydantic_model is 7"]),
        ({"pydantic_model": "NoSuchType"}, ["pydantic_model is"]),
    ],
)
def test_structured_outputs(refused: Any, arguments: Any, said: list[str]) -> None:
    message = refused(StructuredOutput, **arguments)
    for words in said:
        assert words in message


def test_a_schema_that_is_none(client: Any, refused: Any) -> None:
    for schema in (7, "text", [SCHEMA]):
        for call in (client.get_response, client.fetch_batch_results):
            assert "give a StructuredOutput" in refused(call, "a", schema=schema)
        assert "give a StructuredOutput" in refused(client.submit_batch, ["a"], schema=schema)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("opnai", "m", {}), ["'opnai'", "Did you mean 'openai'?"]),
        (("", "m", {}), ["provider"]),
        ((7, "m", {}), ["provider is a int"]),
        ((LONE, "m", {}), ["unknown provider", "Known: openai"]),
        (("openai", "", {}), ["model is empty"]),
        (("openai", None, {}), ["model is a NoneType"]),
        (("openai", LONE, {}), ["model has a lone surrogate"]),
        (("openai", "m", {"api_kye": "k"}), ["'api_kye'", "Did you mean 'api_key'?"]),
        (("openai", "m", {"api_key": 7}), ["api_key must be a str"]),
        (("openai", "m", {"api_key": "k", "base_url": "host/v1"}), ["base_url"]),
        (("openai", "m", {"api_key": "k", "timeout": 0}), ["timeout must be a positive"]),
        (("openai", "m", {"api_key": "k", "timeout": NAN}), ["timeout", "NaN"]),
        (("openai", "m", {"api_key": "k", "timeout": "1"}), ["timeout must be a positive"]),
        (("openai", "m", {"api_key": "k", "max_retries": -1}), ["max_retries must be"]),
        (("openai", "m", {"api_key": "k", "max_retries": 1.5}), ["max_retries must be"]),
        (("openai", "m", {"api_key": "k", "headers": {"a": 1}}), ["headers must be"]),
        (("openai", "m", {"api_key": "k", "headers": [("a", "b")]}), ["headers must be"]),
        (("openai", "m", {}), ["OPENAI_API_KEY", "api_key"]),
    ],
)
def test_clients(refused: Any, arguments: Any, said: list[str]) -> None:
    provider, model, options = arguments
    message = refused(llmbackend.client, provider, model, **options)
    for words in said:
        assert words in message


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"a": "b\nc"}, {"": "c"}])
def test_headers_that_http_does_not_allow(box: Any, refused: Any, headers: dict[str, str]) -> None:
    def make() -> None:
        client = llmbackend.client("openai", "m", **box.options("openai"), headers=headers)
        client.get_response("a")

    assert "header" in refused(make)


@pytest.mark.parametrize(
    ("batch_id", "said"), [("", "empty"), (" ", "empty"), (7, "int"), (None, "NoneType"), (LONE, "lone")]
)
def test_batch_ids(client: Any, refused: Any, batch_id: Any, said: str) -> None:
    for call in (client.get_batch, client.get_batch_status, client.fetch_batch_results):
        message = refused(call, batch_id)
        assert "batch_id" in message
        assert said in message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"poll_interval": -1}, "poll_interval is -1"),
        ({"poll_interval": NAN}, "poll_interval is nan"),
        ({"poll_interval": "5"}, "poll_interval is '5'"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": NAN}, "timeout is nan"),
        ({"timeout": "5"}, "timeout is '5'"),
        ({"timeout": True}, "timeout is True"),
        ({"callback": 7}, "callback is 7"),
    ],
)
def test_waits(client: Any, refused: Any, arguments: Any, said: str) -> None:
    batch = client.get_batch("batch_any")
    assert said in refused(batch.wait, **arguments)
    assert said in refused(client.submit_batch([]).wait, **arguments)


def test_arguments_are_keyword_only_where_we_added_them(client: Any) -> None:
    with pytest.raises(TypeError):
        client.fetch_batch_results("batch_a", None, True)
    with pytest.raises(TypeError):
        client.get_batch("batch_a").wait(1, 1, None, True)
