"""What a user writes, for `test_typing.py`: two type checkers must agree with every line, and find every wrong one.

A line with `# type: ignore` is wrong: a checker that takes it says that the comment is not needed, an error as well.
"""
# ruff: noqa: B018, UP007, UP045

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar, Union

from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType, TypedDict, assert_type

import llmbackend
from llmbackend import Batch, BatchItem, Client, CompletedBatch, GenerationConfig, Response, StructuredOutput, Usage


class Model(BaseModel):
    title: str


class Sub(Model):
    year: int


class Row(TypedDict):
    a: int


T = TypeVar("T")
Numbers = TypeAliasType("Numbers", list[int])
UserId = NewType("UserId", int)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


def title(model: Model) -> str:
    return model.title


def first(data: Any) -> tuple[float, float]:
    return data["lat"], data["lon"]


def shapes() -> None:
    assert_type(StructuredOutput(pydantic_model=Model), StructuredOutput[Model])
    assert_type(StructuredOutput(pydantic_model=Model, name="m", strict=False), StructuredOutput[Model])
    assert_type(StructuredOutput(None, Model), StructuredOutput[Model])
    assert_type(StructuredOutput(pydantic_model=list[Model]), StructuredOutput[list[Model]])
    assert_type(StructuredOutput(pydantic_model=Row), StructuredOutput[Row])
    assert_type(StructuredOutput(pydantic_model=Model | None), StructuredOutput[Optional[Model]])
    assert_type(StructuredOutput(schema=SCHEMA), StructuredOutput[Any])
    assert_type(StructuredOutput({"type": "object"}, name="m"), StructuredOutput[Any])
    assert_type(StructuredOutput(pydantic_model=Model, parser=title), StructuredOutput[str])
    assert_type(StructuredOutput(pydantic_model=list[Model], parser=lambda them: len(them)), StructuredOutput[int])
    assert_type(StructuredOutput(schema=SCHEMA, parser=first), StructuredOutput[tuple[float, float]])
    assert_type(StructuredOutput(pydantic_model=Model).read("{}"), Model)
    assert_type(StructuredOutput(pydantic_model=Model).report("openai"), list[dict[str, str]])
    StructuredOutput(schema=3)  # type: ignore
    StructuredOutput(schema=Model)  # type: ignore
    StructuredOutput(schema=SCHEMA, pydantic_model=Model)  # type: ignore
    StructuredOutput(pydantic_model=list[int], parser=title)  # type: ignore
    widen(StructuredOutput(pydantic_model=Sub))


def widen(wider: StructuredOutput[Model]) -> None:
    narrower: StructuredOutput[Sub] = wider  # type: ignore
    print(narrower)


def bare(shape: StructuredOutput, response: Response, batch: Batch, item: BatchItem) -> None:
    """Without a parameter they are of Any, in the strict modes too."""
    assert_type(shape, StructuredOutput[Any])
    assert_type(response.value, Any)
    assert_type(batch.results(), list[Any])
    assert_type(item.value, Any | None)


def answers(client: Client, maybe: type[Model] | None, row: StructuredOutput[Row]) -> None:
    assert_type(client.get_response("a"), str)
    assert_type(client.get_response("a", {"max_tokens": 9}), str)
    assert_type(client.get_response([{"role": "user", "content": "a"}], GenerationConfig(seed=1), None), str)
    assert_type(client.get_response("a", schema=Model), Model)
    assert_type(client.get_response("a", {"seed": 1}, Model), Model)
    assert_type(client.get_response("a", None, StructuredOutput(pydantic_model=Model)), Model)
    assert_type(client.get_response("a", schema=StructuredOutput(pydantic_model=Model, parser=title)), str)
    assert_type(client.get_response("a", schema=row), Row)
    assert_type(client.get_response("a", schema=list[Model]), list[Model])
    assert_type(client.get_response("a", schema=int), int)
    assert_type(client.get_response("a", schema=Model | Sub), Union[Model, Sub])
    assert_type(client.get_response("a", schema=Optional[Model]), Optional[Model])
    assert_type(client.get_response("a", schema=Annotated[int, Field(ge=3)]), int)
    assert_type(client.get_response("a", schema=Literal["x", "y"]), Literal["x", "y"])
    assert_type(client.get_response("a", schema=Numbers), list[int])
    assert_type(client.get_response("a", schema=UserId), UserId)
    assert_type(client.get_response("a", schema=SCHEMA), Any)
    assert_type(client.get_response("a", schema={"type": "string"}), Any)
    assert_type(client.get_response("a", schema=maybe), Union[Model, str])
    assert_type(llmbackend.get_response("openai", "m", "a"), str)
    assert_type(llmbackend.get_response("openai", "m", "a", api_key="k", timeout=3), str)
    assert_type(llmbackend.get_response("openai", "m", "a", schema=Model, api_key="k"), Model)
    assert_type(llmbackend.get_response(provider="openai", model="m", input="a", schema=row), Row)
    assert_type(llmbackend.get_response("openai", "m", "a", None, Model), Model)
    assert_type(llmbackend.get_response("openai", "m", "a", None, SCHEMA), Any)
    client.get_response("a").year  # type: ignore
    client.get_response("a", schema=Model).year  # type: ignore
    client.get_response("a", schema=3)  # type: ignore
    client.get_response("a", schema=Model(title="x"))  # type: ignore
    client.get_response(3)  # type: ignore
    client.get_response("a", 3)  # type: ignore
    text: int = client.get_response("a")  # type: ignore
    model: Sub = client.get_response("a", schema=Model)  # type: ignore
    print(text, model)


def ask(client: Client, shape: type[T]) -> T:
    return client.get_response("a", schema=shape)


def ask_as(client: Client, shape: StructuredOutput[T]) -> Batch[T]:
    return client.submit_batch(["a"], schema=shape)


def responses(client: Client) -> None:
    assert_type(client.generate("a"), Response[str])
    assert_type(client.generate("a").value, str)
    assert_type(client.generate("a", schema=Model), Response[Model])
    assert_type(client.generate("a", None, list[Model]).value, list[Model])
    assert_type(client.generate("a", schema=SCHEMA).value, Any)
    response = client.generate("a", schema=Model | None)
    assert_type(response.value, Optional[Model])
    assert_type(response.text, str)
    assert_type(response.usage, Optional[Usage])
    assert_type(response.finish_reason, str)
    assert_type(response.model, Optional[str])
    assert_type(response.raw, Any)
    response.value.title  # type: ignore
    print(ask(client, Sub).year, ask_as(client, StructuredOutput(pydantic_model=Sub)).results()[0].year)


def batches(client: Client, inputs: Iterator[str], options: Mapping[str, Any]) -> None:
    assert_type(client.submit_batch(inputs), Batch[str])
    assert_type(client.submit_batch(["a"], batch_options={"native": True}), Batch[str])
    assert_type(client.submit_batch(["a"]).results(), list[str])
    batch = client.submit_batch(["a"], schema=Model, batch_options=options)
    assert_type(batch, Batch[Model])
    assert_type(batch.wait(), Batch[Model])
    assert_type(batch.wait(timeout=3.0, callback=print, progress=True).results(), list[Model])
    assert_type(batch.results(return_exceptions=False), list[Model])
    assert_type(batch.results(return_exceptions=True), list[Union[Model, Exception]])
    assert_type(batch.items(), Iterator[BatchItem[Model]])
    for item in batch.items():
        assert_type(item.value, Optional[Model])
        assert_type(item.error, Optional[Exception])
        assert_type(item.index, int)
        assert_type(item.usage, Optional[Usage])
        item.value.title  # type: ignore
    assert_type(client.submit_batch(["a"], None, SCHEMA).results(), list[Any])
    assert_type(client.submit_batch(["a"], None, Model | None), Batch[Optional[Model]])
    assert_type(client.submit_batch(["a"], schema=StructuredOutput(pydantic_model=Model, parser=title)), Batch[str])
    assert_type(llmbackend.create_batch(["a"], "openai", "m"), Batch[str])
    assert_type(llmbackend.create_batch(["a"], "openai", "m", schema=Model, api_key="k"), Batch[Model])
    assert_type(llmbackend.create_batch(["a"], "openai", "m", None, list[int]), Batch[list[int]])
    assert_type(llmbackend.create_batch(["a"], "openai", "m", schema=SCHEMA), Batch[Any])
    wider: Batch[Model] = client.submit_batch(["a"], schema=Sub)
    client.submit_batch(3)  # type: ignore
    client.submit_batch(["a"], schema=Model(title="x"))  # type: ignore
    texts: list[str] = batch.results()  # type: ignore
    print(texts, wider)
    if isinstance(batch, CompletedBatch):
        print(batch.results())


def by_id(client: Client, flag: bool) -> None:
    assert_type(client.get_batch("b"), Batch[str])
    assert_type(client.get_batch("b", Model), Batch[Model])
    assert_type(client.get_batch("b", schema=SCHEMA), Batch[Any])
    assert_type(client.get_batch_status("b"), dict[str, str])
    assert_type(client.fetch_batch_results("b"), list[str])
    assert_type(client.fetch_batch_results("b", Model), list[Model])
    assert_type(client.fetch_batch_results("b", schema=Model | None), list[Optional[Model]])
    assert_type(client.fetch_batch_results("b", return_exceptions=True), list[Union[str, Exception]])
    assert_type(client.fetch_batch_results("b", Model, return_exceptions=flag), list[Union[Model, Exception]])
    assert_type(llmbackend.get_batch("b", "openai", "m"), Batch[str])
    assert_type(llmbackend.get_batch("b", "openai", "m", Model, api_key="k"), Batch[Model])
    assert_type(llmbackend.get_batch("b", "openai", "m", schema=SCHEMA), Batch[Any])
    assert_type(llmbackend.get_batch_status("b", "openai", "m"), dict[str, str])
    assert_type(llmbackend.fetch_batch_results("b", "openai", "m"), list[str])
    assert_type(llmbackend.fetch_batch_results("b", "openai", "m", schema=Model), list[Model])
    assert_type(
        llmbackend.fetch_batch_results("b", "openai", "m", Model, return_exceptions=True),
        list[Union[Model, Exception]],
    )
    assert_type(llmbackend.fetch_batch_results("b", "openai", "m", SCHEMA, return_exceptions=True), list[Any])
    client.get_batch(3)  # type: ignore
    client.fetch_batch_results("b", 3)  # type: ignore
    client.fetch_batch_results("b", Model)[0].year  # type: ignore


def the_rest() -> None:
    """Nothing public is unknown to a checker in its strict mode."""
    with (
        llmbackend.sandbox(faults=["rate_limit:1"], seed=3) as box,
        Client("openai", "m", **box.options("openai")) as it,
    ):
        assert_type(it, Client)
        assert_type(it.provider, str)
        assert_type(box.requests(), list[tuple[str, str, int]])
    assert_type(llmbackend.client("openai", "m", api_key="k"), Client)
    assert_type(llmbackend.__version__, str)
    assert_type(Usage(1, 2) + Usage(), Usage)
    try:
        it.close()
    except llmbackend.BatchItemsError as error:
        assert_type(error.results, list[Any])
        assert_type(error.errors, dict[int, Exception])
    except llmbackend.RateLimitError as error:
        assert_type(error.retry_after, Optional[float])
        assert_type(error.status, Optional[int])
    except llmbackend.OutputError as error:
        assert_type(error.text, Optional[str])
        assert_type(error.usage, Optional[Usage])
    except llmbackend.SchemaError as error:
        assert_type(error.path, str)
