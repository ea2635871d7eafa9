"""Settings and configs: from what the caller writes to what is on the wire, and every mistake found before that."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy
import pytest
from recorder import Recorder, Reply, answer
from support import OWN_ENV, run_python

import llmbackend
from llmbackend import ConfigurationError, GenerationConfig, UnsupportedParameterWarning


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    for name in [name for name in os.environ if name.startswith("OPENAI_")]:
        monkeypatch.delenv(name)
    with Recorder() as recorder:
        yield recorder


def sent(
    recorder: Recorder, config: Any = None, input: Any = "x", schema: Any = None, **options: Any
) -> dict[str, Any]:
    """The body that is sent to a server that is not OpenAI, less what is always there."""
    client = llmbackend.Client("openai", "m", **{"api_key": "k", "base_url": recorder.url, **options})
    client.get_response(input, config, schema)
    body: dict[str, Any] = recorder.requests[-1].json
    assert (body.pop("model"), body.pop("stream")) == ("m", False)
    return {key: value for key, value in body.items() if (key, value) != ("input", "x")}


FIELDS: list[tuple[Any, dict[str, Any]]] = [
    (None, {}),
    ({}, {}),
    ({"extra": None}, {}),
    ({"temperature": None, "top_p": None, "max_tokens": None, "seed": None, "extra": {}}, {}),
    ({"temperature": 0}, {"temperature": 0}),
    ({"temperature": 0.0, "top_p": 0.0}, {"temperature": 0.0, "top_p": 0.0}),
    ({"temperature": 2, "top_p": 1}, {"temperature": 2, "top_p": 1}),
    ({"max_tokens": 1}, {"max_output_tokens": 1}),
    ({"seed": 0}, {"seed": 0}),
    ({"seed": -(2**63)}, {"seed": -(2**63)}),
    ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}),
    ({"temperature": numpy.float64(0.5), "top_p": numpy.float32(0.5)}, {"temperature": 0.5, "top_p": 0.5}),
    ({"temperature": Decimal("0.7"), "max_tokens": numpy.int64(20)}, {"temperature": 0.7, "max_output_tokens": 20}),
    ({"seed": numpy.uint8(7)}, {"seed": 7}),
    ({"extra": {"system": "s"}}, {"instructions": "s"}),
    ({"extra": {"system_instruction": "s"}}, {"instructions": "s"}),
    ({"extra": {"system": "s", "system_instruction": "s"}}, {"instructions": "s"}),
    ({"extra": {"instructions": "s"}}, {"instructions": "s"}),
    ({"extra": {"system": ""}}, {}),
    ({"extra": {"system": None, "stop": None}}, {}),
    ({"extra": {"stop": "a"}}, {"stop": ["a"]}),
    ({"extra": {"stop": ["a", "b"]}}, {"stop": ["a", "b"]}),
    ({"extra": {"stop": ("a",)}}, {"stop": ["a"]}),
    ({"extra": {"stop": []}}, {}),
    (
        {"extra": {"store": False, "metadata": {"a": "b"}, "top_k": 0}},
        {"store": False, "metadata": {"a": "b"}, "top_k": 0},
    ),
    ({"extra": {"text": {"verbosity": "low"}}}, {"text": {"verbosity": "low"}}),
    ({"extra": {"text": None}}, {}),
    ({"extra": {"background": False}}, {"background": False}),
    ({"extra": {"conversation": "conv_1"}}, {"conversation": "conv_1"}),
    ({"extra": {"conversation": {"id": "conv_1"}}}, {"conversation": {"id": "conv_1"}}),
    ({"extra": {"deep": [[{"a": (1, 2.5, None, True)}]]}}, {"deep": [[{"a": [1, 2.5, None, True]}]]}),
    ({"extra": {"count": numpy.int32(3)}}, {"count": 3}),
    ({"extra": {"a": numpy.float32(0.5), "b": [Decimal("0.7")]}}, {"a": 0.5, "b": [0.7]}),
    ({"extra": {"a": numpy.bool_(True), "b": numpy.float64(2)}}, {"a": True, "b": 2.0}),
    ({"extra": {"conversation": None}}, {"conversation": None}),
]


@pytest.mark.parametrize(("config", "body"), FIELDS, ids=range(len(FIELDS)))
def test_a_config_on_the_wire(recorder: Recorder, config: Any, body: dict[str, Any]) -> None:
    found = sent(recorder, config)
    assert found == body
    assert [type(value) for value in found.values()] == [type(value) for value in body.values()]
    if config is not None:
        assert sent(recorder, GenerationConfig(**config)) == body


MISTAKES: list[tuple[Any, str]] = [
    ("x", "config is a str"),
    ([("temperature", 1)], "config is a list"),
    ({"temprature": 1}, "Did you mean 'temperature'"),
    ({"system": "s"}, 'it belongs into config["extra"]["system"]'),
    ({"stop": ["s"]}, 'it belongs into config["extra"]["stop"]'),
    ({"conversation": []}, 'it belongs into config["extra"]["conversation"]'),
    ({"temperature": "hot"}, "config.temperature"),
    ({"temperature": True}, "config.temperature"),
    ({"temperature": -0.1}, "config.temperature"),
    ({"temperature": float("nan")}, "config.temperature"),
    ({"temperature": float("inf")}, "config.temperature"),
    ({"top_p": 1.1}, "config.top_p"),
    ({"max_tokens": 0}, "config.max_tokens"),
    ({"max_tokens": 1.5}, "config.max_tokens"),
    ({"max_tokens": True}, "config.max_tokens"),
    ({"seed": "1"}, "config.seed"),
    ({"seed": 2**64}, "config.seed"),
    ({"extra": []}, "config.extra is a list"),
    ({"extra": {1: 2}}, "which is no str"),
    ({"extra": {"a": {"b": float("nan")}}}, 'config.extra["a"]["b"]'),
    ({"extra": {"a": [1, {2}]}}, 'config.extra["a"][1]'),
    ({"extra": {"a": "\ud800"}}, "lone surrogate"),
    ({"extra": {"a": b"x"}}, "bytes"),
    ({"extra": {"a": numpy.array([0.5])}}, "is a ndarray"),
    ({"extra": {"a": Decimal("NaN")}}, "JSON cannot hold"),
    ({"extra": {"a": 1j}}, "is a complex"),
    ({"extra": {"conversation": 3}}, 'config.extra["conversation"] must be a list'),
    ({"extra": {"conversation": {"name": "conv_1"}}}, "OpenAI's own id of a conversation"),
    ({"extra": {"a": 10**5000}}, "more digits"),
    ({"extra": {"model": "m"}}, "model"),
    ({"extra": {"input": "m"}}, "input"),
    ({"extra": {"stream": True}}, "stream"),
    ({"extra": {"background": True}}, "background"),
    ({"extra": {"system": 3}}, "system"),
    ({"extra": {"system": "a", "system_instruction": "b"}}, "different texts"),
    ({"extra": {"system": "a", "instructions": "b"}}, "instructions"),
    ({"extra": {"stop": 3}}, "stop"),
    ({"extra": {"stop": [""]}}, "empty"),
    ({"extra": {"stop": ["a", 1]}}, 'stop"][1]'),
    ({"extra": {"text": "low"}}, "must be a dict"),
    ({"extra": {"conversation": []}}, "empty list"),
    ({"extra": {"conversation": [{"role": "user"}]}}, "content"),
    ({"extra": {"conversations": [[{"role": "user", "content": "x"}]]}}, "batch"),
]


@pytest.mark.parametrize(("config", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_a_mistake_is_found_before_anything_is_sent(recorder: Recorder, config: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sent(recorder, config)
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert recorder.requests == []


def test_a_cycle_and_changed_attributes(recorder: Recorder) -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(ConfigurationError, match="contains itself"):
        sent(recorder, {"extra": loop})
    config = GenerationConfig(temperature=1)
    config.temperature = -1
    with pytest.raises(ConfigurationError, match="temperature"):
        sent(recorder, config)
    config.temperature = 0.5
    assert sent(recorder, config) == {"temperature": 0.5}


def test_the_callers_objects_stay_as_they_are(recorder: Recorder) -> None:
    extra = {
        "stop": ["a"],
        "system": "s",
        "text": {"verbosity": "low"},
        "conversation": [{"role": "user", "content": "x"}],
    }
    config = {"extra": extra}
    before = repr(config)
    sent(recorder, config)
    assert repr(config) == before


def test_text_options_stand_beside_the_schema(recorder: Recorder) -> None:
    recorder.replies = [Reply(answer("{}"))]
    body = sent(recorder, {"extra": {"text": {"verbosity": "low"}}}, schema={"type": "object"})
    assert body["text"]["verbosity"] == "low"
    assert body["text"]["format"]["type"] == "json_schema"
    with pytest.raises(ConfigurationError, match="format"):
        sent(recorder, {"extra": {"text": {"format": {"type": "text"}}}}, schema={"type": "object"})


# --- Conversations ---

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
SYSTEM = [{"role": "system", "content": "s"}, *TURNS]


def test_conversations(recorder: Recorder) -> None:
    assert sent(recorder, input=TURNS) == {"input": TURNS}
    assert sent(recorder, input=tuple(TURNS)) == {"input": TURNS}
    assert sent(recorder, {"extra": {"conversation": TURNS}}) == {"input": TURNS}
    assert sent(recorder, {"extra": {"system": "s"}}, TURNS) == {"input": TURNS, "instructions": "s"}
    assert sent(recorder, input=SYSTEM) == {"input": SYSTEM}
    assert sent(recorder, {"extra": {"system": "s"}}, SYSTEM) == {"input": SYSTEM}
    count = len(recorder.requests)
    with pytest.raises(ConfigurationError, match="system turn"):
        sent(recorder, {"extra": {"system": "other"}}, SYSTEM)
    for wrong in ([], ["a"], [{"role": "user"}], [{"content": "x"}], [{"role": 1, "content": "x"}], {}, b"x", None, 3):
        with pytest.raises(ConfigurationError, match="input"):
            sent(recorder, input=wrong)
    with pytest.raises(ConfigurationError, match="lone surrogate at character 1"):
        sent(recorder, input="x\ud800")
    assert len(recorder.requests) == count


# --- What OpenAI itself does not have ---


@pytest.mark.parametrize(
    ("config", "body", "words"),
    [
        ({"seed": 0}, {}, "no seed"),
        ({"max_tokens": 1}, {"max_output_tokens": 16}, "sent as 16"),
        ({"max_tokens": 15}, {"max_output_tokens": 16}, "sent as 16"),
        ({"max_tokens": 16}, {"max_output_tokens": 16}, None),
        ({"extra": {"stop": ["ok"]}}, {}, None),
    ],
)
def test_openai_itself(recorder: Recorder, config: Any, body: dict[str, Any], words: str | None) -> None:
    client = llmbackend.Client("openai", "m", api_key="k", base_url=recorder.openai_url)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            client.get_response("x", config)
    assert [str(warning.message) for warning in caught if words and words not in str(warning.message)] == []
    assert len(caught) == (words is not None)
    for warning in caught:
        assert warning.category is UnsupportedParameterWarning
        assert warning.filename == __file__
    for request in recorder.requests:
        assert request.json == {"model": "m", "input": "x", "stream": False, **body}


def test_the_warning_points_at_the_caller_of_every_verb(recorder: Recorder) -> None:
    options = {"api_key": "k", "base_url": recorder.openai_url}
    verbs = [
        lambda: llmbackend.get_response("openai", "m", "x", {"seed": 1}, **options),
        lambda: llmbackend.Client("openai", "m", **options).generate("x", {"seed": 1}),
        lambda: llmbackend.client("openai", "m", **options).get_response("x", {"seed": 1}),
    ]
    for verb in verbs:
        with pytest.warns(UnsupportedParameterWarning) as caught:
            verb()
        assert [(warning.filename, len(caught)) for warning in caught] == [(__file__, 1)]


def test_stop_and_a_schema(recorder: Recorder) -> None:
    recorder.replies = [Reply(answer('{"a": "ok"}'))]
    client = llmbackend.Client("openai", "m", api_key="k", base_url=recorder.openai_url)
    with pytest.warns(UnsupportedParameterWarning, match="stop"):
        assert client.get_response("x", {"extra": {"stop": "ok"}}, {"type": "object"}) == {"a": "ok"}


# --- Settings ---


def head(recorder: Recorder, **options: Any) -> dict[str, str]:
    llmbackend.Client("openai", "m", **options).get_response("x")
    return recorder.requests[-1].headers


def test_the_environment(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"  {recorder.url}//  ")
    monkeypatch.setenv("OPENAI_API_KEY", " sk-env\n")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-env")
    monkeypatch.setenv("OPENAI_PROJECT_ID", " ")
    found = head(recorder)
    assert recorder.requests[-1].path == "/v1/responses"
    assert (found["authorization"], found["openai-organization"]) == ("Bearer sk-env", "org-env")
    assert "openai-project" not in found
    found = head(recorder, api_key="sk-own", organization="org-own", project="p", base_url=recorder.root)
    assert recorder.requests[-1].path == "/responses"
    assert (found["authorization"], found["openai-organization"]) == ("Bearer sk-own", "org-own")
    assert found["openai-project"] == "p"
    for blank in (None, "", "  "):
        assert head(recorder, api_key=blank, organization=blank)["authorization"] == "Bearer sk-env"


def test_the_environment_is_read_when_the_client_is_made(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-first")
    monkeypatch.setenv("OPENAI_BASE_URL", recorder.url)
    client = llmbackend.Client("openai", "m")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-second")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    client.get_response("x")
    assert recorder.requests[-1].headers["authorization"] == "Bearer sk-first"


def test_a_blank_base_url_is_openai(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "  ")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        llmbackend.Client("openai", "m")
    monkeypatch.setenv("OPENAI_API_KEY", " \n")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        llmbackend.Client("openai", "m", base_url="")


def test_a_server_of_ones_own_needs_no_key(recorder: Recorder) -> None:
    assert "authorization" not in head(recorder, base_url=recorder.url)


def test_headers_of_ones_own_win(recorder: Recorder) -> None:
    headers = {"Authorization": "Basic abc", "X-Tenant": "7", "User-Agent": "mine", "OpenAI-Organization": "o"}
    found = head(recorder, base_url=recorder.url, api_key="k", organization="other", headers=headers)
    assert (found["authorization"], found["x-tenant"], found["user-agent"]) == ("Basic abc", "7", "mine")
    assert found["openai-organization"] == "o"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"api_kye": "k"}, "Did you mean 'api_key'"),
    ({"organisation": "k"}, "Did you mean 'organization'"),
    ({"api_key": 3}, "api_key must be a str"),
    ({"api_key": "se cret"}, "blank"),
    ({"api_key": "sk-ü"}, "ASCII"),
    ({"base_url": "api.openai.com/v1"}, "base_url"),
    ({"base_url": "ftp://h/v1"}, "http"),
    ({"base_url": "http://h/v1?api-version=1#"}, "fragment"),
    ({"base_url": "http:///v1"}, "name a host"),
    ({"base_url": "http:/v1"}, "name a host"),
    ({"base_url": "http://:80"}, "is not a URL"),
    ({"base_url": "http://?x"}, "is not a URL"),
    ({"base_url": "http://."}, "name a host"),
    ({"base_url": "https://a..b/v1"}, "name a host"),
    ({"base_url": "http://h/v1\r\nx-evil: 1"}, "line break, a tab"),
    ({"base_url": "http://h/v1\n"}, "line break, a tab"),
    ({"base_url": "http://h\t/v1"}, "line break, a tab"),
    ({"base_url": "http://h/v1?a=\x00"}, "line break, a tab"),
    ({"base_url": "http://h/v1\u2028x"}, "U+2028"),
    ({"base_url": "http://h/a b"}, "U+0020"),
    ({"api_key": "Bearer se cret"}, "begins with 'Bearer'"),
    ({"api_key": '"se cret'}, "quotation mark at one end"),
    ({"api_key": "\u201cse cret"}, "quotation mark at one end"),
    ({"api_key": "se cret\nse cret"}, "blank"),
    ({"api_key": "se\u00a0cret"}, "ASCII"),
    ({"base_url": "http://h/v1#x"}, "fragment"),
    ({"base_url": "http://u:p@h/v1"}, "user name"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": "1"}, "timeout"),
    ({"timeout": float("inf")}, "timeout is inf; give a number of seconds"),
    ({"max_retries": -1}, "max_retries"),
    ({"max_retries": 1.5}, "max_retries"),
    ({"max_retries": True}, "max_retries"),
    ({"headers": []}, "headers"),
    ({"headers": {"a": 1}}, "headers"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_option_is_named(recorder: Recorder, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        llmbackend.Client("openai", "m", **{"api_key": "k", **options})
    assert words in str(caught.value)
    assert "se cret" not in str(caught.value)


@pytest.mark.parametrize("headers", [{"a b": "x"}, {"X-Key": "two\nlines"}, {"": "x"}])
def test_an_illegal_header_is_found_before_anything_is_sent(recorder: Recorder, headers: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="header"):
        head(recorder, base_url=recorder.url, headers=headers)
    assert recorder.requests == []


@pytest.mark.parametrize(("provider", "model", "words"), [
    ("opnai", "m", "Did you mean 'openai'"), (3, "m", "provider is a int"), ("openai", None, "model is a NoneType"), ("openai", " ", "model is empty"),
])  # fmt: skip
def test_a_wrong_provider_or_model(provider: Any, model: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        llmbackend.Client(provider, model, api_key="k")


def test_configs_compare_and_show_themselves() -> None:
    assert GenerationConfig(temperature=0) == GenerationConfig(temperature=0)
    assert GenerationConfig(temperature=0) != GenerationConfig()
    assert repr(GenerationConfig(temperature=0, extra={"a": 1})) == "GenerationConfig(temperature=0, extra={'a': 1})"


@pytest.mark.parametrize(
    ("provider", "key"), [("openai", "temperature"), ("anthropic", "temperature"), ("gemini", "topP")]
)
def test_extra_does_not_overwrite_the_config(provider: str, key: str) -> None:
    with llmbackend.sandbox() as box:
        client = llmbackend.client(provider, "m", **box.options(provider))
        with pytest.raises(llmbackend.ConfigurationError, match=key):
            client.get_response("a", {"temperature": 0.5, "top_p": 0.5, "extra": {key: 0.1}})
        assert box.requests() == []


FRAMING = [
    *("content-length", "Transfer-Encoding", "CONNECTION", "te", "Trailer", "upgrade", "Keep-Alive", "expect", "range"),
    *("Proxy-Authorization", "proxy-connection", "Proxy-Anything", "content-encoding", "Accept-Encoding"),
    *("Content-Type", "content-range", "if-range", "HTTP2-Settings", " content-length", "Content-Length \t"),
]


@pytest.mark.parametrize("name", FRAMING)
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_a_header_that_frames_a_message_is_refused_by_name(recorder: Recorder, provider: str, name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        llmbackend.Client(provider, "m", api_key="k", base_url=recorder.root, headers={"x-a": "b", name: "5"})
    assert f"the header '{name.strip()}' frames the message, which is the client's to do" in str(caught.value)
    assert recorder.requests == []


def test_headers_that_only_look_like_framing_are_sent(recorder: Recorder) -> None:
    headers = {"x-content-length": "5", "Host": "virtual.example", "accept": "application/json; q=1", "x-te": "a"}
    found = head(recorder, base_url=recorder.url, headers=headers)
    assert {name.lower(): value for name, value in headers.items()}.items() <= found.items()


@pytest.mark.parametrize(
    "quoted", ['"{}"', "'{}'", "`{}`", "\u201c{}\u201d", "\u2018{}\u2019", ' "{}" \n', "\ufeff{}", "\u00a0{}\r\n"]
)
def test_a_key_is_taken_out_of_its_quotation_marks(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, quoted: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", quoted.format("sk-env"))
    monkeypatch.setenv("OPENAI_BASE_URL", quoted.format(recorder.url))
    assert head(recorder)["authorization"] == "Bearer sk-env"
    assert head(recorder, api_key=quoted.format("sk-own"))["authorization"] == "Bearer sk-own"


@pytest.mark.parametrize(
    "key", ['"sk-secret', "sk-secret\u201d", "Bearer sk-secret", "'bearer sk-secret'", "sk-\nsecret"]
)
def test_a_broken_key_of_the_environment_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(
        ConfigurationError, match="the key in the option api_key or in the environment's OPENAI_API_KEY"
    ) as caught:
        llmbackend.Client("openai", "m")
    assert "secret" not in str(caught.value)


def test_a_variable_of_other_bytes_is_no_key_that_is_missing() -> None:
    code = "import llmbackend\ntry:\n    llmbackend.client('openai', 'm')\nexcept llmbackend.ConfigurationError as e:\n    print(e)"
    environment = {**OWN_ENV, "OPENAI_API_KEY": b"sk-\xff"}
    assert "not printable ASCII" in run_python(code, env=environment)
