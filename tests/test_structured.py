"""Structured outputs: every shape that people write, what is asked of the provider, and the value that comes back."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar, Union

import pytest
from pydantic import BaseModel, Field, RootModel, field_validator
from recorder import Recorder, Reply, answer
from typing_extensions import TypeAliasType, TypedDict

import llmbackend
from llmbackend import ConfigurationError, InvalidOutputError, SchemaError, StructuredOutput

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Where somebody lives."""

    street: str
    zip: Optional[str] = None  # noqa: UP045


class Person(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=20)]
    age: Annotated[int, Field(ge=0, le=150)]
    address: Address
    others: list[Address] = []
    colour: Colour = Colour.RED


class Aliased(BaseModel):
    first_name: str = Field(alias="firstName")


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Box(BaseModel, Generic[T]):
    content: T


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Dates(BaseModel):
    day: datetime.date
    time: datetime.datetime
    wait: datetime.timedelta
    price: decimal.Decimal
    id: uuid.UUID


class Numbers(RootModel[list[int]]):
    pass


class Word(RootModel[str]):
    pass


class Scores(BaseModel):
    by_name: dict[str, int]


class Anything(BaseModel):
    what: Any


class Pair(BaseModel):
    pair: tuple[int, str]


@dataclass
class Point:
    x: int
    y: int


class Movie(TypedDict):
    title: str
    year: int


# As `type Numbers = list[int]` makes them on Python 3.12.
IntList = TypeAliasType("IntList", list[int])
Persons = TypeAliasType("Persons", list[Person])
Alias = TypeAliasType("Alias", Person)
ListOf = TypeAliasType("ListOf", list[T], type_params=(T,))
Nested = TypeAliasType("Nested", "list[Nested] | int")  # type: ignore[misc]
UserId = NewType("UserId", int)
Somebody = TypeVar("Somebody", bound=Person)


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with Recorder() as recorder:
        yield recorder


def ask(recorder: Recorder, schema: Any, text: str) -> Any:
    recorder.requests.clear()
    recorder.replies = [Reply(answer(text))]
    client = llmbackend.Client("openai", "m", api_key="k", base_url=recorder.openai_url)
    return client.get_response("x", None, schema)


def asked(recorder: Recorder) -> dict[str, Any]:
    found: dict[str, Any] = recorder.requests[-1].json["text"]["format"]
    assert found["type"] == "json_schema"
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", found["name"])
    assert found["schema"]["type"] == "object"
    return found


DATES = {
    "day": "2026-11-22", "time": "2026-11-22T10:00:00Z", "wait": "PT5S", "price": "1.50",
    "id": "12345678-1234-5678-1234-567812345678",
}  # fmt: skip
PERSON = {"name": "A", "age": 3, "address": {"street": "s", "zip": None}, "others": [], "colour": "blue"}

# (type, the JSON that the value has, whether the provider can be strict about it)
MODELS: list[tuple[Any, Any, bool]] = [
    (Person, PERSON, True),
    (Aliased, {"firstName": "A"}, True),
    (Tree, {"value": 1, "children": [{"value": 2, "children": []}]}, True),
    (Box[int], {"content": 3}, True),
    (Box[Address], {"content": {"street": "s", "zip": "1"}}, True),
    (Owner, {"pet": {"kind": "dog", "tricks": ["sit"]}}, True),
    (Dates, DATES, True),
    (Numbers, [1, 2], True),
    (Word, "hello", True),
    (Scores, {"by_name": {"a": 1}}, False),
    (Anything, {"what": [1, {"a": None}]}, False),
    (Pair, {"pair": [1, "a"]}, False),
    (Point, {"x": 1, "y": 2}, True),
    (Movie, {"title": "t", "year": 1}, True),
    (list[int], [1, 2], True),
    (list[Person], [PERSON], True),
    (int, 3, True),
    (Colour, "red", True),
    (Cat | Dog, {"kind": "cat", "lives": 9}, True),
]


@pytest.mark.parametrize(("kind", "value", "strict"), MODELS, ids=[str(row[0])[-30:] for row in MODELS])
def test_a_model(recorder: Recorder, kind: Any, value: Any, strict: bool) -> None:
    from pydantic import TypeAdapter

    shape = StructuredOutput(pydantic_model=kind)
    ask_first = json.dumps(value)
    try:
        found = ask(recorder, shape, ask_first)
        wrapped = False
    except InvalidOutputError:  # the root is no object
        found = ask(recorder, shape, json.dumps({"value": value}))
        wrapped = True
    adapter = TypeAdapter(kind)
    assert found == adapter.validate_json(json.dumps(value))
    form = asked(recorder)
    assert form["strict"] is strict
    assert wrapped == (list(form["schema"].get("properties", {})) == ["value"] and not _has_field(value, "value"))


def _has_field(value: Any, name: str) -> bool:
    return isinstance(value, dict) and name in value


@pytest.mark.parametrize(
    "schema", [Person, {"type": "object", "properties": {"a": {"type": "integer"}}}], ids=["model", "dict"]
)
def test_a_schema_given_straight(recorder: Recorder, schema: Any) -> None:
    value = ask(recorder, schema, json.dumps(PERSON | {"a": 1}))
    assert isinstance(value, Person if schema is Person else dict)
    for wrong in ("Person", 3, [Person], (Person,), Person(**PERSON)):
        with pytest.raises(ConfigurationError, match="schema is a"):
            ask(recorder, wrong, "{}")
        assert recorder.requests == []


TYPES: list[tuple[Any, str, Any]] = [
    (list[Person], json.dumps({"value": [PERSON]}), [Person(**PERSON)]),
    (dict[str, int], '{"a": 1}', {"a": 1}),
    (Optional[Person], '{"value": null}', None),  # noqa: UP045
    (Union[int, str], '{"value": "a"}', "a"),  # noqa: UP007
    (Literal["a", "b"], '{"value": "b"}', "b"),
    (Annotated[int, Field(ge=3)], '{"value": 3}', 3),
    (IntList, '{"value": [1, 2]}', [1, 2]),
    (Persons, json.dumps({"value": [PERSON]}), [Person(**PERSON)]),
    (Alias, json.dumps(PERSON), Person(**PERSON)),
    (ListOf[int], '{"value": [3]}', [3]),
    (Nested, '{"value": [[1], 2]}', [[1], 2]),
    (Annotated[IntList, Field(min_length=1)], '{"value": [1]}', [1]),
    (IntList | None, '{"value": null}', None),
    (UserId, '{"value": 7}', 7),
    (Somebody, json.dumps(PERSON), Person(**PERSON)),
]


@pytest.mark.parametrize(("shape", "said", "value"), TYPES, ids=[str(row[0]) for row in TYPES])
def test_a_type_that_is_no_class_given_straight(recorder: Recorder, shape: Any, said: str, value: Any) -> None:
    assert ask(recorder, shape, said) == value
    with pytest.raises(InvalidOutputError):
        ask(recorder, shape, '{"value": [["no"]]}')


def test_an_alias_gives_its_name_and_a_special_form_that_is_no_type_is_refused(recorder: Recorder) -> None:
    ask(recorder, IntList, '{"value": []}')
    assert asked(recorder)["name"] == "IntList"
    assert asked(recorder)["schema"]["properties"]["value"] == {"items": {"type": "integer"}, "type": "array"}
    ask(recorder, StructuredOutput(pydantic_model=UserId), '{"value": 1}')
    assert asked(recorder)["name"] == "UserId"
    for wrong in (Optional, Union):
        with pytest.raises(ConfigurationError, match="Pydantic cannot make a JSON Schema"):
            ask(recorder, wrong, "{}")


MISFITS: list[tuple[Any, str, str]] = [
    (Person, json.dumps(PERSON | {"age": 200}), "age"),
    (Person, json.dumps(PERSON | {"name": ""}), "name"),
    (Person, json.dumps(PERSON | {"address": {}}), "address.street"),
    (Person, "no JSON at all", "no JSON"),
    (Person, "[]", "Person"),
    (Person, "null", "Person"),
    (Numbers, '{"value": ["a"]}', "0"),
    (Numbers, "{}", '"value"'),
    (list[int], '{"value": [1, "a"]}', "1"),
    ({"type": "object", "required": ["a"]}, "{}", "required"),
    ({"type": "object", "properties": {"a": {"items": {"type": "integer"}}}}, '{"a": [1, "x"]}', "/a/1"),
    ({"type": "object", "properties": {"a": {"minLength": 3}}}, '{"a": "é"}', "/a"),
    ({"type": "object", "properties": {"a": {"format": "date"}}}, '{"a": "soon"}', "/a"),
    ({"type": "array", "items": {"enum": [1, 2]}}, '{"value": [3]}', "/0"),
    ({"type": "object"}, '{"a": 1', "no JSON"),
    ({"type": "object"}, '{"a": 1} {"b": 2}', "no JSON"),
]


@pytest.mark.parametrize(("schema", "text", "place"), MISFITS, ids=range(len(MISFITS)))
def test_an_answer_that_does_not_fit(recorder: Recorder, schema: Any, text: str, place: str) -> None:
    shape = StructuredOutput(schema=schema) if isinstance(schema, dict) else StructuredOutput(pydantic_model=schema)
    with pytest.raises(InvalidOutputError) as caught:
        ask(recorder, shape, text)
    assert place in str(caught.value)
    assert isinstance(caught.value, ValueError)
    # What the model said, without the object that only we asked for.
    assert caught.value.text in (text, json.dumps(json.loads(text)["value"]) if "value" in text else text)
    assert json.loads(caught.value.response or "")["output"][0]["content"][0]["text"] == text


def test_every_violation_is_told_up_to_ten(recorder: Recorder) -> None:
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in "abcdefghijklmno"}}
    with pytest.raises(InvalidOutputError) as caught:
        ask(recorder, schema, json.dumps(dict.fromkeys("abcdefghijklmno", "x")))
    assert str(caught.value).count("at '/") == 10


def test_an_error_in_a_validator_is_an_answer_that_does_not_fit(recorder: Recorder) -> None:
    class Fussy(BaseModel):
        a: int

        @field_validator("a")
        @classmethod
        def even(cls, a: int) -> int:
            if a == 7:
                raise KeyError("a bug of the caller's")
            if a % 2:
                raise ValueError("must be even")
            return a

    assert ask(recorder, Fussy, '{"a": 2}').a == 2
    with pytest.raises(InvalidOutputError, match="must be even"):
        ask(recorder, Fussy, '{"a": 1}')
    with pytest.raises(InvalidOutputError, match="a bug of the caller's") as caught:
        ask(recorder, Fussy, '{"a": 7}')
    assert isinstance(caught.value.__cause__, KeyError)


NAMES = [
    ({"name": "My Name! é"}, "My_Name___"),
    ({"name": "x" * 99}, "x" * 64),
    ({"schema": {"type": "object", "title": "A Title"}}, "A_Title"),
    ({"schema": None, "pydantic_model": Box[int]}, "Box_int_"),
    ({}, "response"),
]


@pytest.mark.parametrize(("options", "name"), NAMES, ids=range(len(NAMES)))
def test_a_name_that_the_provider_takes(recorder: Recorder, options: dict[str, Any], name: str) -> None:
    shape = StructuredOutput(**{"schema": {"type": "object"}, **options})
    ask(recorder, shape, '{"content": 1}')
    assert asked(recorder)["name"] == name


def test_not_strict(recorder: Recorder) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a"]}
    assert ask(recorder, StructuredOutput(schema=schema, strict=False), '{"a": 1}') == {"a": 1}
    assert asked(recorder)["strict"] is False
    assert asked(recorder)["schema"] == schema
    with pytest.raises(InvalidOutputError):  # but checked all the same
        ask(recorder, StructuredOutput(schema=schema, strict=False), '{"b": 1}')


def test_a_parser(recorder: Recorder) -> None:
    shape = StructuredOutput(schema={"type": "object"}, parser=lambda value: sorted(value))
    assert ask(recorder, shape, '{"b": 1, "a": 2}') == ["a", "b"]
    shape = StructuredOutput(pydantic_model=Person, parser=lambda person: person.name)
    assert ask(recorder, shape, json.dumps(PERSON)) == "A"
    shape = StructuredOutput(schema={"type": "array"}, parser=len)
    assert ask(recorder, shape, '{"value": [1, 2, 3]}') == 3
    shape = StructuredOutput(schema={"type": "object"}, parser=lambda value: value["gone"])
    with pytest.raises(InvalidOutputError, match="KeyError: 'gone'") as caught:
        ask(recorder, shape, '{"a": 1}')
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.text == '{"a": 1}'
    with pytest.raises(KeyboardInterrupt):
        ask(recorder, StructuredOutput(schema={"type": "object"}, parser=_interrupt), "{}")


def _interrupt(value: Any) -> None:
    raise KeyboardInterrupt


def test_the_callers_schema_stays_as_it_is(recorder: Recorder) -> None:
    schema = Owner.model_json_schema()
    before = copy.deepcopy(schema)
    ask(recorder, StructuredOutput(schema=schema), '{"pet": {"kind": "cat", "lives": 9}}')
    assert schema == before
    assert json.dumps(schema) == json.dumps(before)
    assert asked(recorder)["schema"] != before


BAD: list[tuple[Any, str]] = [
    ({"type": "nonsense"}, "/type"),
    ({"type": "object", "properties": {"a": {"type": "strin"}}}, "/properties/a/type"),
    ({"type": "object", "properties": []}, "/properties"),
    ({"type": "object", "required": "a"}, "/required"),
    ({"$ref": "#/$defs/Nowhere"}, "Nowhere"),
    ({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}}, "leaves the schema"),
    ({"type": "object", "properties": {"a": {"$ref": "file:///etc/passwd"}}}, "leaves the schema"),
    ({"type": "object", "properties": {"a": {"pattern": "("}}}, "pattern"),
]


@pytest.mark.parametrize(("schema", "words"), BAD, ids=range(len(BAD)))
def test_a_bad_schema_is_found_before_anything_is_sent(recorder: Recorder, schema: Any, words: str) -> None:
    recorder.requests.clear()
    with pytest.raises(SchemaError) as caught:
        ask(recorder, StructuredOutput(schema=schema), "{}")
    assert words in str(caught.value)
    assert isinstance(caught.value, ConfigurationError)
    assert recorder.requests == []


def test_a_remote_reference_is_never_fetched(recorder: Recorder) -> None:
    recorder.requests.clear()
    for schema in ({"$ref": f"{recorder.root}/s.json"}, {"$schema": f"{recorder.root}/draft", "type": "object"}):
        with pytest.raises(SchemaError):
            StructuredOutput(schema=schema)
    assert recorder.requests == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "neither"),
    ({"schema": {"type": "object"}, "pydantic_model": Person}, "both"),
    ({"schema": Person}, "pydantic_model"),
    ({"schema": "x"}, "JSON Schema"),
    ({"schema": {"a": {1, 2}}}, 'schema["a"]'),
    ({"pydantic_model": Person(**PERSON)}, "pydantic_model"),
    ({"pydantic_model": object()}, "pydantic_model"),
    ({"schema": {}, "name": ""}, "name"),
    ({"schema": {}, "name": 3}, "name"),
    ({"schema": {}, "strict": "yes"}, "strict"),
    ({"schema": {}, "parser": 3}, "parser"),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_argument(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        StructuredOutput(**options)
    assert words in str(caught.value)


def test_the_text_is_the_value_as_the_model_wrote_it(recorder: Recorder) -> None:
    recorder.replies = [Reply(answer('{"value": [1,  2]}'))]
    client = llmbackend.Client("openai", "m", api_key="k", base_url=recorder.openai_url)
    reply = client.generate("x", schema=StructuredOutput(pydantic_model=list[int]))
    assert (reply.text, reply.value) == ("[1,  2]", [1, 2])
