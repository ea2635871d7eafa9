"""One table: the same structured outputs on all three providers give the same values and errors."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from table import ALL, Provider

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
