"""One table: the same structured outputs on all three providers give the same values and errors."""

from __future__ import annotations

import enum
import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model
from recorder import Recorder, Reply, answer
from support import Proxy
from table import ALL, ANTHROPIC, GEMINI, OPENAI, Provider

import llmbackend
from llmbackend import StructuredOutput


@pytest.fixture(params=ALL, ids=lambda it: it.name)
def provider(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(provider: Provider, box: Any) -> llmbackend.Client:
    return provider.client(box)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str
    color: Color
    count: int | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Whole(BaseModel):
    """Of everything something."""

    title: str
    parts: list[Part]
    best: Part | None
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    score: float = Field(ge=0, le=1)
    tags: list[str] = []


JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "sentiment": {"type": "string", "enum": ["positive", "negative", "neutral"]},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "keywords": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["sentiment", "confidence"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [Whole, StructuredOutput(pydantic_model=Whole)], ids=["class", "StructuredOutput"])
def test_a_pydantic_model(client: Any, schema: Any) -> None:
    for prompt in ("One", "Two", 'Three\nlines "quoted" \u2028 日本'):
        response = client.generate(prompt, schema=schema)
        assert type(response.value) is Whole
        assert response.value.title == prompt
        assert all(type(part) is Part for part in response.value.parts)
        assert type(response.value.pet) in (Cat, Dog)
        assert Whole.model_validate_json(response.text) == response.value
        assert response.finish_reason == "stop"


@pytest.mark.parametrize(
    "schema", [JSON_SCHEMA, StructuredOutput(schema=JSON_SCHEMA, name="SentimentAnalysis")], ids=["dict", "named"]
)
def test_a_json_schema(client: Any, schema: Any) -> None:
    value = client.get_response("Well done!", schema=schema)
    assert type(value) is dict
    assert set(value) <= {"sentiment", "confidence", "keywords"}
    assert value["sentiment"] in ("positive", "negative", "neutral")
    assert 0 <= value["confidence"] <= 1


@pytest.mark.parametrize(
    ("model", "kind"),
    [(list[Part], list), (list[int], list), (int, int), (str, str), (Color, Color), (Cat | Dog, (Cat, Dog))],
    ids=repr,
)
def test_other_roots(client: Any, model: Any, kind: Any) -> None:
    assert isinstance(client.get_response("a", schema=StructuredOutput(pydantic_model=model)), kind)


def test_a_json_schema_with_a_list_at_its_root(client: Any) -> None:
    value = client.get_response("a", schema={"type": "array", "items": {"type": "integer"}})
    assert isinstance(value, list)
    assert all(type(one) is int for one in value)


def test_a_parser(client: Any) -> None:
    schema = StructuredOutput(pydantic_model=Cat, parser=lambda cat: ("parsed", type(cat)))
    assert client.get_response("a", schema=schema) == ("parsed", Cat)

    def refuse(value: Any) -> None:
        raise KeyError("latitude")

    with pytest.raises(llmbackend.InvalidOutputError, match="parser.*KeyError") as caught:
        client.get_response("a", schema=StructuredOutput(schema=JSON_SCHEMA, parser=refuse))
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.text
    assert caught.value.response


@pytest.mark.parametrize("schema", [Cat, JSON_SCHEMA], ids=["pydantic", "dict"])
@pytest.mark.parametrize("fault", ["invalid_json", "unfit_json"])
def test_answers_that_do_not_fit(provider: Provider, client: Any, box: Any, fault: str, schema: Any) -> None:
    box.fault(f"{fault}@{provider.call}")
    with pytest.raises(llmbackend.InvalidOutputError) as caught:
        client.get_response("Hello there", schema=schema)
    error = caught.value
    assert isinstance(error, ValueError)
    assert error.text is not None
    assert "Hello there" in error.text
    assert error.response is not None
    assert "Hello there" in error.response
    assert len(provider.calls(box)) == 1


def test_a_cut_answer(provider: Provider, client: Any, box: Any) -> None:
    box.fault(f"truncated:1@{provider.call}")
    with pytest.raises(llmbackend.TruncatedError, match="max_tokens") as caught:
        client.get_response("Hello there", schema=Cat)
    assert caught.value.text
    with pytest.raises(llmbackend.TruncatedError):
        client.get_response("Hello there " * 100, {"max_tokens": 16}, Whole)


def test_a_refusal(provider: Provider, client: Any, box: Any) -> None:
    box.fault(f"refusal@{provider.call}")
    with pytest.raises((llmbackend.RefusalError, llmbackend.ContentFilterError)):
        client.get_response("Hello there", schema=Cat)


@pytest.mark.parametrize(
    "schema", [{"type": "nonsense"}, {"$ref": "https://example.com/x"}, {"$ref": "#/$defs/none"}], ids=repr
)
def test_a_schema_that_is_wrong(client: Any, box: Any, schema: Any) -> None:
    with pytest.raises(llmbackend.SchemaError):
        client.get_response("a", schema=schema)
    assert box.requests() == []


def test_the_report(provider: Provider) -> None:
    report = StructuredOutput(pydantic_model=Whole).report(provider.name)
    for entry in report:
        assert set(entry) == {"path", "keyword", "reason"}
        assert all(isinstance(value, str) for value in entry.values())
    told = {(entry["path"], entry["keyword"]) for entry in report}
    bounds = {("/properties/score", "minimum"), ("/properties/score", "maximum")}
    assert (bounds <= told) is (provider.name == "anthropic"), told
    assert StructuredOutput(pydantic_model=Dog).report(provider.name) == []
    with pytest.raises(llmbackend.ConfigurationError, match="provider"):
        StructuredOutput(pydantic_model=Dog).report("openay")


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"in": schema}, "required": ["in"], "additionalProperties": False}
    return schema


def fields(count: int, *of: Any) -> Any:
    return create_model("Many", **{f"f{i}": of for i in range(count)})


def words(count: int, length: int) -> Any:
    return Literal[tuple(f"{i:0{length}}" for i in range(count))]


TOO_LARGE: list[tuple[Provider, Any, Any, str, str]] = [
    # (provider, at the limit, beyond it, where, words)
    (ANTHROPIC, fields(24, str, ""), fields(25, str, ""), "/properties/f24", "24 optional properties"),
    (ANTHROPIC, fields(16, int | None, ...), fields(17, int | None, ...), "/properties/f16", "16 properties of"),
    (ANTHROPIC, list[fields(24, str, "")], list[fields(25, str, "")], "/$defs/Many/properties/f24", "24 optional"),
    (OPENAI, nested(10), nested(11), "/properties/in" * 10, "10 levels"),
    (OPENAI, fields(5_000, str, ...), fields(5_001, str, ...), "/properties/f5000", "5000 properties"),
    (OPENAI, {"enum": list(range(1_000))}, {"enum": list(range(1_001))}, "/enum", "1000 enum values"),
    (OPENAI, {"const": "x" * 119_995}, {"const": "x" * 119_996}, "/const", "120000 characters"),
    (OPENAI, words(300, 50), words(300, 51), "/enum", "15000 characters"),
    *[(it, {"enum": ["x"]}, {"anyOf": [{"type": "null"}, {"enum": []}]}, "/anyOf/1/enum", "one value") for it in ALL],
]  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "at", "beyond", "path", "words"), TOO_LARGE, ids=[f"{row[0].name} {row[4]}" for row in TOO_LARGE]
)
def test_a_schema_beyond_the_providers_limits_is_refused_before_anything_is_sent(
    provider: Provider, client: Any, box: Any, at: Any, beyond: Any, path: str, words: str
) -> None:
    ways: list[Any] = [
        lambda: client.get_response("a", schema=beyond),
        lambda: client.submit_batch(["a", "b"], schema=beyond),
        lambda: client.submit_batch(["a", "b"], schema=beyond, batch_options={"native": True}),
        lambda: client.submit_batch(["a", "b"], schema=beyond, batch_options={"native": False}),
        lambda: report(beyond, provider),
    ]
    for way in ways:
        with pytest.raises(llmbackend.SchemaError, match=words) as caught:
            way()
        assert caught.value.path == path
    assert box.requests() == []
    report(at, provider)
    client.get_response("a", {"max_tokens": 100_000}, at)


def report(schema: Any, provider: Provider) -> Any:
    named = {"schema": schema} if isinstance(schema, dict) else {"pydantic_model": schema}
    return StructuredOutput(**named).report(provider.name)


def test_other_servers_have_none_of_these_limits_and_neither_has_what_is_not_strict(box: Any) -> None:
    with Recorder(Reply(answer("{}"))) as recorder:
        client = llmbackend.client("openai", "m", api_key="k", base_url=recorder.url)
        with pytest.raises(llmbackend.InvalidOutputError):
            client.get_response("a", schema=nested(11))
        assert recorder.requests[0].json["text"]["format"]["strict"] is True
    said = {
        "role": "assistant",
        "type": "message",
        "content": [{"type": "text", "text": "{}"}],
        "stop_reason": "end_turn",
    }
    with Recorder(Reply({"error": {"message": "output_config: unknown field"}}, 400), Reply(said)) as recorder:
        client = llmbackend.client("anthropic", "m", api_key="k", base_url=recorder.root)
        model = fields(25, str, "")
        assert client.get_response("a", schema=model) == model()
        # The form for older servers has no limit either.
        assert len(recorder.requests[1].json["tools"][0]["input_schema"]["properties"]) == 25
    loose = StructuredOutput(schema=nested(11), strict=False)
    assert OPENAI.client(box).get_response("a", schema=loose)
    assert [entry["keyword"] for entry in loose.report("openai")] == ["strict"]


class Money(BaseModel):
    """An amount of money, in cents."""

    cents: int


class Invoice(BaseModel):
    net: Money = Field(description="WITHOUT tax")
    gross: Money = Field(description="WITH tax")


class Person(BaseModel):
    """Somebody in a family."""

    name: str
    mother: Person | None = Field(None, description="who bore her")
    heir: Person | None = Field(None, description="who comes next")


class Paint(BaseModel):
    wall: Color = Field(description="what people see")
    frame: Color = Field(Color.BLUE, description="what holds the window")
    pets: list[Annotated[Money, Field(description="what one costs")]]
    pet: Annotated[Cat | Dog, Field(discriminator="kind", description="who lives there")]


@pytest.mark.parametrize(
    ("provider", "model", "said"),
    [
        *[(it, Invoice, ["WITHOUT tax", "WITH tax", "An amount of money, in cents."]) for it in ALL],
        *[(it, Person, ["Somebody in a family.", "who bore her", "who comes next"]) for it in (OPENAI, GEMINI)],
        *[(it, Paint, ["what people see", "what holds the window", "what one costs", "who lives there"]) for it in ALL],
    ],
    ids=str,
)
def test_descriptions_beside_references_reach_the_model(
    provider: Provider, client: Any, box: Any, model: Any, said: list[str]
) -> None:
    with Proxy(box) as proxy:
        provider.through(proxy, box).get_response("a", schema=model)
    (call,) = (exchange for exchange in proxy.seen if exchange.path.endswith(provider.call))
    sent = json.loads(call.body)
    told = set(descriptions(sent))
    assert {text for text in said if not any(text in one for one in told)} == set()
    assert StructuredOutput(pydantic_model=model).report(provider.name) == []


def descriptions(value: Any) -> Any:
    if isinstance(value, dict):
        yield from (text for key, text in value.items() if key == "description" and isinstance(text, str))
        value = list(value.values())
    for inner in value if isinstance(value, list) else []:
        yield from descriptions(inner)
