"""Structured outputs in batches."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel, field_validator
from support import POLL, prompts, statuses

import llmbackend
from llmbackend import StructuredOutput


def done(client: Any, inputs: Any, **options: Any) -> Any:
    return client.submit_batch(inputs, **options).wait(POLL)


class Mood(BaseModel):
    text: str
    mood: Literal["good", "bad"]


class Picky(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def no_seven(cls, text: str) -> str:
        if text.endswith("7"):
            raise ValueError("sevens are not welcome")
        return text


SCHEMA = {"title": "T", "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def test_pydantic_models(client: Any) -> None:
    batch = done(client, prompts(5), schema=Mood)
    assert [(type(value), value.text) for value in batch.results()] == [(Mood, text) for text in prompts(5)]
    again = client.fetch_batch_results(batch.id, StructuredOutput(pydantic_model=Mood))
    assert again == batch.results()
    # Without the schema the texts are there all the same.
    assert json.loads(client.fetch_batch_results(batch.id)[1])["text"] == "Prompt 1"


def test_json_schemas_and_parsers(client: Any) -> None:
    assert done(client, prompts(2), schema=SCHEMA).results() == [{"text": "Prompt 0"}, {"text": "Prompt 1"}]
    shape = StructuredOutput(schema=SCHEMA, parser=lambda value: value["text"].upper())
    assert done(client, prompts(2), schema=shape).results() == ["PROMPT 0", "PROMPT 1"]


def test_a_list_at_the_root(client: Any) -> None:
    for schema in (StructuredOutput(pydantic_model=list[str]), {"type": "array", "items": {"type": "string"}}):
        batch = done(client, prompts(3), schema=schema)
        for prompt, value in zip(prompts(3), batch.results(), strict=True):
            assert isinstance(value, list)
            assert all(prompt in one for one in value)
        assert client.fetch_batch_results(batch.id, schema) == batch.results()


def test_items_that_do_not_fit(client: Any) -> None:
    batch = done(client, prompts(9), schema=Picky)
    assert statuses(batch) == ["succeeded"] * 7 + ["invalid", "succeeded"]
    item = list(batch.items())[7]
    assert item.value is None
    assert item.text == '{"text":"Prompt 7"}'
    assert isinstance(item.error, llmbackend.InvalidOutputError)
    assert item.error.text == item.text
    assert "at 'text'" in str(item.error)
    assert "sevens are not welcome" in str(item.error)
    with pytest.raises(llmbackend.BatchItemsError, match="1 of 9 items") as caught:
        batch.results()
    error = caught.value
    assert error.batch_id == batch.id
    assert list(error.errors) == [7]
    assert [value and value.text for value in error.results] == [*prompts(7), None, "Prompt 8"]
    mixed = batch.results(return_exceptions=True)
    assert isinstance(mixed[7], llmbackend.InvalidOutputError)
    assert mixed[8].text == "Prompt 8"


def test_a_parser_that_fails(client: Any) -> None:
    def parse(value: dict[str, str]) -> int:
        return {"Prompt 0": 1}[value["text"]]

    batch = done(client, prompts(2), schema=StructuredOutput(schema=SCHEMA, parser=parse))
    first, second = batch.results(return_exceptions=True)
    assert first == 1
    assert isinstance(second, llmbackend.InvalidOutputError)
    assert isinstance(second.__cause__, KeyError)
    assert statuses(batch) == ["succeeded", "invalid"]


@pytest.mark.parametrize("fault", ["invalid_json", "unfit_json"])
def test_answers_that_do_not_fit_a_json_schema(box: Any, client: Any, fault: str) -> None:
    box.fault(f"{fault}@POST /v1/batches")
    batch = done(client, prompts(2), schema=SCHEMA)
    assert statuses(batch) == ["invalid", "invalid"]
    for item in batch.items():
        assert isinstance(item.error, llmbackend.InvalidOutputError)
        assert item.error.text
        assert item.value is None
