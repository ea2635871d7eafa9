"""Values whose own code runs while they are read: nothing of it ends in a panic, and nothing is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import llmbackend


class Index:
    """An int whose `__index__` does something else besides."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def __index__(self) -> int:
        self.act()
        return 1


def growing() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value.update(a=Index(lambda: value.update({f"k{len(value)}": 1})), b=2)
    return value


def shrinking() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value.update(a=Index(lambda: value.pop("b", None)), b=2)
    return value


def cleared() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value.update(a=Index(value.clear), b=2)
    return value


def growing_list() -> list[Any]:
    value: list[Any] = []
    value += [Index(lambda: value.append(value[0])), 2]
    return value


def emptied_list() -> list[Any]:
    value: list[Any] = []
    value += [Index(value.clear), 2]
    return value


HOSTILE = [growing, shrinking, cleared, growing_list, emptied_list]
DICTS = [growing, shrinking, cleared]


@pytest.fixture
def refused(box: llmbackend.Sandbox) -> Iterator[Callable[..., str]]:
    def call(make: Callable[[], object]) -> str:
        with pytest.raises(llmbackend.ConfigurationError) as caught:
            make()
        return str(caught.value)

    yield call
    assert box.requests() == []


@pytest.mark.parametrize("make", HOSTILE)
def test_what_changes_its_size_while_it_is_read_is_refused(client: Any, refused: Any, make: Any) -> None:
    said = "changed its size while it was read"
    turn = {"role": "user", "content": "a"}
    calls: list[Callable[[], object]] = [
        lambda: client.get_response("a", {"extra": {"x": make()}}),
        lambda: client.submit_batch(["a"], {"extra": {"x": [{"y": make()}]}}),
        lambda: client.get_response([{**turn, "x": make()}]),
        lambda: client.submit_batch(["a", [{**turn, "x": make()}]]),
        lambda: client.get_response("a", {"extra": {"conversation": [{**turn, "x": make()}]}}),
        lambda: llmbackend.StructuredOutput(schema={"type": "object", "x": make()}),
        lambda: llmbackend.client("openai", "m", api_key="k", headers={"a": make()}),
    ]
    for call in calls:
        assert said in refused(call)


@pytest.mark.parametrize("make", DICTS)
def test_the_outermost_dict_too(box: Any, client: Any, refused: Any, make: Any) -> None:
    said = "changed its size while it was read"
    assert said in refused(lambda: llmbackend.StructuredOutput(schema=make()))
    assert said in refused(lambda: llmbackend.client("openai", "m", **box.options("openai"), headers=make()))


def test_a_dict_that_another_thread_changes_ends_in_an_error_or_an_answer(box: Any) -> None:
    client = llmbackend.client("openai", "m", **box.options("openai"))
    shared: dict[str, Any] = {f"k{n}": {"a": 1} for n in range(200)}
    ended = threading.Event()

    def change() -> None:
        count = 0
        while not ended.is_set():
            count += 1
            shared[f"n{count % 50}"] = 1
            shared.pop(f"n{(count + 25) % 50}", None)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            try:
                client.submit_batch([], {"extra": {"metadata": shared}})
            except llmbackend.ConfigurationError as error:
                assert "changed its size" in str(error)  # noqa: PT017
    finally:
        ended.set()
        thread.join()


class Raises:
    """Every question raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class Lies:
    """Of the wrong kind, whatever is asked."""

    __arrow_c_schema__ = __arrow_c_array__ = __arrow_c_stream__ = 7
    shape = keys = readline = to_pylist = 7

    def __iter__(self) -> Any:
        return 7

    def __len__(self) -> int:
        return -1


class Endless:
    def __index__(self) -> Any:
        return "no int"

    def __float__(self) -> Any:
        return "no float"

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


NAMES = ["raises", "lies", "endless", "type", "class", "ellipsis", "not implemented", "object"]


@pytest.mark.parametrize("value", [Raises(), Lies(), Endless(), type, Raises, ..., NotImplemented, object()], ids=NAMES)
def test_no_value_ends_in_a_panic(box: Any, client: Any, value: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.get_response(value),
        lambda: client.get_response([value]),
        lambda: client.get_response([{"role": "user", "content": value}]),
        lambda: client.get_response("a", value),
        lambda: client.get_response("a", {"extra": {"x": value}}),
        lambda: client.get_response("a", {"extra": {"x": {"y": [value]}}}),
        lambda: client.get_response("a", {"temperature": value}),
        lambda: client.get_response("a", {"max_tokens": value}),
        lambda: client.get_response("a", {"seed": value}),
        lambda: client.submit_batch(value),
        lambda: client.submit_batch([value]),
        lambda: client.submit_batch(["a"], batch_options=value),
        lambda: client.submit_batch(["a"], batch_options={"custom_ids": value}),
        lambda: client.submit_batch(["a"], batch_options={"custom_ids": [value]}),
        lambda: client.submit_batch(["a"], batch_options={"concurrency": value}),
        lambda: client.submit_batch(["a"], batch_options={"display_name": value}),
        lambda: client.get_batch(value),
        lambda: client.get_batch("batch_a").wait(value),
        lambda: llmbackend.client(value, "m"),
        lambda: llmbackend.client("openai", value),
        lambda: llmbackend.client("openai", "m", api_key="k", headers=value),
        lambda: llmbackend.client("openai", "m", api_key="k", headers={"a": value}),
        lambda: llmbackend.client("openai", "m", api_key="k", timeout=value),
        lambda: llmbackend.client("openai", "m", api_key=value),
        lambda: llmbackend.StructuredOutput(schema={"a": value}),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(BaseException) as caught:
            call()
        # A panic is a BaseException of its own.
        assert isinstance(caught.value, Exception), number
    assert box.requests() == []
