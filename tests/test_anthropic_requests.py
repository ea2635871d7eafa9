"""What goes out on Anthropic's wire, against what two generations of the official SDK were recorded to send. Every row is
compared or listed."""

# ruff: noqa: E501 (tables)

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.messages.batch_create_params import BatchCreateParams
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from recorder import Recorder, Reply
from typing_extensions import is_typeddict

import llmbackend

FIXTURES = Path(__file__).parent / "fixtures" / "anthropic"
ROWS = [json.loads(line) for line in (FIXTURES / "anthropic_requests.jsonl").read_text().split("\n") if line]

# The calls that our API has no verb for: they cannot be compared.
NO_VERB = {
    "messages.create stream=True": "streaming is a later issue",
    "messages.stream helper": "streaming is a later issue",
    "messages.count_tokens": "tokens are not counted",
    "count_tokens with output_config + tools": "tokens are not counted",
    "batches.list default (auto-paging)": "jobs are not listed: one in the list cannot be told from another",
    "batches.list limit+after": "jobs are not listed",
    "batches.list before_id": "jobs are not listed",
    "batches.delete": "nothing is deleted",
    "models.list": "models are not listed",
    "models.list limit": "models are not listed",
    "models.retrieve": "models are not listed",
    "timeout tuple/httpx default on GET": "models are not listed",
    "messages.create system blocks + cache_control": "a system prompt is a str on every provider",
}

# Where we send something else than the SDK, or send where it does not: (what we do, why).
DIFFERENCES = {
    "beta.messages.create betas": "?beta=true of the older SDK is not needed",
    "beta.messages.parse": "neither ?beta=true nor a beta header is needed for structured outputs",
    "batches.results": "accept says JSON, as everywhere",
    "messages.create temperature+top_p+top_k": "only the older version of the API takes sampling parameters: with the newer one it is our error",
    "messages.parse Person constraints": "hints are written as JSON, not as Python",
    "messages.parse recursive Node": "the API refuses recursion: a SchemaError",
    "messages.parse list[int]": "a root that is no object is wrapped into one",
    "auth: none": "at another server than Anthropic's no credential is sent; at Anthropic's it is our error",
    "auth: empty api_key arg": "counts as none",
    "base_url with /v1 suffix (wrong)": "/v1 is not doubled",
    "env empty ANTHROPIC_BASE_URL": "counts as none: Anthropic's own address",
    "env ANTHROPIC_CUSTOM_HEADERS": "not read: the option headers is there for that",
    "max_tokens 21334 non-stream": "sent: our timeout is a silence, not ten minutes in all",
    "max_tokens 8193 on claude-opus-4-20250514": "sent: no table of models",
}

TEXT = {"type": "message", "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn"}
MODEL = "claude-sonnet-4-6"
HELLO = "Hello, Claude"
SAMPLING = {"temperature", "top_p", "top_k"}
VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL")


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with Recorder(Reply(TEXT)) as recorder:
        yield recorder


def rows(call: str) -> list[dict[str, Any]]:
    found = [row for row in ROWS if row["call"] == call]
    assert found, call
    return found


def client(recorder: Recorder, model: str = MODEL, **options: Any) -> llmbackend.Client:
    return llmbackend.Client("anthropic", model, **{"api_key": "sk-ant-test", "base_url": recorder.root, **options})


def compare_head(recorder: Recorder, expected: dict[str, Any], at: int = -1) -> None:
    """Method, path and the headers that matter; a key goes into x-api-key, whatever the SDK of the row does with it."""
    sent = recorder.requests[at]
    assert (sent.method, sent.path) == (expected["method"], expected["path"].removesuffix("?beta=true"))
    theirs = {name: value for name, value in expected["headers"].items() if not name.startswith("x-stainless")}
    credential = theirs.pop("x-api-key", None) or theirs.pop("authorization")
    secret = credential.removeprefix("Bearer ")
    is_token = (
        "auth_token" in expected["call"] or "TOKEN" in expected["call"] or "token" in expected["call"].split()[1:]
    )
    is_token = is_token and "key and token" not in expected["call"]
    assert sent.headers.get("x-api-key") == (None if is_token else secret)
    assert sent.headers.get("authorization") == (f"Bearer {secret}" if is_token else None)
    assert sent.headers["accept"] == "application/json"
    assert sent.headers["user-agent"] == f"llmbackend/{llmbackend.__version__}"
    assert sent.headers["anthropic-version"] == theirs["anthropic-version"]
    if expected["call"] != "beta.messages.parse":
        assert sent.headers.get("anthropic-beta") == theirs.get("anthropic-beta")
    assert ("content-length" in sent.headers) == (sent.method == "POST")
    assert ("content-type" in sent.headers) == bool(sent.body)
    known = {"host", "accept", "user-agent", "accept-encoding", "content-length", "content-type", "anthropic-version"}
    assert set(sent.headers) <= known | {"x-api-key", "authorization", "anthropic-beta"}


def version_of(row: dict[str, Any]) -> dict[str, str]:
    """The option for the version of the API that the row was recorded with; with sampling parameters, the default."""
    return {} if SAMPLING & set(row["body"] or {}) else {"anthropic_version": row["headers"]["anthropic-version"]}


def _closed(kind: Any) -> TypeAdapter[Any]:
    """One of the SDK's own types of requests, which forbids unknown keys, all the way down."""
    for name, module in list(sys.modules.items()):
        if name.startswith("anthropic.types."):
            for member in vars(module).values():
                if is_typeddict(member):
                    member.__pydantic_config__ = {"extra": "forbid", "arbitrary_types_allowed": True}
    return TypeAdapter(kind)


MESSAGE = _closed(MessageCreateParamsNonStreaming)
BATCH = _closed(BatchCreateParams)


def read_all(value: Any) -> None:
    """The items of an iterable are checked one by one, as they are read."""
    if isinstance(value, dict):
        read_all(list(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        for item in value:
            read_all(item)


def fits_the_sdk(body: dict[str, Any], kind: TypeAdapter[Any] = MESSAGE) -> dict[str, Any]:
    # The newest SDK has no types for what only the older version of the API takes.
    read_all(kind.validate_python({key: value for key, value in body.items() if key not in SAMPLING}))
    return body


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": 1},
        {"messages": [{"role": "user", "content": "x", "colour": 1}]},
        {"output_config": {"format": {"type": "json_schema", "name": "x", "schema": {}}}},
        {"metadata": {"colour": 1}},
        {"tool_choice": {"type": "tool", "name": "x", "colour": 1}},
    ],
)
def test_the_judge_is_strict(wrong: dict[str, Any]) -> None:
    fine = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    fits_the_sdk(fine)
    with pytest.raises(ValidationError):
        fits_the_sdk({**fine, **wrong})
    with pytest.raises(ValidationError):
        fits_the_sdk({"requests": [{"custom_id": "a", "params": {**fine, **wrong}}]}, BATCH)


def test_every_row_is_compared_or_listed() -> None:
    assert len(ROWS) == 88
    calls = {row["call"] for row in ROWS}
    compared = {call for call, _ in CALLS} | set(ELSEWHERE)
    assert calls - compared - set(NO_VERB) == set()
    assert compared & set(NO_VERB) == set()
    assert (set(DIFFERENCES) | set(NO_VERB) | compared) - calls == set()
    assert set(DIFFERENCES) <= compared


# --- Single calls: (the SDK's call, ours) ---

SENTIMENT = {
    "type": "object",
    "properties": {
        "sentiment": {"type": "string", "enum": ["positive", "negative", "neutral"]},
        "confidence": {"type": "number"},
    },
    "required": ["sentiment", "confidence"],
    "additionalProperties": False,
}


class MovieReview(BaseModel):
    title: str
    rating: float
    summary: str


REVIEW = json.dumps({"title": "A", "rating": 1.0, "summary": "b"})


def config(max_tokens: int, **fields: Any) -> dict[str, Any]:
    extra = fields.pop("extra", {})
    return {"config": {"max_tokens": max_tokens, **fields, "extra": extra}}


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("messages.create minimal", config(1024)),
    ("messages.create system+stop+metadata",
     config(256, extra={"system": "Be concise.", "stop": ["\n\nHuman:", "END"], "metadata": {"user_id": "u-123"}})),
    ("messages.create top_p", config(256, top_p=0.9)),
    ("messages.create temperature+top_p+top_k", config(256, temperature=0.2, top_p=0.9, extra={"top_k": 40})),
    ("messages.create thinking enabled", config(4096, extra={"thinking": {"type": "enabled", "budget_tokens": 2048}})),
    ("messages.create thinking adaptive + effort", config(4096, extra={"thinking": {"type": "adaptive"}, "effort": "low"})),
    ("messages.create thinking disabled", config(4096, extra={"thinking": {"type": "disabled"}})),
    ("messages.create multi-turn blocks unicode",
     config(64) | {"input": [{"role": "user", "content": [{"type": "text", "text": "h\u00e9llo \u65e5\u672c \U0001f600 \u2028"}]},
                             {"role": "assistant", "content": "hi"}, {"role": "user", "content": "again"}]}),
    ("messages.create service_tier", config(64, extra={"service_tier": "standard_only"})),
    ("messages.create output_config.format",
     config(256, extra={"output_config": {"format": {"type": "json_schema", "schema": SENTIMENT}}})),
    ("messages.create strict tool",
     config(256, extra={"tools": [{"name": "respond", "input_schema": SENTIMENT, "strict": True}],
                        "tool_choice": {"type": "tool", "name": "respond"}})),
    ("beta.messages.create betas", config(64, extra={"betas": ["structured-outputs-2025-11-13", "context-1m-2025-08-07"]})),
    ("beta.messages.parse", config(64) | {"schema": MovieReview}),
    ("messages.parse + output_config.effort (merge)", config(256, extra={"effort": "low"}) | {"schema": MovieReview}),
    ("async messages.create", config(64)),
    ("version pinned by extra_headers", config(8, temperature=0.2)),
    ("max_tokens 21333 non-stream", config(21333)),
    ("max_tokens 64000 with explicit timeout", config(64000) | {"options": {"timeout": 3600}}),
    ("empty stop_sequences", config(8, extra={"stop_sequences": []})),
    ("auth: auth_token arg", config(8) | {"options": {"api_key": None, "auth_token": "tok"}}),
]  # fmt: skip


@pytest.mark.parametrize(("call", "ours"), CALLS, ids=[call for call, _ in CALLS])
def test_a_call(recorder: Recorder, call: str, ours: dict[str, Any]) -> None:
    for expected in rows(call):
        recorder.replies = [Reply({**TEXT, "content": [{"type": "text", "text": REVIEW}]})]
        asked = client(recorder, expected["body"]["model"], **version_of(expected), **ours.get("options", {}))
        asked.get_response(ours.get("input", HELLO), ours["config"], ours.get("schema"))
        if call == "messages.create temperature+top_p+top_k":
            expected["headers"]["anthropic-version"] = "2023-06-01"
        compare_head(recorder, expected)
        sent = fits_the_sdk(recorder.requests[-1].json)
        assert sent == expected["body"]
        if "output_config" in sent:  # the order of the keys is that of the properties
            schema = [body["output_config"].get("format", {}).get("schema", {}) for body in (sent, expected["body"])]
            assert json.dumps(schema[0].get("properties")) == json.dumps(schema[1].get("properties"))
        # Compact, UTF-8, nothing escaped that need not be.
        assert len(recorder.requests[-1].body) == int(expected["headers"]["content-length"])


# --- Schemas ---


class Addr(BaseModel):
    street: str = Field(description="street", min_length=1, max_length=50)
    zip: str = Field(pattern=r"^\d{5}$")


class Person(BaseModel):
    name: str
    age: int = Field(ge=0, le=150)
    email: str | None = None
    tags: list[str] = Field(default_factory=list, min_length=2, max_length=5)
    kind: Literal["a", "b"] = "a"
    addr: Addr
    ident: int | str
    const: Literal["x"]


class Node(BaseModel):
    v: int
    child: Node | None = None


def without_hints(node: Any) -> Any:
    """A schema without the hints in its descriptions, whose wording differs; the names of the properties in order."""
    if isinstance(node, list):
        return [without_hints(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: without_hints(value) for key, value in node.items() if key != "description"}
    return {key: [plain[key], list(plain[key])] if key == "properties" else plain[key] for key in sorted(plain)}


def test_a_schema_with_constraints(recorder: Recorder) -> None:
    for expected in rows("messages.parse Person constraints"):
        with pytest.raises(llmbackend.InvalidOutputError):  # the answer is "ok"
            client(recorder, **version_of(expected)).get_response(HELLO, {"max_tokens": 256}, Person)
        compare_head(recorder, expected)
        sent = fits_the_sdk(recorder.requests[-1].json)
        ours, theirs = (body["output_config"]["format"].pop("schema") for body in (sent, expected["body"]))
        assert sent == expected["body"]
        assert without_hints(ours) == without_hints(theirs)
        age = ours["properties"]["age"]["description"]
        assert "maximum" in age
        assert "150" in age


def test_a_recursive_schema(recorder: Recorder) -> None:
    assert len(rows("messages.parse recursive Node")) == 2
    with pytest.raises(llmbackend.SchemaError, match="Node"):
        client(recorder).get_response(HELLO, schema=Node)
    assert recorder.requests == []


def test_a_root_that_is_no_object(recorder: Recorder) -> None:
    for expected in rows("messages.parse list[int]"):
        recorder.replies = [Reply({**TEXT, "content": [{"type": "text", "text": '{"value": [1, 2]}'}]})]
        wanted = llmbackend.StructuredOutput(pydantic_model=list[int])
        asked = client(recorder, **version_of(expected))
        assert asked.get_response(HELLO, {"max_tokens": 256}, wanted) == [1, 2]
        compare_head(recorder, expected)
        schema = expected["body"]["output_config"]["format"]["schema"]
        wrapped = {
            "type": "object",
            "properties": {"value": schema},
            "required": ["value"],
            "additionalProperties": False,
        }
        expected["body"]["output_config"]["format"]["schema"] = wrapped
        assert fits_the_sdk(recorder.requests[-1].json) == expected["body"]


def test_the_forced_tool(recorder: Recorder) -> None:
    [expected] = rows("messages.create forced tool (fallback)")
    old = {"type": "error", "error": {"type": "x", "message": "output_config: Extra inputs are not permitted"}}
    answer = {"sentiment": "neutral", "confidence": 1}
    call = {"type": "tool_use", "id": "t", "name": "respond", "input": answer}
    recorder.replies = [Reply(old, status=400), Reply({**TEXT, "content": [call], "stop_reason": "tool_use"})]
    wanted = llmbackend.StructuredOutput(schema=SENTIMENT, name="respond")
    assert client(recorder).get_response(HELLO, {"max_tokens": 256}, wanted) == answer
    compare_head(recorder, expected)
    assert fits_the_sdk(recorder.requests[-1].json) == expected["body"]
    native = fits_the_sdk(recorder.requests[0].json)["output_config"]["format"]["schema"]
    assert list(native["properties"]) == ["sentiment", "confidence"]


# --- Credentials, addresses, versions ---

K, T = "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"
ENVIRONMENTS = [
    ("auth: env ANTHROPIC_API_KEY + ANTHROPIC_BASE_URL", {K: "k-env"}, {}),
    ("auth: env ANTHROPIC_AUTH_TOKEN", {T: "t-env"}, {}),
    ("auth: env both key and token", {K: "k-env", T: "t-env"}, {}),
    ("auth: env empty key + token", {K: "", T: "t-env"}, {}),
    ("base_url with trailing slash", {K: "env"}, {"api_key": "k", "base_url": "{root}/"}),
    ("base_url with path prefix", {}, {"api_key": "k", "base_url": "{root}/proxy/anthropic"}),
    ("base_url with /v1 suffix (wrong)", {}, {"api_key": "k", "base_url": "{root}/v1/"}),
]  # fmt: skip


@pytest.mark.parametrize(("call", "variables", "options"), ENVIRONMENTS, ids=[row[0] for row in ENVIRONMENTS])
def test_the_environment(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, call: str, variables: dict[str, str], options: dict[str, str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", recorder.root)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    options = {name: value.format(root=recorder.root) for name, value in options.items()}
    for expected in rows(call):
        if "error" in expected:  # the 404 of the recorder
            continue
        expected["path"] = expected["path"].replace("/v1/v1", "/v1")
        version = expected["headers"]["anthropic-version"]
        llmbackend.Client("anthropic", MODEL, anthropic_version=version, **options).get_response(
            HELLO, {"max_tokens": 8}
        )
        compare_head(recorder, expected)
        assert fits_the_sdk(recorder.requests[-1].json) == expected["body"]
    assert recorder.requests


@pytest.mark.parametrize("options", [{}, {"api_key": ""}, {"api_key": " "}])
def test_no_credential(recorder: Recorder, options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert all("error" in row for row in rows("auth: none") + rows("auth: empty api_key arg"))
    for address in (None, f"{recorder.root}/api.anthropic.com", ""):
        with pytest.raises(llmbackend.ConfigurationError, match="ANTHROPIC_API_KEY"):
            llmbackend.Client("anthropic", MODEL, base_url=address, **options)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "")
    with pytest.raises(llmbackend.ConfigurationError, match="ANTHROPIC_API_KEY"):
        llmbackend.Client("anthropic", MODEL, **options)
    # A server of one's own may want none.
    llmbackend.Client("anthropic", MODEL, base_url=recorder.root, **options).get_response("x")
    assert not {"x-api-key", "authorization"} & set(recorder.requests[-1].headers)


def test_an_explicit_credential_hides_the_environment(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(K, "k-env")
    monkeypatch.setenv(T, "t-env")
    client(recorder, api_key="k").get_response("x")
    client(recorder, api_key=None, auth_token="t").get_response("x")
    client(recorder, api_key=None, headers={"Authorization": "Bearer own"}).get_response("x")
    client(recorder, api_key=None, headers={"X-API-Key": "own"}).get_response("x")
    sent = [(r.headers.get("x-api-key"), r.headers.get("authorization")) for r in recorder.requests]
    assert sent == [("k", None), (None, "Bearer t"), (None, "Bearer own"), ("own", None)]
    with pytest.raises(llmbackend.ConfigurationError, match="api_key and auth_token"):
        client(recorder, api_key="k", auth_token="t")


def test_the_version(recorder: Recorder) -> None:
    hot = {"temperature": 0.2}
    client(recorder).get_response("x", hot)
    client(recorder, anthropic_version="2026-10-21").get_response("x")
    client(recorder, headers={"Anthropic-Version": "2026-10-21"}).get_response("x")
    assert [r.headers["anthropic-version"] for r in recorder.requests] == ["2023-06-01", "2026-10-21", "2026-10-21"]
    for options in ({"anthropic_version": "2026-10-21"}, {"headers": {"Anthropic-Version": "2026-10-21"}}):
        for wrong in (hot, {"top_p": 0.5}, {"extra": {"top_k": 3}}, {"extra": {"temperature": 0.2}}):
            with pytest.raises(llmbackend.ConfigurationError, match="2026-10-21 takes no temperature"):
                client(recorder, **options).get_response("x", wrong)
    assert len(recorder.requests) == 3


# --- What is refused, or changed, before anything is sent ---

MISTAKES: list[tuple[Any, dict[str, Any], str]] = [
    ("", {}, "input"),
    (" \n", {}, "blank"),
    ("x", {"temperature": 1.1}, "0 to 1"),
    ("x", {"temperature": float("nan")}, "temperature"),
    ("x", {"extra": {"temperature": 2}}, "0 to 1"),
    ("x", {"temperature": 1, "extra": {"temperature": 0}}, "temperature"),
    ("x", {"max_tokens": 5, "extra": {"max_tokens": 6}}, "max_tokens"),
    ("x", {"extra": {"x": float("nan")}}, "nan|NaN"),
    ("x", {"extra": {"system": "a", "system_instruction": "b"}}, "different"),
    ("x", {"extra": {"model": "b"}}, "overwrite"),
    ("x", {"extra": {"messages": []}}, "overwrite"),
    ("x", {"extra": {"stream": True}}, "overwrite"),
    ("x", {"extra": {"stop": "a", "stop_sequences": ["b"]}}, "stop_sequences"),
    ("x", {"extra": {"effort": "low", "output_config": {"effort": "high"}}}, "effort"),
    ("x", {"extra": {"output_config": "high"}}, "must be a dict"),
    ("x", {"extra": {"betas": [1]}}, "list of str"),
    ("x", {"extra": {"betas": ["a\r\nx: y"]}}, "a header cannot hold"),
    ("x", {"extra": {"stop": [""]}}, "empty"),
    ([{"role": "system", "content": "a"}, {"role": "user", "content": "x"}], {"extra": {"system": "b"}}, "another text"),
    ([{"role": "system", "content": "a"}], {}, "user turn"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "settings", "words"), MISTAKES)
def test_a_mistake_is_found_before_anything_is_sent(recorder: Recorder, given: Any, settings: Any, words: str) -> None:
    with pytest.raises(llmbackend.ConfigurationError, match=words):
        client(recorder).get_response(given, settings)
    assert recorder.requests == []


def test_two_formats(recorder: Recorder) -> None:
    extra = {"output_config": {"format": {"type": "json_schema", "schema": {}}}}
    with pytest.raises(llmbackend.ConfigurationError, match="give one"):
        client(recorder).get_response("x", {"extra": extra}, MovieReview)


def sent(recorder: Recorder, given: Any = "x", **settings: Any) -> dict[str, Any]:
    client(recorder).get_response(given, settings)
    return fits_the_sdk(recorder.requests[-1].json)


def test_what_is_sent_when_nothing_is_said(recorder: Recorder) -> None:
    plain = {"model": MODEL, "max_tokens": 8192, "messages": [{"role": "user", "content": "x"}]}
    assert sent(recorder) == plain
    nothing = {"system": None, "stop": None, "metadata": None, "effort": None, "betas": [], "top_k": None}
    assert sent(recorder, temperature=None, extra=nothing) == plain
    assert "anthropic-beta" not in recorder.requests[-1].headers
    assert sent(recorder, extra={"system": ""}) == plain
    assert sent(recorder, temperature=0, top_p=1) == {**plain, "temperature": 0, "top_p": 1}
    assert sent(recorder, extra={"max_tokens": 7}) == {**plain, "max_tokens": 7}


def test_effort_and_output_config_are_merged(recorder: Recorder) -> None:
    recorder.replies = [Reply({**TEXT, "content": [{"type": "text", "text": REVIEW}]})]
    client(recorder).get_response("x", {"extra": {"effort": "low", "output_config": {"effort": "low"}}}, MovieReview)
    assert list(fits_the_sdk(recorder.requests[-1].json)["output_config"]) == ["effort", "format"]


def test_system_turns_are_lifted_out(recorder: Recorder) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    for given, extra in (
        (turns, {}),
        (turns, {"system": "Be brief."}),
        (turns[1:], {"system": "Be brief."}),
        ("x", {"conversation": turns}),
    ):
        body = sent(recorder, given, extra=extra)
        assert (body["system"], body["messages"]) == ("Be brief.", turns[1:])


def test_blank_stop_strings_are_cut_here(recorder: Recorder) -> None:
    recorder.replies = [Reply({**TEXT, "content": [{"type": "text", "text": "one\n\ntwo"}]})]
    reply = client(recorder).generate("x", {"extra": {"stop": ["\n\n", "END"]}})
    assert reply.text == "one"
    assert recorder.requests[-1].json["stop_sequences"] == ["END"]
    assert client(recorder).get_response("x", {"extra": {"stop": "\n"}}) == "one"
    assert "stop_sequences" not in recorder.requests[-1].json
    with pytest.raises(llmbackend.ConfigurationError, match="stop"):
        client(recorder).submit_batch(["x"], {"extra": {"stop": "\n"}}, batch_options={"native": True})


def test_a_seed_is_warned_about_once(recorder: Recorder) -> None:
    asked = client(recorder)
    with pytest.warns(llmbackend.UnsupportedParameterWarning, match="seed"):
        asked.get_response("x", {"seed": 1})
    asked.get_response("x", {"seed": 2})  # a second warning would be an error here
    assert all("seed" not in fits_the_sdk(request.json) for request in recorder.requests)


def test_a_budget_for_which_the_sdk_would_stream(recorder: Recorder) -> None:
    for call, budget in (("max_tokens 21334 non-stream", 21334), ("max_tokens 8193 on claude-opus-4-20250514", 8193)):
        assert all("ValueError" in row["error"] for row in rows(call))
        assert sent(recorder, max_tokens=budget)["max_tokens"] == budget


def test_custom_headers_of_the_environment_are_not_read(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Custom: 1\nanthropic-version: 2026-10-21")
    sent(recorder)
    assert "x-custom" not in recorder.requests[-1].headers
    assert recorder.requests[-1].headers["anthropic-version"] == "2023-06-01"


# --- Message Batches ---

JOB = {
    "id": "msgbatch_01Test", "type": "message_batch", "processing_status": "in_progress",
    "request_counts": {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "created_at": "2026-11-22T10:00:00.100435Z", "expires_at": "2026-11-23T10:00:00.100435Z", "ended_at": None,
    "cancel_initiated_at": None, "archived_at": None, "results_url": None,
}  # fmt: skip
NATIVE = {"native": True}


def ended(**counts: int) -> dict[str, Any]:
    done = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0, **counts}
    url = "http://192.0.2.1:9/elsewhere"  # no credential goes there
    return {
        **JOB,
        "processing_status": "ended",
        "ended_at": "2026-11-22T10:31:07Z",
        "request_counts": done,
        "results_url": url,
    }


def succeeded(custom_id: str, text: str) -> dict[str, Any]:
    return {
        "custom_id": custom_id,
        "result": {"type": "succeeded", "message": {**TEXT, "content": [{"type": "text", "text": text}]}},
    }


def lines(*results: dict[str, Any]) -> Reply:
    return Reply("\n".join(json.dumps(result) for result in results), headers={"content-type": "application/x-jsonl"})


def test_a_batch(recorder: Recorder) -> None:
    for expected, got in zip(rows("batches.create"), rows("batches.results"), strict=True):
        recorder.requests.clear()
        recorder.replies = [Reply(JOB), Reply(JOB), Reply(ended(succeeded=1)), lines(succeeded("req-0", "hi"))]
        version = expected["headers"]["anthropic-version"]
        asked = client(recorder, anthropic_version=version)
        first, second = expected["body"]["requests"]
        batch = asked.submit_batch([HELLO], {"max_tokens": 64}, batch_options={**NATIVE, "custom_ids": ["req-0"]})
        assert batch.id == "msgbatch_01Test"
        assert batch.wait(poll_interval=0.01).results() == ["hi"]
        compare_head(recorder, expected, 0)
        assert fits_the_sdk(recorder.requests[0].json, BATCH) == {"requests": [first]}
        assert int(recorder.requests[0].headers["content-length"]) == len(recorder.requests[0].body)
        assert {request.path for request in recorder.requests[1:-1]} == {"/v1/messages/batches/msgbatch_01Test"}
        compare_head(recorder, got)
        # The second row of the recorded request has a system prompt and a schema of its own: a batch of ours has one for all.
        settings = {"max_tokens": 64, "extra": {"output_config": second["params"]["output_config"]}}
        recorder.replies = [Reply(JOB)]
        texts = [HELLO, second["params"]["messages"][0]["content"]]
        options = {**NATIVE, "custom_ids": ["req-0", "req-1"], "system": "S"}
        asked.submit_batch(texts, settings, batch_options=options)
        body = fits_the_sdk(recorder.requests[-1].json, BATCH)
        assert body["requests"][1] == second
        assert [request["custom_id"] for request in body["requests"]] == ["req-0", "req-1"]


def test_a_beta_of_a_batch(recorder: Recorder) -> None:
    [expected] = rows("beta.messages.batches.create betas")
    recorder.replies = [Reply(JOB)]
    asked = client(recorder, headers={"anthropic-beta": "output-300k-2026-03-24"}, anthropic_version="2026-10-21")
    asked.submit_batch([HELLO], {"max_tokens": 64}, batch_options={**NATIVE, "custom_ids": ["a"]})
    compare_head(recorder, expected)
    assert recorder.requests[-1].json == expected["body"]


def test_cancel(recorder: Recorder) -> None:
    for expected in rows("batches.cancel"):
        recorder.replies = [Reply(JOB), Reply({**JOB, "processing_status": "canceling"})]
        recorder.requests.clear()
        batch = client(recorder, **version_of(expected)).submit_batch(["x"], batch_options=NATIVE)
        batch.cancel()
        compare_head(recorder, expected)
        assert recorder.requests[-1].body == b""


def test_an_id_that_needs_escaping(recorder: Recorder) -> None:
    for expected in rows("batch id with slash"):
        recorder.replies = [Reply(JOB)]
        asked = client(recorder, **version_of(expected))
        assert asked.get_batch_status("a/b?c")["state"] == "in_progress"
        compare_head(recorder, expected)


# Rows that a test above compares by name.
ELSEWHERE = [
    "messages.parse Person constraints", "messages.parse recursive Node", "messages.parse list[int]",
    "messages.create forced tool (fallback)", "auth: none", "auth: empty api_key arg", "env empty ANTHROPIC_BASE_URL",
    "env ANTHROPIC_CUSTOM_HEADERS", "max_tokens 21334 non-stream", "max_tokens 8193 on claude-opus-4-20250514", "NaN",
    "batches.create", "batches.results", "batches.cancel", "beta.messages.batches.create betas", "batch id with slash",
    *[call for call, *_ in ENVIRONMENTS],
]  # fmt: skip
